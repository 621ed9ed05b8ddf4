"""Clip inputs: required frames and the images made from them."""

import cv2
import numpy as np
import pytest

from jax_me.data.clip_inputs import inputs, optical_flow
from jax_me.data.clip_inputs.inputs import INPUTS, frames_needed, make_clip_images

CLIP = {"onset": 10, "apex": 14, "offset": 20}


def needed(input, available=range(1, 31), count=0, **numbers):
  return frames_needed(input, **{**CLIP, **numbers}, available=available, count=count)


@pytest.fixture(scope="module")
def moving():
  """A textured disc on a textured ground, moving right, then back: frame number -> image."""
  rng = np.random.default_rng(0)
  noise = [cv2.GaussianBlur(rng.standard_normal((64, 64)), (0, 0), 2) for _ in range(2)]
  ground, texture = (120 + 60 * plane / plane.std() / 3 for plane in noise)
  y, x = np.mgrid[:64, :64]
  frames = {}
  for number in range(10, 21):
    shift = 1.5 * np.sin(np.pi * (number - 10) / 10)
    inside = np.clip(15 - np.hypot(x - 24 - shift, y - 32), 0, 1)
    matrix = np.array([[1, 0, shift], [0, 1, 0]])
    disc = cv2.warpAffine(texture + 50, matrix, (64, 64), flags=cv2.INTER_CUBIC)
    grey = np.clip(np.rint(ground + inside * (disc - ground)), 0, 255).astype(np.uint8)
    frames[number] = np.repeat(grey[..., None], 3, -1)
  return frames


def make_images(input, frames, **numbers):
  return make_clip_images(input, frames, **{**CLIP, "count": 0, **numbers})


def test_frames_that_each_input_needs():
  assert needed("apex") == needed("pair") == needed("flow") == [10, 14]
  assert needed("key_frames") == [10, 14, 20]
  assert needed("dynamic") == needed("frames") == list(range(10, 21))
  assert needed("frames", count=3) == [10, 15, 20]
  assert needed("frames", count=50) == list(range(10, 21))
  assert needed("apex", onset=14) == [14]


def test_unknown_numbers():
  assert needed("key_frames", onset=-1, offset=-1) == [1, 14, 30]
  assert needed("frames", onset=-1, apex=-1, offset=-1, count=2) == [1, 30]
  assert needed("dynamic", apex=-1) == list(range(10, 21))
  for input in ("apex", "pair", "flow", "key_frames"):
    with pytest.raises(ValueError, match=f"'{input}' needs the apex frame, and it is unknown"):
      needed(input, apex=-1)


def test_frames_that_are_missing():
  gaps = [3, 9, 11, 12, 14, 15, 19, 25]
  assert needed("dynamic", gaps) == [11, 12, 14, 15, 19]
  assert needed("frames", gaps, count=3) == [11, 15, 19]
  assert needed("apex", gaps) == [11, 14]  # The onset is used for alignment only.
  with pytest.raises(ValueError, match="onset frame 10 is not available; the clip has 8 frames, 3"):
    needed("flow", gaps)
  with pytest.raises(ValueError, match="apex frame 14 is not available"):
    needed("apex", [10, 11, 20])
  with pytest.raises(ValueError, match="offset frame 20"):
    needed("key_frames", range(10, 18))
  with pytest.raises(ValueError, match="no frame from onset 10 to offset 20"):
    needed("dynamic", [1, 2, 30])
  with pytest.raises(ValueError, match="no frames"):
    needed("dynamic", [])


@pytest.mark.parametrize(
  ("input", "numbers", "message"),
  [
    ("video", {}, "'video'"),
    ("apex", {"apex": 9}, "onset 10, apex 9, offset 20"),
    ("apex", {"apex": 21}, "apex 21"),
    ("dynamic", {"offset": 8, "apex": -1}, "offset 8"),
    ("frames", {"count": 1}, "at least 2"),
    ("frames", {"count": -1}, "at least 2"),
  ],
)
def test_invalid_requests(input, numbers, message):
  with pytest.raises(ValueError, match=message):
    needed(input, **numbers)


