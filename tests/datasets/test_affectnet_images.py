"""Tests of the images stored by affectnet: original bytes, crops by box, aligned faces."""

import io
import json
import pathlib

import cv2
import numpy as np
import pytest
from PIL import Image

from jax_me.datasets.affectnet import builder as affectnet
from jax_me.datasets.affectnet import process_faces
from jax_me.datasets.catalog import prepare
from jax_me.datasets.synthetic import clip_rendering
from jax_me.faces.alignment import align_image
from tests.helpers import affectnet_files
from tests.helpers.affectnet_files import HEADER, build, row
from tests.helpers.built_datasets import stored


@pytest.fixture
def csv_release(tmp_path):
  return affectnet_files.csv_release(tmp_path)


@pytest.fixture
def npy_release(tmp_path):
  return affectnet_files.npy_release(tmp_path)


def summary(builder) -> dict:
  return json.loads((pathlib.Path(builder.data_path) / "summary.json").read_text())


def test_csv_crops_are_the_annotated_box_with_a_margin(tmp_path):
  source = tmp_path / "source"
  photo = np.zeros((300, 400, 3), np.uint8)
  photo[100:180, 50:110] = 200  # a box of 60 x 80 at (50, 100): x, y, width, height
  folder = source / "Manually_Annotated_Images" / "1"
  folder.mkdir(parents=True)
  Image.fromarray(photo).save(folder / "a.png")
  (source / "training.csv").write_text(HEADER + row("1/a.png", 1, (50, 100, 60, 80)))
  (builder, small) = (build(tmp_path, encoding="png"), build(tmp_path, size=48))
  image = builder.as_data_source("train")[0]["image"]
  np.testing.assert_array_equal(image, photo[92:188, 32:128])
  data = stored(small, "train")["1/a.png"]
  assert data.startswith(b"\xff\xd8") and Image.open(io.BytesIO(data)).size == (48, 48)


@pytest.mark.parametrize(
  ("box", "margin", "expected"),
  [
    ((2, 1, 4, 4), 0.0, (2, 1, 4, 0)),
    ((0, 0, 4, 4), 0.25, (0, 0, 6, 0)),  # shifted inwards at the corner
    ((7, 4, 4, 4), 0.25, (4, 2, 6, 0)),  # the part outside the image is ignored
    ((-3, -3, 6, 6), 0.0, (0, 0, 3, 0)),
    ((0, 0, 10, 8), 0.0, (0, 0, 10, 2)),  # larger than the image: two black rows
  ],
)
def test_crop_square(box, margin, expected):
  image = np.random.default_rng(0).integers(1, 256, (8, 10, 3), np.uint8)
  x, y, side, black = expected
  crop = process_faces.crop_square(image, box, margin)
  assert crop.shape == (side, side, 3)
  assert (crop.max((1, 2)) == 0).sum() == black
  visible = crop[black // 2 : side - black // 2]
  np.testing.assert_array_equal(visible, image[y : y + side, x : x + side])


def test_workers_do_not_change_the_build(csv_release, monkeypatch):
  single_process = build(csv_release)
  files = {
    path.name: path.read_bytes() for path in pathlib.Path(single_process.data_path).iterdir()
  }
  monkeypatch.setattr(affectnet, "FACES_PER_TASK", 4)
  monkeypatch.setattr(affectnet, "TASKS_PER_WORKER", 2)
  two_workers = prepare(
    "affectnet",
    data_dir=str(csv_release / "again"),
    manual_dir=str(csv_release / "source"),
    workers=2,
  )
  for path in pathlib.Path(two_workers.data_path).iterdir():
    if path.suffix != ".json" or path.name in ("identity.json", "summary.json"):
      assert path.read_bytes() == files[path.name], path.name


def test_images_without_a_face_follow_the_policy(npy_release):
  with pytest.raises(ValueError, match=r"images/0\.jpg: no face"):
    build(npy_release, align=True, size=32, on_no_face="error")
  with pytest.raises(ValueError, match="no usable image was found"):
    build(npy_release, align=True, size=32)
  builder = build(npy_release, align=True, size=32, on_no_face="center")
  images = [example["image"] for example in builder.as_data_source("train")]
  assert {image.shape for image in images} == {(32, 32, 3)}
  assert summary(builder)["files"]["centered"] == 7


def test_alignment_uses_the_annotated_face(tmp_path):
  """Two synthetic faces in one image, of which the smaller is annotated."""
  clips = [clip_rendering.demo_clip(0, clip_rendering.DemoSubject(0, n), 0) for n in range(2)]
  large, other = (clip.frame(clip.onset) for clip in clips)
  small = cv2.resize(other, (250, 250), interpolation=cv2.INTER_AREA)
  photo = np.full((336, 700, 3), 90, np.uint8)
  photo[:, :336] = large
  photo[40:290, 420:670] = small
  folder = tmp_path / "source" / "Manually_Annotated_Images" / "7"
  folder.mkdir(parents=True)
  Image.fromarray(photo).save(folder / "two.png")
  box = (420 + 70, 40 + 80, 112, 112)
  (tmp_path / "source" / "training.csv").write_text(HEADER + row("7/two.png", 1, box))
  builder = build(tmp_path, align=True, size=96, encoding="png")
  face = builder.as_data_source("train")[0]["image"].astype(int)
  expected = align_image(small, 96).image
  other_face = align_image(large, 96).image
  assert np.abs(face - expected).mean() < 5 < np.abs(face - other_face).mean()
