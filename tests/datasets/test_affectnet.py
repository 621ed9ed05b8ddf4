"""Tests of the affectnet builder: labels read from each release, and the report of the rest."""

import json
import pathlib

import numpy as np
import pytest

from jax_me.data.index import read_index
from jax_me.data.labels import EMOTIONS
from jax_me.datasets.affectnet import builder as affectnet
from jax_me.datasets.affectnet import process_faces
from tests.helpers import affectnet_files
from tests.helpers.affectnet_files import CORRUPT, HEADER, annotate, build, row
from tests.helpers.built_datasets import draw, labels, problems, report, stored


@pytest.fixture
def csv_release(tmp_path):
  return affectnet_files.csv_release(tmp_path)


@pytest.fixture
def npy_release(tmp_path):
  return affectnet_files.npy_release(tmp_path)


def summary(builder) -> dict:
  return json.loads((pathlib.Path(builder.data_path) / "summary.json").read_text())


def test_csv_release(csv_release):
  builder = build(csv_release)
  assert builder.options.release == "csv" and builder.labels == EMOTIONS
  assert labels(builder, "train") == {
    "1/a.jpg": "neutral",
    "1/b.JPG": "happiness",
    "1/b.JPG#2": "sadness",
    "2/c.jpeg": "sadness",
    "2/d.TIF": "surprise",
    "2/e.png": "fear",
    "3/f.bmp": "disgust",
    "3/g.jpg": "anger",
    "3/h.JPG": "contempt",
  }
  assert labels(builder, "validation") == {
    "103/v0.jpg": "neutral",
    "103/v7.jpg": "contempt",
    "103/copy.jpg": "sadness",
  }
  table = "Manually_Annotated_file_lists/training.csv"
  bad = [(name, status) for name, status in problems(builder) if status != "bad_row"]
  assert bad == [
    ("1/a.jpg#2", "no_box"),
    ("1/gone.jpg", "missing"),
    ("1/nobox.jpg", "no_box"),
    ("1/none.jpg", "contradictory"),
    ("1/odd.jpg", "bad_annotation"),
    (CORRUPT, "known_corrupt"),
    ("2/e.png", "contradictory"),
    ("3/broken.jpg", "unreadable"),
    ("3/g.jpg", "duplicate"),
  ]
  rows = {r["file"]: r for r in report(builder)}
  assert [rows[f"{table}:{line}"]["detail"] for line in (22, 23, 24)] == [
    "expression 'happy' is not a number",
    "../outside.jpg is not a path inside the image folder",
    "no face_y, face_width, face_height, expression",
  ]
  # A duplicate across splits is kept and reported.
  assert rows["103/copy.jpg"]["same_content_as"] == "1/a.jpg"


def test_faces_without_an_expression_are_counted_and_left_out(tmp_path):
  source = tmp_path / "source"
  for number in range(3):
    draw(source / "Manually_Annotated_Images" / "1" / f"{number}.jpg", number)
  rows = [row(f"1/{number}.jpg", number + 7) for number in range(3)]
  rows += [row("1/0.jpg", 0, (0, 0, 10, 10)), row("1/far.jpg", 10)]
  (source / "training.csv").write_text(HEADER + "".join(rows))
  builder = build(tmp_path)
  assert summary(builder)["files"] == {"missing_split": 1, "ok": 2, "no_expression": 3}
  details = [r["detail"] for r in report(builder) if r["status"] == "no_expression"]
  assert details == ["none", "uncertain", "non face"]
  seven = build(tmp_path, classes=7)
  assert seven.labels == EMOTIONS[:7] and labels(seven, "train") == {"1/0.jpg#2": "neutral"}
  assert ("1/0.jpg", "other_label") in problems(seven)


def test_valence_and_arousal(tmp_path):
  draw(tmp_path / "source" / "Manually_Annotated_Images" / "1" / "a.jpg", 0)
  rows = row("1/a.jpg", 0) + row("1/a.jpg", 1, (0, 0, 9, 9)).replace("-0.1,0.2", "-2,-2")
  (tmp_path / "source" / "training.csv").write_text(HEADER + rows)
  affect = read_index(build(tmp_path), "train").affect
  np.testing.assert_array_equal(affect, np.float32([[-0.1, 0.2], [np.nan, np.nan]]))

  annotate(tmp_path / "npy", 7, 3, val=b"0.5", aro=np.array(["-0.25"]))
  annotate(tmp_path / "npy", 8, 3)  # arousal -2: unknown
  affects = [process_faces.read_npy_affect(tmp_path / f"npy/{i}_exp.npy") for i in (7, 8, 9)]
  assert affects == [(0.5, -0.25), (), ()]
  path = tmp_path / "7.json"
  path.write_text('{"human-label": 3, "Valence": 0.25, "arousal": "-1"}')
  assert process_faces.read_json_label(path) == (3, (0.25, -1.0))


