"""Tests of the jaffe builder on generated TIFF images with the release's names."""

import io

import numpy as np
import pytest
from PIL import Image

from jax_me.data import folds
from jax_me.data.index import read_index
from tests.helpers.built_datasets import build, draw, known, labels, problems, stored

NAMES = [
  "KA.AN1.39.tiff",
  "KA.DI2.43.tiff",
  "KL.FE3.175.tiff",
  "KM.HA1.4.tiff",
  "UY.NE2.138.tiff",
  "YM.SA3.57.tiff",
  "NA.SU1.100.tiff",
]


def test_subject_and_emotion_from_file_names(tmp_path):
  folder = tmp_path / "source" / "jaffedbase"
  for seed, name in enumerate(NAMES):
    draw(folder / name, seed, mode="L")
  draw(folder / "KM.SU.21.tiff", 20, mode="L")  # without the number after the code
  draw(folder / "KA.AN1.39.png", 21)  # the same image in another format
  draw(folder / "KA.XX1.40.tiff", 22)
  (folder / "TM.HA2.181.tiff").write_bytes(b"II*\0 and no more")
  for name in ("README", ".DS_Store", "README_FIRST.txt"):
    (folder / name).write_bytes(b"x")
  builder = build("jaffe", tmp_path)
  # In the order of the image numbers.
  assert labels(builder) == {
    f"jaffedbase/{name}": label
    for name, label in [
      ("KM.HA1.4.tiff", "happiness"),
      ("KM.SU.21.tiff", "surprise"),
      ("KA.AN1.39.png", "anger"),
      ("KA.DI2.43.tiff", "disgust"),
      ("YM.SA3.57.tiff", "sadness"),
      ("NA.SU1.100.tiff", "surprise"),
      ("UY.NE2.138.tiff", "neutral"),
      ("KL.FE3.175.tiff", "fear"),
    ]
  }
  assert problems(builder) == [
    ("jaffedbase/KA.AN1.39.tiff", "second_image"),
    ("jaffedbase/KA.XX1.40.tiff", "unexpected_name"),
    ("jaffedbase/TM.HA2.181.tiff", "unreadable"),
  ]
  index = read_index(builder)
  assert index.subject.tolist() == ["KM", "KM", "KA", "KA", "YM", "NA", "UY", "KL"]
  assert known(builder)["train", "happiness"] == (31, 2, 1)
  assert sum(expected for expected, _, _ in known(builder).values()) == 213
  made = folds.leave_one_subject_out(index)
  assert [fold.name for fold in made] == ["KA", "KL", "KM", "NA", "UY", "YM"]


def test_tiff_becomes_png_with_the_same_pixels(tmp_path):
  data = draw(tmp_path / "source" / NAMES[0], 3, 256, mode="L")
  builder = build("jaffe", tmp_path)
  image = stored(builder)[NAMES[0]]
  assert image.startswith(b"\x89PNG")
  expected, found = (np.asarray(Image.open(io.BytesIO(d)).convert("L")) for d in (data, image))
  np.testing.assert_array_equal(found, expected)


def test_missing_images_name_the_archive_to_unpack(tmp_path):
  (tmp_path / "source").mkdir()
  (tmp_path / "source" / "jaffe.zip").write_bytes(b"PK")
  with pytest.raises(ValueError, match=r"no images of JAFFE .unpack jaffe.zip first"):
    build("jaffe", tmp_path)


def test_faces_are_aligned_on_request(tmp_path, london_faces):
  photo = Image.open(london_faces / "images" / "001_happy.jpg").convert("L").resize((256, 256))
  (tmp_path / "source").mkdir()
  photo.save(tmp_path / "source" / NAMES[0])
  draw(tmp_path / "source" / NAMES[1], 1, 256, mode="L")
  builder = build("jaffe", tmp_path, align=True, size=64)
  assert list(labels(builder)) == [NAMES[0]]
  assert builder.as_data_source("train")[0]["image"].shape == (64, 64, 3)
  assert problems(builder) == [(NAMES[1], "no_face")]
