"""Resize and crop of whole images: as Pillow, timm and transformers do it."""

import functools

import numpy as np
import PIL.Image
import pytest

from jax_me.image_preparation import ImagePreparation, resize_image

SHAPES = [(300, 400), (401, 300), (50, 90), (64, 64), (224, 224), (33, 900)]
BICUBIC = PIL.Image.Resampling.BICUBIC


def image_of(shape):
  return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_shortest_edge_and_central_crop(shape):
  image = image_of(shape)
  height, width = shape
  prepared = ImagePreparation(64, "shortest_edge", 73, 64 / 73, "bicubic", "down").apply(image)
  size = (int(73 * width / height), 73) if height < width else (73, int(73 * height / width))
  desired = np.asarray(PIL.Image.fromarray(image).resize(size, BICUBIC))
  top, left = ((length - 64) // 2 for length in desired.shape[:2])
  np.testing.assert_array_equal(prepared, desired[top : top + 64, left : left + 64])


def test_odd_crops_are_rounded_as_the_library_does():
  image = image_of((67, 69))
  rows = {}
  for rounding in ("down", "half_even"):
    keep = ImagePreparation(64, "none", 64, 1.0, "bilinear", rounding)
    prepared = keep.apply(image)
    rows[rounding] = int(np.flatnonzero((image[:, 2] == prepared[0, 0]).all(-1))[0])
  assert rows == {"down": 1, "half_even": 2}  # 1.5 pixels are left over on each side.


def test_small_images_are_padded():
  image = image_of((10, 40))
  keep = ImagePreparation(20, "none", 20, 1.0, "bilinear")
  prepared = keep.apply(image, mean=(1.0, 1.0, 1.0))
  np.testing.assert_array_equal(prepared[5:15], image[:, 10:30])
  assert not prepared[:5].any() and not prepared[15:].any()
  border = ImagePreparation(20, "longest_edge", 20, 1.0, "bilinear")
  filled = border.apply(image, mean=(1.0, 0.5, 0.0))
  np.testing.assert_array_equal(filled[0, 0], [255, 128, 0])
  assert (filled[7:12] != [255, 128, 0]).any()


def test_the_default_is_the_resize_of_the_datasets():
  image = image_of((90, 70))
  np.testing.assert_array_equal(ImagePreparation(32).apply(image), resize_image(image, 32))


def test_very_long_images_need_little_memory():
  image = np.zeros((3, 60_000, 3), np.uint8)
  prepared = ImagePreparation(224, "shortest_edge", 256, 0.875, "bicubic").apply(image)
  assert prepared.shape == (224, 224, 3)


@pytest.mark.parametrize(
  ("settings", "words"),
  [
    (dict(resize="squash"), "resize must be one of"),
    (dict(interpolation="cubic"), "interpolation must be one of"),
    (dict(resize_to=-3), "resize_to must be"),
    (dict(resize_to=10**9), "resize_to must be"),
    (dict(crop_fraction=float("nan")), "crop_fraction must be"),
    (dict(crop_rounding="up"), "crop_rounding must be one of"),
    (dict(resize_to=40), "area stretches"),
  ],
)
def test_impossible_settings(settings, words):
  with pytest.raises(ValueError, match=words):
    ImagePreparation(32, **settings)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "box"])
@pytest.mark.parametrize(
  ("mode", "resize"),
  [("center", "shortest_edge"), ("squash", "stretch"), ("border", "longest_edge")],
)
def test_equal_to_timm(interpolation, mode, resize):
  data = pytest.importorskip("timm.data", reason="compares with timm, which is not installed")
  transform = data.create_transform(
    (3, 64, 64),
    is_training=False,
    interpolation=interpolation,
    crop_pct=0.9,
    crop_mode=mode,
    mean=(0.1, 0.5, 0.7),
    normalize=False,
  )
  preparation = ImagePreparation(64, resize, 71, 0.9, interpolation)
  prepare = functools.partial(preparation.apply, mean=(0.1, 0.5, 0.7))
  for shape in SHAPES:
    image = image_of(shape)
    desired = transform(PIL.Image.fromarray(image)).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(prepare(image), desired)