def test_npy_release(npy_release):
  builder = build(npy_release)
  assert builder.options.release == "npy"
  train = "train_set/train_set/images"
  assert list(labels(builder, "train").items()) == [
    (f"{train}/0.jpg", "neutral"),
    (f"{train}/2.JPG", "happiness"),
    (f"{train}/9.jpg", "sadness"),
    (f"{train}/10.jpg", "surprise"),
    (f"{train}/11.jpg", "fear"),
    (f"{train}/100.jpg", "contempt"),
  ]
  assert labels(builder, "validation") == {"val_set/images/0.png": "anger"}
  assert problems(builder) == [
    ("train_set/train_set/annotations/200_exp.npy", "missing"),
    (f"{train}/101.jpg", "no_expression"),
    (f"{train}/201.jpg", "not_listed"),
    *((f"{train}/{number}.jpg", "bad_annotation") for number in range(300, 304)),
  ]
  details = {r["file"]: r.get("detail", "") for r in report(builder)}
  for number, text in [(300, "'sad' is not a number"), (301, "empty"), (302, "allow_pickle")]:
    assert text in details[f"{train}/{number}.jpg"]
  for name, data in {**stored(builder, "train"), **stored(builder, "validation")}.items():
    assert data == (npy_release / "source" / name).read_bytes()


def test_plus_release(tmp_path):
  top = tmp_path / "source" / "AffectNet+" / "human_annotated"
  keys = ["human-label", "Human-Label", "HUMAN_LABEL", "Human Label", "soft-label", "human-label"]
  values = [3, "3", 3.0, [3], 3, 9]
  for number, (key, value) in enumerate(zip(keys, values, strict=True)):
    draw(top / "train_set" / "images" / f"{number}.jpg", number)
    content = {key: value, "Subset": 0, "Soft-Label2": [0.1] * 8}
    (top / "train_set" / "annotations").mkdir(exist_ok=True)
    (top / "train_set" / "annotations" / f"{number}.json").write_text(json.dumps(content))
  draw(top / "train_set" / "images" / "6.jpg", 6)
  (top / "train_set" / "annotations" / "6.json").write_text("{broken")
  draw(top / "validation_set" / "images" / "0.jpg", 0)
  (top / "validation_set" / "annotations").mkdir()
  (top / "validation_set" / "annotations" / "0.json").write_text('{"human-label": 0}')
  draw(top.parent / "no_human_annotated" / "images" / "0.jpg", 7)
  builder = build(tmp_path)
  prefix = "AffectNet+/human_annotated/train_set/images"
  assert labels(builder, "train") == {f"{prefix}/{n}.jpg": "surprise" for n in range(4)}
  assert read_index(builder, "validation").class_counts()["neutral"] == 1
  assert problems(builder) == [
    (f"{prefix}/4.jpg", "bad_annotation"),
    (f"{prefix}/5.jpg", "no_expression"),
    (f"{prefix}/6.jpg", "bad_annotation"),
  ]
  details = {r["file"]: r.get("detail", "") for r in report(builder)}
  assert "its keys are soft-label, Subset" in details[f"{prefix}/4.jpg"]
  assert summary(builder)["known_counts"] == []


def test_release_is_part_of_the_options_and_existing_builds_are_reused(npy_release):
  first = build(npy_release)
  # Options without effect make no second build, and a built dataset needs no source files.
  for options in ({"release": "npy"}, {"size": 64, "encoding": "png"}, {"manual_dir": None}):
    assert build(npy_release, **options).data_path == first.data_path
  assert build(npy_release, size=64, manual_dir=None).data_path == first.data_path
  assert build(npy_release, classes=7).data_path != first.data_path
  with pytest.raises(ValueError, match="nothing was built with these options"):
    build(npy_release, align=True, manual_dir=None)
  draw(npy_release / "source" / "train_set" / "train_set" / "images" / "200.jpg", 9)
  second = build(npy_release)
  assert second.data_path != first.data_path and len(read_index(second)) == 7


