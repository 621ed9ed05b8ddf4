"""`Results`: a sequence that streams videos, and its tables, figures and files."""

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

import jax_me
from jax_me.__main__ import main
from jax_me.faces.image_files import encode_image, read_image
from jax_me.inference.results import COLUMNS, FaceResult, FrameResult, Results
from jax_me.inference.video import sources
from tests.helpers.inference_models import save

pytestmark = pytest.mark.usefixtures("quick_compilation")
HAPPY = FaceResult("happy", {"calm": 0.25, "happy": 0.75}, (1, 2, 3, 4), "ok")
NOTHING = FaceResult(None, {}, None, "no_face")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  """A model of whole images, so that no face is needed."""
  return save(tmp_path_factory.mktemp("m") / "model", align=False)


@pytest.fixture(scope="module")
def predictor(model):
  return jax_me.load(model)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  """A clip of six frames, one of them broken, a folder of two photographs and one photograph."""
  root = tmp_path_factory.mktemp("images")
  rng = np.random.default_rng(1)
  noise = rng.integers(0, 200, (48, 64, 3)).astype(np.uint8)
  for folder, names in (("clip", "123456"), ("people", ("anna", "ben"))):
    (root / folder).mkdir()
    for number, name in enumerate(names):
      image = noise + np.uint8(number if folder == "clip" else 50 * number)
      (root / folder / f"{name}.png").write_bytes(encode_image(image))
  (root / "clip" / "4.png").write_bytes(b"\x89PNG broken")
  (root / "photo.png").write_bytes(encode_image(noise[::-1]))
  return root


def test_results_are_sequences_with_a_readable_repr():
  whole_image = FaceResult("calm", {"calm": 1.0}, None, "ok")
  first, second = Results([HAPPY, whole_image]), Results([NOTHING])
  assert first == [HAPPY, whole_image] and first[-1:] == [whole_image] and len(first) == 2
  assert HAPPY in first and first != second and first + second == [HAPPY, whole_image, NOTHING]
  assert sum([first, second], []) == [HAPPY, whole_image, NOTHING]
  assert isinstance(first[:1], Results) and list(reversed(first)) == [whole_image, HAPPY]
  assert repr(first) == "Results, 2 entries\n  0: happy 0.750, box (1, 2, 3, 4)\n  1: calm 1.000"
  assert repr(Results([second])) == "Results, 1 entry\n  0: Results, 1 entry\n    0: no_face"
  assert repr(Results()) == "Results, 0 entries" and not Results()
  assert repr(Results([NOTHING] * 100)).endswith("  11: no_face\n  ... 88 more")
  frame = FrameResult("happy", {"happy": 1.0}, None, "ok", frame=3, seconds=0.1, person=2)
  assert str(frame) == "frame 3, 0.100 s, person 2: happy 1.000"
  with pytest.raises(ValueError, match="not from a model"):
    Results().save("nowhere")
  with pytest.raises(ValueError, match="no image"):
    first.plot()


def test_a_loop_over_a_video_is_a_stream(predictor, monkeypatch):
  started, read = [], []

  class Frames:
    """200 frames, counted when they are read."""

    def __iter__(self):
      started.append(1)
      for number in range(200):
        read.append(number)
        yield sources.Frame(number, number / 30, np.full((32, 32, 3), number, np.uint8))

  source = sources.VideoSource("film", "video", 30.0, 200, "", lambda: iter(Frames()))
  monkeypatch.setattr("jax_me.inference.prediction_inputs.find_sources", lambda *_: [source])
  film = predictor.predict("film.mp4")
  assert not read and bool(film) and "not read yet: film (200 frames" in repr(film) and not read
  first = next(iter(film))
  assert first.frame == 0 and len(read) < 100
  assert sum(1 for _ in film) == 200 and len(started) == 2
  assert sum(1 for _ in predictor.predict_video("film.mp4")) == 200
  assert len(film) == 200 and len(started) == 4  # read to its end, and kept
  assert film[-1].frame == 199 and film.events() == [] and film.plot().width == 1800
  assert list(film) == list(film.collect()) and len(film.to_records()) == 200
  assert len(started) == 4 and "199 more" not in repr(film) and "188 more" in repr(film)
  limited = predictor.predict("film.mp4", seconds=1.0)
  assert len(limited) == 30


