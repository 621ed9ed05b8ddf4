"""Tests of the raf_db builder on generated images with the release's layout and defects."""

import pathlib

import cv2
import numpy as np
import pytest

from jax_me.datasets.raf_db import manual_attributes
from jax_me.faces.alignment import align_image
from tests.helpers import built_datasets

LABELS = {"train_00001": 5, "train_00002": 1, "train_00010": 7, "test_0001": 4, "test_0002": 2}
MANUAL = "\t".join(["10.5", "20"]) + "\n30 20\n20 30\n12 40\n28 40\n1\n0\n2\n"


def write_release(basic: pathlib.Path, spelling: str = "list_patition_label.txt") -> None:
  """Writes aligned and original images, the label list, and the attributes of two images."""
  lines = [f"{name}.jpg {code}" for name, code in LABELS.items()]
  (basic / "EmoLabel").mkdir(parents=True)
  (basic / "EmoLabel" / spelling).write_text("\n".join(lines) + "\n")
  for seed, name in enumerate(LABELS):
    built_datasets.draw(basic / "Image" / "aligned" / f"{name}_aligned.jpg", seed, 100)
    built_datasets.draw(basic / "Image" / "original" / f"{name}.jpg", seed, 60)
  manual = basic / "Annotation" / "manual"
  manual.mkdir(parents=True)
  (manual / "train_00001_manu_attri.txt").write_text(MANUAL)
  (manual / "test_0001_manu_attri.txt").write_text(MANUAL.replace("\n1\n0\n2\n", "\n2\n3\n0\n"))


@pytest.mark.parametrize("spelling", ["list_patition_label.txt", "list_partition_label.txt"])
@pytest.mark.parametrize("below", ["", "basic", "RAF-DB/RAF-DB/basic"])
def test_both_spellings_at_every_depth(tmp_path, spelling, below):
  write_release(tmp_path / "source" / below, spelling)
  builder = built_datasets.build("raf_db", tmp_path)
  assert builder.labels[4] == "sadness" and len(builder.labels) == 7
  assert built_datasets.labels(builder) == {
    "train_00001_aligned.jpg": "sadness",
    "train_00002_aligned.jpg": "surprise",
    "train_00010_aligned.jpg": "neutral",
  }
  assert built_datasets.labels(builder, "test") == {
    "test_0001_aligned.jpg": "happiness",
    "test_0002_aligned.jpg": "fear",
  }


def test_images_are_unchanged_and_rows_have_the_attributes(tmp_path):
  basic = tmp_path / "source" / "basic"
  write_release(basic)
  builder = built_datasets.build("raf_db", tmp_path)
  name = "train_00001_aligned.jpg"
  assert built_datasets.stored(builder)[name] == (basic / "Image" / "aligned" / name).read_bytes()
  rows = {row["file"]: row for row in built_datasets.report(builder)}
  attributes = {"gender": "female", "race": "Caucasian", "age": "20-39"}
  assert attributes.items() <= rows[name].items()
  assert "age" not in rows["train_00002_aligned.jpg"]
  # Race 3 is unknown: it is reported, and the image is kept.
  assert rows["test_0001_aligned.jpg"]["status"] == "ok"
  assert (
    rows["test_0001_aligned.jpg"]["bad_attributes"] == "race '3' is not one of the codes 0 to 2"
  )
  assert built_datasets.known(builder)["train", "sadness"] == (1982, 1, 1)
  original = built_datasets.build("raf_db", tmp_path, images="original")
  assert list(built_datasets.labels(original)) == [
    "train_00001.jpg",
    "train_00002.jpg",
    "train_00010.jpg",
  ]
  assert original.data_path != builder.data_path


def test_every_defect_is_reported(tmp_path):
  basic = tmp_path / "source"
  write_release(basic)
  aligned = basic / "Image" / "aligned"
  lines = [
    "train_00001.jpg 5",  # duplicate
    "train_00002.jpg 3",  # contradicts
    "train_00003.jpg 6",  # no image
    "train_00004.jpg 8",
    "train_00005.jpg",
    "valid_0001.jpg 1",
    "train_00006.jpg 6",
    "",
  ]
  with (basic / "EmoLabel" / "list_patition_label.txt").open("a") as table:
    table.write("\r\n".join(lines))
  (aligned / "train_00006_aligned.jpg").write_bytes(b"\xff\xd8\xff and no more")
  built_datasets.draw(aligned / "train_00007_aligned.jpg", 7)
  built_datasets.draw(aligned / "cover.jpg", 8)
  (aligned / "Thumbs.db").write_bytes(b"x")
  (aligned / "._train_00001_aligned.jpg").write_bytes(b"macOS resource fork")
  builder = built_datasets.build("raf_db", tmp_path)
  table = "list_patition_label.txt"
  assert built_datasets.problems(builder) == [
    ("cover.jpg", "unexpected_name"),
    (f"{table}:10", "bad_row"),
    (f"{table}:11", "bad_row"),
    (f"{table}:6", "duplicate"),
    (f"{table}:9", "bad_row"),
    ("train_00002_aligned.jpg", "not_listed"),
    ("train_00003.jpg", "missing"),
    ("train_00006_aligned.jpg", "unreadable"),
    ("train_00007_aligned.jpg", "not_listed"),
    ("train_2", "contradictory"),
  ]
  assert built_datasets.details(builder)[f"{table}:9"] == "8 is not a code from 1 to 7"
  # Listed images count as found, whether or not they could be stored.
  assert built_datasets.known(builder)["train", "anger"] == (705, 2, 0)