def test_several_releases_or_copies_are_ambiguous(csv_release, npy_release):
  with pytest.raises(ValueError, match="releases csv and npy.*options.release=csv"):
    build(npy_release)
  assert build(npy_release, release="npy").options.release == "npy"
  with pytest.raises(ValueError, match="no AffectNet's release 'plus'"):
    build(npy_release, release="plus")
  copy = npy_release / "source" / "copy" / "val_set"
  annotate(copy / "annotations", 0, 1)
  draw(copy / "images" / "0.jpg", 1)
  with pytest.raises(ValueError, match="the split validation more than once"):
    build(npy_release, release="npy")


def has_instructions(error: ValueError) -> bool:
  """Whether a message states where to get AffectNet, where to put it, and the demo recipe."""
  text = str(error)
  wanted = ("mohammadmahoor.com/affectnet", "--config.data.manual_dir=FOLDER", "training.csv")
  demo = "python run.py --config configs/mae_affectnet.py:demo"
  return all(text.count(part) == 1 for part in (*wanted, "_exp.npy", "<id>.json", demo))


def test_missing_files_raise_an_error_with_instructions(tmp_path):
  (tmp_path / "empty").mkdir()
  draw(tmp_path / "wrong" / "happy" / "1.jpg", 1)
  (tmp_path / "wrong" / "images").mkdir()
  (tmp_path / "wrong" / "annotations").mkdir()
  for folder, message in [
    (None, "needs manual_dir"),
    ("missing", "is not a folder"),
    ("empty", "it is empty"),
    ("wrong", "it holds annotations, happy, images"),
  ]:
    source = None if folder is None else tmp_path / folder
    with pytest.raises(ValueError, match=message) as caught:
      build(tmp_path, manual_dir=source)
    assert has_instructions(caught.value)
  assert not (tmp_path / "built").exists()


def test_label_files_without_images_are_refused(tmp_path):
  (tmp_path / "source").mkdir()
  (tmp_path / "source" / "training.csv").write_text(HEADER + row("1/a.jpg", 1))
  with pytest.raises(ValueError, match="training.csv was found.*no folder of images"):
    build(tmp_path)
  (tmp_path / "source" / "Manually_Annotated_Images" / "1").mkdir(parents=True)
  with pytest.raises(ValueError, match="no usable image was found.*1 missing"):
    build(tmp_path)
  (tmp_path / "source" / "training.csv").write_text("subDirectory_filePath,expression\n1/a.jpg,1\n")
  with pytest.raises(ValueError, match=r"training.csv has no column face_x, face_y"):
    build(tmp_path)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"release": "2021"}, "auto, csv, npy, plus"),
    ({"classes": 6}, "7 or 8, got 6"),
    ({"size": 8}, "16, 4096"),
    ({"encoding": "gif"}, "png, jpg"),
    ({"on_no_face": "keep"}, "skip, center, error"),
  ],
)
def test_invalid_options_are_refused(tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    build(tmp_path, **options)


def test_counts_are_compared_with_the_published_ones(npy_release, caplog, monkeypatch):
  with caplog.at_level("INFO"):
    builder = build(npy_release)
  assert "differs from the published numbers" in caplog.text
  rows = {(r["split"], r["class"]): r for r in summary(builder)["known_counts"]}
  assert len(rows) == 16
  assert sum(r["expected"] for r in rows.values() if r["split"] == "train") == 287_651
  assert sum(r["expected"] for r in rows.values() if r["split"] == "validation") == 3_999
  happy = rows["train", "happiness"]
  assert (happy["expected"], happy["found"], happy["stored"]) == (134_415, 1, 1)
  assert any(
    line.split() == ["train", "happiness", "134415", "1", "1", "differs"]
    for line in caplog.text.splitlines()
  )
  caplog.clear()
  known = {"npy": {"train": (1, 1, 1, 1, 1, 0, 0, 1), "validation": (0,) * 6 + (1, 0)}}
  monkeypatch.setattr(affectnet, "KNOWN_COUNTS", known)
  with caplog.at_level("INFO"):
    build(npy_release, align=True, on_no_face="center", size=32)
  assert "all 16 class counts are as published" in caplog.text