def test_a_camera_has_no_end(predictor, monkeypatch):
  source = sources.VideoSource("camera:0", "camera", 30.0, None, "", lambda: iter(()))
  monkeypatch.setattr("jax_me.inference.prediction_inputs.find_sources", lambda *_: [source])
  with pytest.raises(ValueError, match="seconds="):
    len(predictor.predict("camera:0"))


def test_files_are_those_of_the_command(model, predictor, images, tmp_path, capsys):
  inputs = [images / "clip", images / "photo.png", images / "people"]
  options = ["--checkpoint", str(model), "--annotate", "--output", str(tmp_path / "command")]
  assert main(["predict", *map(str, inputs), *options]) == 0
  results = predictor.predict(list(map(str, inputs)))
  capsys.readouterr()
  path = results.save(tmp_path / "python", annotate=True)
  assert path == tmp_path / "python" / "predictions.csv" and capsys.readouterr().out == ""

  def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

  command, python = contents(tmp_path / "command"), contents(tmp_path / "python")
  assert set(command) == set(python) and len(command) > 6
  for name, content in command.items():
    if name.suffix == ".csv" or name.suffix == ".jpg":
      assert content == python[name], name
  documents = [json.loads(files[name]) for files in (command, python) for name in files
               if name.name == "events.json"]  # fmt: skip
  for document in documents:
    del document["model"]["checkpoint"]
  assert documents[0] == documents[1]
  with open(path, newline="") as file:
    rows = list(csv.DictReader(file))
  records = results.to_records()
  assert len(records) == len(rows) == 6 + 1 + 2
  by_file = {(row["video"], row["file"]): row for row in rows}
  for record in records:
    row = by_file[record["video"], record["file"]]
    assert row["status"] == record["status"] and row["label"] == (record["label"] or "")
    if record["seconds"] is not None:
      assert float(row["seconds"]) == pytest.approx(record["seconds"], abs=1e-4)
    if record["label"]:
      assert float(row["score_calm"]) == pytest.approx(record["score_calm"], abs=1e-5)
  assert records[3]["status"] == "unreadable" and records[3]["reason"]


def test_figures(predictor, images):
  photograph, people, clip = predictor.predict(
    [images / "photo.png", images / "people", images / "clip"]
  )
  drawn = photograph.plot()
  original = read_image(images / "photo.png")
  assert drawn.size == (64, 48) and (np.asarray(drawn) != original).any()
  assert [image.size for image in people.plot()] == [(64, 48)] * 2
  assert isinstance(clip.plot(), Image.Image) and clip.plot().width == 1800
  (unreadable,) = predictor.predict([images / "clip" / "4.png"])
  assert unreadable.plot() is None and photograph.events() == people.events() == []


def test_table_without_pandas_names_the_extra(predictor, images, monkeypatch):
  results = predictor.predict(images / "people")
  records = results.to_records()
  assert list(records[0]) == [*COLUMNS, "score_calm", "score_happy, or so"]
  assert records[1]["video"] == str(images / "people") and records[1]["file"] == "ben.png"
  assert records[1]["person"] == 1
  monkeypatch.setitem(sys.modules, "pandas", None)
  with pytest.raises(ModuleNotFoundError, match=r"pip install \"jax_me\[pandas\]\""):
    results.to_df()


def test_table(predictor, images):
  pytest.importorskip("pandas")
  table = predictor.predict(images / "people").to_df()
  assert len(table) == 2 and list(table.columns[:2]) == ["video", "frame"]
  assert predictor.predict([]).to_df().empty