@pytest.mark.parametrize(
  ("names", "ending"),
  [(("train.txt", "test.txt"), "_aligned.jpg"), (("train_label.txt", "test_label.txt"), ".jpg")],
)
def test_one_label_file_per_split(tmp_path, names, ending):
  basic = tmp_path / "source" / "basic"
  write_release(basic)
  (basic / "EmoLabel" / "list_patition_label.txt").unlink()
  for name in names:
    split = name[:4].rstrip("_")
    lines = [f"{stem}{ending} {code}" for stem, code in LABELS.items() if stem.startswith(split)]
    (basic / "EmoLabel" / name).write_text("\n".join(lines))
  builder = built_datasets.build("raf_db", tmp_path)
  assert list(built_datasets.labels(builder).values()) == ["sadness", "surprise", "neutral"]
  assert list(built_datasets.labels(builder, "test").values()) == ["happiness", "fear"]


def test_missing_files_name_the_archive_to_unpack(tmp_path):
  basic = tmp_path / "source" / "basic"
  write_release(basic)
  for archive in ("aligned.zip", "original.zip"):
    (basic / "Image" / archive).write_bytes(b"PK")
  for file in (basic / "Image" / "aligned").iterdir():
    file.unlink()
  with pytest.raises(ValueError, match=r"no aligned images .*unpack basic/Image/aligned.zip first"):
    built_datasets.build("raf_db", tmp_path)
  (basic / "EmoLabel" / "list_patition_label.txt").unlink()
  with pytest.raises(ValueError, match=r"has no labels of RAF-DB .*unpack basic/Image/aligned.zip"):
    built_datasets.build("raf_db", tmp_path)
  (tmp_path / "empty").mkdir()
  with pytest.raises(ValueError, match=r"it is empty(.|\n)*whdeng.cn"):
    built_datasets.build("raf_db", tmp_path, source="empty")


def test_two_copies_are_refused(tmp_path):
  for copy in ("one", "two"):
    write_release(tmp_path / "source" / copy)
  with pytest.raises(ValueError, match="labels of RAF-DB more than once"):
    built_datasets.build("raf_db", tmp_path)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"images": "cropped"}, "images of RAF-DB must be one of aligned, original"),
    ({"align": True}, "give images=original"),
    ({"align": True, "images": "original", "encoding": "bmp"}, "encoding must be one of png, jpg"),
  ],
)
def test_invalid_options_are_refused(tmp_path, options, message):
  write_release(tmp_path / "source")
  with pytest.raises(ValueError, match=message):
    built_datasets.build("raf_db", tmp_path, **options)


def test_landmarks_select_one_of_two_faces(tmp_path, london_faces):
  write_release(tmp_path / "source")
  images = tmp_path / "source" / "Image" / "original"
  large, small = (
    cv2.imread(str(london_faces / "images" / f"{name}_happy.jpg")) for name in ("001", "002")
  )
  small = cv2.resize(small, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
  photo = np.zeros((large.shape[0], large.shape[1] + small.shape[1], 3), np.uint8)
  photo[:, : large.shape[1]] = large
  photo[: small.shape[0], large.shape[1] :] = small
  cv2.imwrite(str(images / "train_00001.jpg"), photo)
  cv2.imwrite(str(images / "train_00002.jpg"), photo)
  # Eyes and mouth of the small face.
  points = [
    (640 + 130, 140),
    (640 + 190, 140),
    (640 + 160, 170),
    (640 + 140, 200),
    (640 + 180, 200),
  ]
  text = "".join(f"{x} {y}\n" for x, y in points) + "0\n0\n0\n"
  manual = tmp_path / "source" / "Annotation" / "manual"
  (manual / "train_00001_manu_attri.txt").write_text(text)
  builder = built_datasets.build("raf_db", tmp_path, images="original", align=True, size=96)
  annotated, largest = (example["image"].astype(int) for example in builder.as_data_source("train"))
  expected = [
    align_image(cv2.cvtColor(face, cv2.COLOR_BGR2RGB), 96).image for face in (small, large)
  ]
  assert np.abs(annotated - expected[0]).mean() < 5 < np.abs(annotated - expected[1]).mean()
  assert np.abs(largest - expected[1]).mean() < 5
  assert ("train_00010.jpg", "no_face") in built_datasets.problems(builder)


def test_attributes():
  inner, details = manual_attributes.read_attributes(MANUAL)
  assert inner == (10.5, 20.0, 30.0, 40.0)
  assert details == {"gender": "female", "race": "Caucasian", "age": "20-39"}
  with pytest.raises(ValueError, match="expected five landmarks"):
    manual_attributes.read_attributes("1 2\n3\n")
