"""Optical flow of known motions, and its image."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from jax_me.data.clip_inputs import optical_flow


@pytest.fixture(scope="module")
def texture():
  """A smooth random image, uint8 [96, 120, 3], with texture everywhere."""
  noise = np.random.default_rng(0).standard_normal((96, 120, 3)).astype(np.float32)
  smooth = sum(weight * cv2.GaussianBlur(noise, (0, 0), weight) for weight in (2, 4, 8))
  return np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def moved(image, matrix):
  """The image after the affine motion `matrix` [2, 3] (old position -> new position)."""
  inverse = cv2.invertAffineTransform(matrix)
  y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(float)
  source = inverse @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
  planes = [
    ndimage.map_coordinates(image[..., c].astype(float), source[::-1], order=5, mode="mirror")
    for c in range(3)
  ]
  result = np.stack(planes, -1).reshape(image.shape)
  return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def affine_flow(shape, matrix):
  """The flow of an affine motion [H, W, 2]."""
  y, x = np.mgrid[: shape[0], : shape[1]]
  old = np.stack([x, y], -1).astype(float)
  return old @ matrix[:, :2].T + matrix[:, 2] - old


MOTIONS = {
  "shift": np.array([[1, 0, 1.3], [0, 1, -0.7]]),
  "none": np.array([[1.0, 0, 0], [0, 1, 0]]),
  "expansion": np.array([[1.02, 0, -1.2], [0, 1.02, -0.96]]),
  "roll": cv2.getRotationMatrix2D((60, 48), 1.5, 1.0),
}


@pytest.mark.parametrize("method", optical_flow.METHODS)
@pytest.mark.parametrize("motion", MOTIONS)
def test_known_motion_is_found(texture, motion, method):
  matrix = MOTIONS[motion]
  found = optical_flow.optical_flow(texture, moved(texture, matrix), method)
  assert found.dtype == np.float32 and found.shape == (96, 120, 2)
  inside = np.s_[10:-10, 10:-10]
  error = np.linalg.norm(found - affine_flow(texture.shape, matrix), axis=-1)[inside]
  assert np.median(error) < 0.06
  assert np.quantile(error, 0.95) < 0.15


def test_grey_frames_are_the_same_as_colour(texture):
  grey = cv2.cvtColor(texture, cv2.COLOR_RGB2GRAY)
  after = moved(texture, MOTIONS["shift"])
  from_grey = optical_flow.optical_flow(grey, cv2.cvtColor(after, cv2.COLOR_RGB2GRAY))
  np.testing.assert_array_equal(from_grey, optical_flow.optical_flow(texture, after))


def test_strain_of_linear_motions():
  shape = (20, 30)
  for matrix, expected in [
    ([[1, 0, 3], [0, 1, -2]], 0.0),  # Translation.
    ([[1, -0.03, 0], [0.03, 1, 0]], 0.0),  # Rotation, to first order.
    ([[1.03, 0, 0], [0, 1.03, 0]], np.sqrt(2) * 0.03),  # e_xx = e_yy = 0.03.
    ([[1.03, 0, 0], [0, 1, 0]], 0.03),  # e_xx alone.
    ([[1, 0.03, 0], [0, 1, 0]], np.sqrt(2) * 0.015),  # Shear: e_xy = e_yx = 0.015.
  ]:
    strain = optical_flow.optical_strain(affine_flow(shape, np.array(matrix, float)))
    assert strain.shape == shape
    np.testing.assert_allclose(strain, expected, atol=1e-6)


def test_image_of_a_flow():
  motion = np.zeros((16, 16, 2), np.float32)
  assert np.all(np.abs(optical_flow.flow_image(motion, 2.0)[..., :2].astype(float) - 127.5) <= 0.5)
  motion[...] = [1.0, -5.0]
  image = optical_flow.flow_image(motion, 2.0)
  assert image.dtype == np.uint8 and image.shape == (16, 16, 3)
  np.testing.assert_array_equal(image[8, 8], [191, 0, 0])  # Half of the scale; clipped; no strain.
  stretched = affine_flow((16, 16), np.array([[1.1, 0, 0], [0, 1, 0]]))
  np.testing.assert_array_equal(
    optical_flow.flow_image(stretched, 2.0)[..., 2], round(255 * 0.1 * 8 / 2)
  )


def test_mirrored_flow_is_the_complement():
  motion = np.random.default_rng(0).normal(0, 0.7, (16, 16, 2))
  mirrored = motion[:, ::-1] * [-1, 1]
  image, other = (optical_flow.flow_image(m, 2.0).astype(int) for m in (motion, mirrored))
  np.testing.assert_array_equal(255 - image[:, ::-1, 0], other[..., 0])
  np.testing.assert_array_equal(image[:, ::-1, 1:], other[..., 1:])


@pytest.mark.parametrize(
  ("onset", "apex", "method", "message"),
  [
    (np.zeros((32, 32), np.float32), np.zeros((32, 32), np.uint8), "dis", "onset is float32"),
    (np.zeros((32, 32), np.uint8), np.zeros((32, 33), np.uint8), "dis", r"\[32, 33\]"),
    (np.zeros((8, 32), np.uint8), np.zeros((8, 32), np.uint8), "dis", "16x16"),
    (np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8), "tvl2", "tvl2"),
    (np.zeros((32, 32), np.uint8), np.zeros((4, 32, 32, 3), np.uint8), "dis", "apex is uint8"),
  ],
)
def test_invalid_frames(onset, apex, method, message):
  with pytest.raises(ValueError, match=message):
    optical_flow.optical_flow(onset, apex, method)


def test_invalid_flow_images():
  with pytest.raises(ValueError, match=r"\[H, W, 2\]"):
    optical_flow.flow_image(np.zeros((16, 16, 3)), 1.0)
  with pytest.raises(ValueError, match="above 0"):
    optical_flow.flow_image(np.zeros((16, 16, 2)), 0.0)