@pytest.mark.parametrize("input", INPUTS)
def test_images_from_the_required_frames(moving, input):
  frames = {number: moving[number] for number in needed(input, count=4)}
  images = make_images(input, frames, count=4)
  expected = {"key_frames": [10, 14, 20], "frames": [10, 13, 17, 20]}.get(input, [14])
  assert [number for number, _ in images] == expected
  for number, image in images:
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    if input in ("apex", "key_frames", "frames"):
      np.testing.assert_array_equal(image, moving[number])


def test_a_still_clip_is_neutral(moving):
  still = dict.fromkeys(moving, moving[10])
  np.testing.assert_array_equal(make_images("dynamic", still)[0][1], 128)
  (_, pair), (_, motion) = make_images("pair", still)[0], make_images("flow", still)[0]
  np.testing.assert_array_equal(pair, np.dstack([moving[10][..., :2], np.full((64, 64), 128)]))
  np.testing.assert_array_equal(motion, np.broadcast_to([128, 128, 0], motion.shape))


def test_a_bright_disc_moving_right_brightens_its_right_edge(moving):
  right, left = np.s_[26:38, 38:41], np.s_[26:38, 8:11]
  for image in (make_images("dynamic", moving)[0][1], make_images("pair", moving)[0][1][..., 2:]):
    assert image[right].mean() > 150 and image[left].mean() < 106
  u, v, strain = np.moveaxis(make_images("flow", moving)[0][1].astype(float), -1, 0)
  disc, outside = np.s_[24:40, 16:32], np.s_[:, 52:]
  shift = 1.5 * np.sin(0.4 * np.pi)
  np.testing.assert_allclose(u[disc].mean(), 127.5 + 127.5 * shift / (64 / 40), atol=10)
  assert abs(v[disc].mean() - 127.5) < 6 and abs(u[outside].mean() - 127.5) < 6
  assert strain[right].mean() > 4 * strain[outside].mean()


@pytest.mark.parametrize("input", ["pair", "dynamic", "flow"])
def test_a_mirrored_clip_gives_the_mirrored_image(moving, input):
  mirrored = {number: np.ascontiguousarray(face[:, ::-1]) for number, face in moving.items()}
  expected = make_images(input, moving)[0][1][:, ::-1].astype(float)
  found = make_images(input, mirrored)[0][1].astype(float)
  if input == "flow":
    expected[..., 0] = 255 - expected[..., 0]
    # DIS processes patches from the left, so equal only up to its own error.
    assert np.median(np.abs(found - expected)) <= 2
    assert np.quantile(np.abs(found - expected)[..., :2], 0.9) <= 12
  else:
    np.testing.assert_array_equal(found, expected)


def test_a_missing_frame_is_reported(moving):
  with pytest.raises(ValueError, match="'flow' needs frame 10"):
    make_images("flow", {14: moving[14]})
  with pytest.raises(ValueError, match="no frames"):
    make_images("dynamic", {})
  with_gaps = {number: moving[number] for number in (10, 12, 13, 18, 20)}
  assert make_images("dynamic", with_gaps, apex=-1)[0][0] == 13


def test_farneback_where_opencv_lacks_dis(moving, monkeypatch, caplog):
  expected = optical_flow.optical_flow(moving[10], moving[14], "farneback")
  monkeypatch.delattr(cv2, "DISOpticalFlow")
  image = inputs.motion_image(moving[10], moving[14])
  np.testing.assert_array_equal(image, optical_flow.flow_image(expected, 64 * inputs.FLOW_SCALE))
  assert "Farneback" in caplog.text


def test_a_coarser_grid_of_patches_measures_the_same_motion(moving):
  fine, coarse = (
    optical_flow.optical_flow(moving[10], moving[15], patch_stride=stride) for stride in (3, 6)
  )
  disc = np.s_[24:40, 16:32]
  np.testing.assert_allclose(fine[disc].mean((0, 1)), [1.5, 0], atol=0.15)
  np.testing.assert_allclose(coarse[disc].mean((0, 1)), [1.5, 0], atol=0.15)
  for stride in (0, 9):
    with pytest.raises(ValueError, match="patch_stride"):
      optical_flow.optical_flow(moving[10], moving[15], patch_stride=stride)
