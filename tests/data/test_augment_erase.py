"""Random erasing and cutout: the drawn boxes and their filling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_me.data.augment.augmentation import Augmentation, make_erasing, row_keys
from jax_me.data.augment.erase import Box, draw_cutout, draw_erasing, fill_box
from tests.helpers.drawn_images import drawn_image

pytestmark = pytest.mark.usefixtures("quick_compilation")

DRAWS = 10_000
KEYS = jax.random.split(jax.random.key(3), DRAWS)


def sides(boxes: Box) -> tuple[np.ndarray, np.ndarray]:
  return np.asarray(boxes.bottom - boxes.top), np.asarray(boxes.right - boxes.left)


def reference_erasing(rng, height, width, area, ratio):
  """One box by the loop of the reference implementations."""
  for _ in range(10):
    pixels = rng.uniform(*area) * height * width
    aspect = np.exp(rng.uniform(*np.log(ratio)))
    h, w = int(round(np.sqrt(pixels * aspect))), int(round(np.sqrt(pixels / aspect)))
    if h < height and w < width:
      return h, w
  return 0, 0


def test_erasing_has_the_reference_distribution():
  area, ratio = (0.02, 1 / 3), (0.3, 1 / 0.3)
  draw = jax.jit(jax.vmap(lambda key: draw_erasing(key, 40, 50, 0.25, area, ratio)))
  boxes = draw(KEYS)
  heights, widths = sides(boxes)
  erased = heights > 0
  assert erased.mean() == pytest.approx(0.25, abs=0.015)
  assert (widths[~erased] == 0).all()
  assert (boxes.top >= 0).all() and (boxes.bottom <= 40).all()
  assert (boxes.left >= 0).all() and (boxes.right <= 50).all()
  rng = np.random.default_rng(0)
  expected = np.array([reference_erasing(rng, 40, 50, area, ratio) for _ in range(DRAWS)])
  got = np.stack([heights[erased], widths[erased]], 1)
  for measure in (lambda hw: hw[:, 0], lambda hw: hw[:, 1], lambda hw: hw[:, 0] * hw[:, 1] / 2000):
    mean, spread = measure(expected).mean(), measure(expected).std()
    assert measure(got).mean() == pytest.approx(mean, abs=0.07 * spread)
    assert measure(got).std() == pytest.approx(spread, rel=0.06)
  free = (40 - heights)[erased]
  assert np.mean(np.asarray(boxes.top)[erased] / free) == pytest.approx(0.5, abs=0.02)


def test_a_box_that_cannot_fit_erases_nothing():
  box = draw_erasing(jax.random.key(0), 8, 8, 1.0, (1.0, 1.0), (1.0, 1.0))
  assert int(box.top) == int(box.bottom)


def test_cutout_is_centred_anywhere_and_clipped_at_the_border():
  boxes = jax.jit(jax.vmap(lambda key: draw_cutout(key, 20, 30, 0.4)))(KEYS)
  heights, widths = sides(boxes)
  assert heights.max() == widths.max() == 8
  assert heights.min() == widths.min() == 4  # centred on a border pixel
  # A side of 8 centred at one of 20 pixels: 8 except for 4 + 3 pixels, where 4..7 or 5..7 remain.
  assert heights.mean() == pytest.approx((13 * 8 + (4 + 5 + 6 + 7) + (7 + 6 + 5)) / 20, abs=0.05)
  assert np.mean(widths == 8) == pytest.approx(23 / 30, abs=0.02)


def test_boxes_are_filled_as_by_a_loop():
  image = drawn_image(10, 12)
  want = image.copy()
  for y in range(2, 7):
    for x in range(5, 12):
      want[y, x] = 0.5
  box = Box(*map(jnp.asarray, (2, 5, 7, 12)))
  np.testing.assert_array_equal(fill_box(jnp.asarray(image), box, jnp.float32(0.5)), want)
  empty = Box(*map(jnp.asarray, (3, 4, 3, 4)))
  np.testing.assert_array_equal(fill_box(jnp.asarray(image), empty, jnp.float32(9)), image)


def test_noise_is_standard_normal_and_other_pixels_are_unchanged():
  images = jnp.full((64, 24, 24, 3), 5.0)
  settings = Augmentation(erase_prob=1.0, erase_area=(0.2, 0.3), erase_ratio=(0.5, 2.0))
  erased = np.asarray(jax.jit(make_erasing(settings))(images, row_keys(jax.random.key(0), 64)))
  hole = (erased != 5.0).all(-1)
  assert 0.2 < hole.mean() < 0.3
  noise = erased[hole]
  assert noise.mean() == pytest.approx(0, abs=0.03)
  assert noise.std() == pytest.approx(1, abs=0.03)
  assert len(np.unique(erased[0][hole[0]])) > 100  # an independent value for each pixel and channel
  assert not np.array_equal(hole[0], hole[1])


def test_colour_mode_fills_each_box_with_one_colour():
  images = jnp.full((16, 12, 12, 3), 9.0)
  settings = Augmentation(erase_prob=1.0, erase_mode="colour")
  erased = np.asarray(jax.jit(make_erasing(settings))(images, row_keys(jax.random.key(0), 16)))
  colours = [np.unique(image[(image != 9.0).all(-1)], axis=0) for image in erased]
  assert all(len(colour) == 1 for colour in colours)
  assert len(np.unique(np.concatenate(colours))) == 16 * 3


def test_zero_mode_and_cutout_fill_with_the_mean_colour():
  images = jnp.full((8, 24, 24, 3), 5.0)
  settings = Augmentation(erase_prob=1.0, erase_mode="zero", cutout=0.5)
  erased = np.asarray(jax.jit(make_erasing(settings))(images, row_keys(jax.random.key(0), 8)))
  assert set(np.unique(erased)) == {0.0, 5.0}


def test_without_erasing_there_is_no_function():
  assert make_erasing(Augmentation(flip=0.5)) is None
