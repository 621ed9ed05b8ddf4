"""Models shared on a hub: model card, upload to a fake of the hub, download from a local server."""

import functools
import inspect
import json
import pathlib
import sys
import types

import numpy as np
import pytest

import jax_me
from convert.errors import FailedUpload, UnavailableWeights
from jax_me.__main__ import main
from jax_me.evaluation.predictions import Predictions
from jax_me.evaluation.subject_groups import SubjectGroups
from jax_me.evaluation.summary import summarize
from jax_me.inference.predictor import Predictor
from jax_me.inference.sharing.model_card import model_card
from jax_me.inference.sharing.shared_model import (
  share_model,
  without_paths,
  write_shared_folder,
)
from jax_me.limits_notice import LAW_NOTICE
from jax_me.models.model_metadata import SavedModelError
from jax_me.models.saved_model import FINAL, SavedModel
from tests.helpers.file_server import serve_on_hub
from tests.helpers.inference_models import LABELS, SAVED, save, tiny

hub = pytest.importorskip("huggingface_hub", reason="the extra hub")

NAME = "someone/faces"
FILES = {"README.md", "manifest.json", "model.json", "reference.safetensors", "weights.safetensors"}


HF_API = hub.HfApi


class FakeApi:
  """In the place of `huggingface_hub.HfApi`: keeps what is uploaded, or raises `error`."""

  error: Exception | None = None

  def __init__(self, **keywords):
    inspect.signature(HF_API).bind(**keywords)
    FakeApi.token = keywords["token"]

  def create_repo(self, repository, *, private, exist_ok):
    inspect.signature(HF_API.create_repo).bind(self, repository, private=private, exist_ok=exist_ok)
    if self.error is not None:
      raise self.error
    FakeApi.created = (repository, private, exist_ok)
    return f"https://hub.example/{repository}"

  def upload_folder(self, **keywords):
    inspect.signature(HF_API.upload_folder).bind(self, **keywords)
    assert keywords["repo_id"] == FakeApi.created[0]
    root = pathlib.Path(keywords["folder_path"])
    files = [path for path in root.rglob("*") if path.is_file()]
    FakeApi.files = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def fake_api(monkeypatch):
  monkeypatch.setattr(hub, "HfApi", FakeApi)
  monkeypatch.setattr(FakeApi, "error", None)
  return FakeApi


@functools.cache
def tiny_model():
  return tiny("vit_tiny_patch16", **SAVED)


def saved_model(source=None, licence=""):
  return SavedModel(
    tiny_model(), "vit_tiny_patch16", dict(SAVED), LABELS, 32,
    (0.5,) * 3, (0.25,) * 3, source or {}, licence=licence,
  )  # fmt: skip


def write_run(folder):
  """The scores, groups and settings of a run of two folds; subjects are people's names."""
  truth = np.array([0, 1] * 6)
  predictions = Predictions(
    labels=LABELS,
    truth=truth,
    prediction=np.array([0, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 1]),
    scores=np.full((12, 2), 0.5),
    subject=[f"Alice{number // 2}" for number in range(12)],
    file=[f"{number}.png" for number in range(12)],
    fold=["fold1"] * 6 + ["fold2"] * 6,
  )
  groups = SubjectGroups(
    ("age",), {("", f"Alice{n}"): ("old" if n % 2 else "young",) for n in range(6)}
  )
  summary = summarize(predictions, groups=groups, repeats=50)
  (folder / "report").mkdir(parents=True)
  (folder / "report/scores.json").write_text(json.dumps(summary))
  config = {"epochs": 3.0, "optimizer": {"name": "adamw"}, "data": {"manual_dir": "/home/me"}}
  (folder / "config.json").write_text(json.dumps(config))


def test_the_card_has_scores_by_group_limits_and_the_law(tmp_path):
  write_run(tmp_path / "run")
  source = {"trained_on": "raf_db/aligned", "fold": FINAL, "seed": 7}
  card = model_card(saved_model(source), NAME, origin=tmp_path / "run/final", licence="MIT")
  data = hub.ModelCard(card).data
  assert (data.library_name, data.license) == ("jax_me", "mit")
  assert data.pipeline_tag == "image-classification" and "accuracy" in data.metrics
  accuracy = next(result for result in data.eval_results if result.metric_type == "accuracy")
  assert accuracy.metric_value == pytest.approx(10 / 12, abs=1e-4)
  assert accuracy.dataset_type == "raf_db"
  for part in (
    "Trained on raf\\_db", "95% CI", "has a warning about these scores",
    "trained on everybody afterwards", "Scores by age", "young",
    "| epochs | 3.0 |", "| optimizer.name | adamw |", LAW_NOTICE, "no measurement of what a person",
    'jax_me.from_pretrained("someone/faces")', "happy, or so",
  ):  # fmt: skip
    assert part in card, part
  assert "Alice" not in card and "/home/me" not in card


def test_the_card_says_what_is_unknown_and_keeps_an_earlier_one(tmp_path):
  (tmp_path / "CARD.md").write_text("# Notes\nOf the author.", encoding="utf-8")
  card = model_card(saved_model(licence="for research only"), NAME, origin=tmp_path)
  data = hub.ModelCard(card).data
  assert data.license == "other" and data.license_name == "see-model-card"
  assert not data.eval_results
  for part in ("notes of the authors below", "Not measured", "for research only", "## Notes"):
    assert part in card, part
  card = model_card(saved_model(), NAME)
  assert "states no licence" in card and "No scores are recorded" in card


