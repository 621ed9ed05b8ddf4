"""`python -m jax_me explain` and `Predictor.explain`: input files to result files."""

import json
import pathlib

import numpy as np
import pytest
import skimage

import jax_me
from jax_me.__main__ import main
from jax_me.faces.image_files import encode_image, read_image
from jax_me.inference.explain.explainer import Explainer
from tests.helpers.inference_models import TINY_MAE, save

pytestmark = pytest.mark.usefixtures("quick_compilation")

PORTRAIT = pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  return save(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("images")
  portrait = read_image(PORTRAIT)[:300, 60:400]
  (folder / "two.png").write_bytes(encode_image(np.concatenate([portrait, portrait], 1)))
  (folder / "empty.png").write_bytes(encode_image(np.full_like(portrait, 99)))
  (folder / "broken.png").write_bytes(b"\x89PNG broken")
  return folder


def explain(model, output, *inputs):
  return main(["explain", *map(str, inputs), "--checkpoint", str(model), "--output", str(output)])


def entries(output):
  return json.loads((output / "explain.json").read_text())["images"]


@pytest.mark.slow
def test_photographs_and_folders(model, image_folder, tmp_path, capsys):
  output = tmp_path / "out"
  assert explain(model, output, PORTRAIT, image_folder) == 0
  assert "3 ok, 1 unreadable, 1 no_face" in capsys.readouterr().out
  found = entries(output)
  assert [row["status"] for row in found] == ["ok", "unreadable", "no_face", "ok", "ok"]
  assert [row.get("name") for row in found] == ["astronaut", None, None, "two", "two_face2"]
  assert found[1]["file"] == "broken.png" and found[1]["reason"]
  first = found[0]
  assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-5)
  assert first["label"] == first["predicted"] in first["probabilities"]
  assert 150 < first["box"][0] < first["box"][2] < 330
  assert list(first["methods"]) == ["rollout", "gradcam"]
  regions = first["methods"]["rollout"]["regions"]
  assert set(regions) == {"eyes", "mouth", "nose", "brows", "rest"}
  assert sum(one["share"] for one in regions.values()) == pytest.approx(1, abs=1e-3)
  assert all(0 <= x <= 1 for x in first["methods"]["rollout"]["centre"])
  with np.load(output / "maps.npz", allow_pickle=False) as maps:
    assert len(maps.files) == 6
    assert maps["two_face2/gradcam"].shape == (2, 2) and maps["two/rollout"].dtype == np.float32
  for row in found:
    assert row["status"] != "ok" or read_image(output / row["picture"]).shape[1] > 1000
  assert read_image(output / "contact_sheet.png").ndim == 3
  assert not list(output.glob(".*"))


def test_one_method_of_one_class(model, tmp_path):
  output = tmp_path / "out"
  options = ("--method", "gradcam", "--label", "calm", "--no-align")
  assert explain(model, output, PORTRAIT, *options) == 0
  (row,) = entries(output)
  assert row["label"] == "calm" and list(row["methods"]) == ["gradcam"] and row["box"] is None
  assert row["methods"]["gradcam"]["regions"] is None


@pytest.mark.slow
def test_reconstructions(tmp_path):
  model = save(tmp_path / "mae", "mae_vit_tiny_patch16", TINY_MAE)
  output = tmp_path / "out"
  for _ in range(2):  # the second call replaces the files of the first
    assert explain(model, output, PORTRAIT, "--mask-ratio", "0.5", "--seed", "4") == 0
  (row,) = entries(output)
  assert 0 < row["methods"]["reconstruction"]["error"] < 1
  with np.load(output / "maps.npz") as maps:
    masked, reconstructed = maps["astronaut/masked"], maps["astronaut/reconstructed"]

  def patches(image):
    return image.astype(int).reshape(4, 8, 4, 8, 3).transpose(0, 2, 1, 3, 4).reshape(16, -1)

  removed = (patches(masked) == 128).all(1)
  assert removed.sum() == 8 and masked.shape == reconstructed.shape == (32, 32, 3)
  assert np.abs(patches(reconstructed) - patches(masked))[~removed].max() <= 1


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
  return save(tmp_path_factory.mktemp("model") / "flow", input="flow")