def test_paths_of_a_computer_become_names():
  source = {
    "init_from": "/home/me/runs/mae",
    "url": "https://a.b/c",
    "options": {"x": ["C:\\a\\b"]},
  }
  assert without_paths(source) == {
    "init_from": "mae", "url": "https://a.b/c", "options": {"x": ["b"]},
  }  # fmt: skip


@pytest.mark.parametrize("name", ["faces", "a/b/c", "a/b@main", "../b", "a b/c", ""])
def test_names_of_another_form_are_refused(name, tmp_path):
  with pytest.raises(ValueError, match="OWNER/NAME") as error:
    write_shared_folder(saved_model(), tmp_path / "out", name)
  assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_an_uploaded_model_is_loaded_by_name(fake_api, local_hub, tmp_path, monkeypatch):
  folder = save(tmp_path / "model", source={"trained_on": "raf_db", "init_from": "/home/me/mae"})
  (folder / "predictions.csv").write_text("subject,label\nAlice,happy\n")
  model = jax_me.load(folder)
  assert model.push_to_hub(NAME, token="secret", licence="mit") == f"https://hub.example/{NAME}"
  assert fake_api.created == (NAME, True, True) and fake_api.token == "secret"
  assert set(fake_api.files) == FILES
  everything = b"".join(fake_api.files.values())
  assert b"Alice" not in everything and b"/home/me" not in everything

  serve_on_hub(local_hub, NAME, fake_api.files | {"setup.py": b"raise SystemExit"})
  shared = jax_me.from_pretrained(NAME, verify=True)
  image = np.full((40, 40, 3), 90, np.uint8)
  (before,), (after,) = (m.predict(image, align=False) for m in (model, shared))
  assert after.scores == before.scores and shared.saved.licence == "mit"
  requests = [path for method, path, _ in local_hub.requests if method == "GET"]
  fetched = {path.rpartition("/")[2] for path in requests if path.startswith(f"/{NAME}/")}
  assert fetched == FILES - {"README.md"}

  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  local_hub.requests.clear()
  assert Predictor.from_pretrained(NAME).labels == LABELS and not local_hub.requests
  # What was loaded from a hub can be shared again, and a folder by its path.
  monkeypatch.delenv("HF_HUB_OFFLINE")
  jax_me.push_to_hub(shared, "other/faces", private=False)
  assert fake_api.created == ("other/faces", False, True)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_damaged_and_hostile_repositories_are_one_line(fake_api, local_hub, tmp_path):
  share_model(jax_me.load(save(tmp_path / "model")).saved, NAME)
  good = fake_api.files

  def refused(files, words, number):
    name = f"someone/faces{number}"
    serve_on_hub(local_hub, name, files)
    with pytest.raises((UnavailableWeights, SavedModelError), match=words) as error:
      jax_me.from_pretrained(name)
    assert "\n" not in str(error.value)

  weights = bytearray(good["weights.safetensors"])
  weights[-1] ^= 1
  refused(good | {"weights.safetensors": bytes(weights)}, "weights.safetensors was changed", 1)
  refused({k: v for k, v in good.items() if k != "manifest.json"}, "no manifest.json", 2)
  refused({k: v for k, v in good.items() if k != "weights.safetensors"}, "lacks weights", 3)
  refused(good | {"manifest.json": b"{"}, "manifest.json cannot be read", 4)
  manifest = json.loads(good["manifest.json"])
  for number, outside in enumerate(("../../../x", "/etc/passwd", "C:\\x", "a\\..\\b"), start=5):
    manifest["files"] = {outside: {"bytes": 1, "sha256": "0" * 64}}
    refused(good | {"manifest.json": json.dumps(manifest).encode()}, "file outside", number)
  refused({"README.md": b"", "data.csv": b""}, "nor one of jax_me", 9)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_the_command_writes_a_folder_and_reports_errors(fake_api, tmp_path, capsys, monkeypatch):
  model, out = save(tmp_path / "model"), tmp_path / "out"
  assert main(["push", str(model), NAME, "--output", str(out)]) == 0
  assert {path.name for path in out.iterdir()} == FILES
  assert main(["push", str(model), NAME, "--public"]) == 0
  assert fake_api.created == (NAME, False, True)
  assert f"https://hub.example/{NAME}" in capsys.readouterr().out
  monkeypatch.setattr(FakeApi, "error", ConnectionError("no route to host"))
  for arguments, words in (
    ([model, NAME], "no route to host"),
    ([model, "faces"], "OWNER/NAME"),
    ([tmp_path, NAME], "model.json is missing"),
  ):
    assert main(["push", *map(str, arguments)]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_errors_of_the_hub_are_one_line(fake_api, monkeypatch, tmp_path):
  from convert.hub_upload import upload_folder

  for status, words in ((401, "needs a login"), (403, "may not write"), (500, "cannot be written")):
    response = types.SimpleNamespace(status_code=status, headers={}, request=None)
    error = hub.errors.HfHubHTTPError(f"{status}\nmore", response=response)
    monkeypatch.setattr(FakeApi, "error", error)
    with pytest.raises(FailedUpload, match=words) as failed:
      upload_folder(tmp_path, NAME)
    assert "\n" not in str(failed.value)
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)
  with pytest.raises(UnavailableWeights, match=r'pip install "jax_me\[hub\]"'):
    upload_folder(tmp_path, NAME)