@pytest.mark.slow
def test_clips_of_a_motion_model(flow, tmp_path):
  clip = tmp_path / "clip"
  clip.mkdir()
  portrait = read_image(PORTRAIT)[:300, 60:400]
  for number in range(5):
    (clip / f"f{number}.png").write_bytes(encode_image(np.roll(portrait, number, 0)))
  (clip / "f2.png").write_bytes(b"broken")
  assert explain(flow, tmp_path / "middle", clip) == 0
  (row,) = entries(tmp_path / "middle")
  assert row["status"] == "unreadable" and "f2.png" in row["reason"]
  assert explain(flow, tmp_path / "out", clip, "--apex", "3") == 0
  (row,) = entries(tmp_path / "out")
  assert row["status"] == "ok" and row["name"] == "clip"
  assert (row["onset"], row["apex"], row["offset"]) == ("f0.png", "f3.png", "f4.png")
  assert row["methods"]["gradcam"]["regions"]["rest"]["area"] < 0.9
  # Frames need not be numbered.
  letters = tmp_path / "letters"
  letters.mkdir()
  for number, name in enumerate("abc"):
    (letters / f"{name}.png").write_bytes((clip / f"f{(0, 1, 3)[number]}.png").read_bytes())
  assert explain(flow, tmp_path / "named", letters) == 0
  assert [row["apex"] for row in entries(tmp_path / "named")] == ["b.png"]
  # A motion image, as in training.
  assert explain(flow, tmp_path / "made", clip / "f0.png", "--no-align") == 0
  assert entries(tmp_path / "made")[0]["status"] == "ok"


@pytest.mark.slow
def test_invalid_arguments_fail_before_anything_is_written(model, flow, tmp_path, capsys):
  (tmp_path / "film.mp4").write_bytes(b"")
  mae = save(tmp_path / "mae", "mae_vit_tiny_patch16", TINY_MAE)
  cases = [
    ((model, tmp_path / "missing.png"), "missing.png does not exist"),
    ((tmp_path / "nothing", PORTRAIT), "model.json is missing"),
    ((flow, PORTRAIT), "astronaut.png is a single image"),
    ((model, PORTRAIT, "--label", "sad"), "no label 'sad'; its labels: calm, happy, or so"),
    (
      (model, PORTRAIT, "--method", "reconstruction"),
      "does not support reconstruction; use rollout",
    ),
    ((model, PORTRAIT, "--method", "magic"), "must be one of rollout, gradcam, reconstruction"),
    ((model, PORTRAIT, "--mask-ratio", "0.5"), "not a masked autoencoder"),
    ((mae, PORTRAIT, "--mask-ratio", "0.99"), "must remove some of the 16 patches"),
    ((mae, PORTRAIT, "--label", "calm"), "has no labels"),
  ]
  for (checkpoint, *inputs), message in cases:
    assert explain(checkpoint, tmp_path / "out", *inputs) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_partial_results_after_an_interrupt(model, tmp_path, monkeypatch):
  original, calls = Explainer.explain, []

  def interrupting(self, *arguments):
    calls.append(1)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return original(self, *arguments)

  monkeypatch.setattr(Explainer, "explain", interrupting)
  assert explain(model, tmp_path / "out", PORTRAIT, PORTRAIT) == 130
  assert [row["name"] for row in entries(tmp_path / "out")] == ["astronaut"]
  assert (tmp_path / "out" / "contact_sheet.png").exists()


def test_predictor_explain(model):
  predictor = jax_me.load(model)
  (face,) = predictor.explain(PORTRAIT)
  (result,) = predictor.predict(PORTRAIT)
  assert face.predicted == face.label == result.label
  assert face.scores == pytest.approx(result.scores, abs=1e-5)
  assert face.maps["rollout"].values.shape == (2, 2)
  assert face.maps["gradcam"].pixels.shape == (32, 32) and face.face.landmarks.shape == (68, 2)
  empty = np.full((200, 200, 3), 99, np.uint8)
  assert predictor.explain([empty], methods=["rollout"]) == [[]]
  with pytest.raises(ValueError, match="no label"):
    predictor.explain(PORTRAIT, label="sad")
