"""Colour jitter against Pillow's enhancers and the standard library's HSV."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from jax_me.data.augment.colour import ColourJitter, draw_colour, jitter_colour, shift_hue
from tests.helpers.drawn_images import drawn_image

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEYS = jax.random.split(jax.random.key(2), 10_000)


def colour(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0) -> ColourJitter:
  return ColourJitter(*map(jnp.float32, (brightness, contrast, saturation, hue)))


@pytest.mark.parametrize(
  "name, enhancer",
  [
    ("brightness", ImageEnhance.Brightness),
    ("contrast", ImageEnhance.Contrast),
    ("saturation", ImageEnhance.Color),
  ],
)
@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_jitter_equals_pillow(name, enhancer, factor):
  pixels = np.rint(drawn_image(20, 24) * 255).astype(np.uint8)
  want = np.asarray(enhancer(Image.fromarray(pixels)).enhance(factor)) / 255
  got = jitter_colour(jnp.asarray(pixels / 255.0, jnp.float32), colour(**{name: factor}), hue=False)
  # Pillow rounds the grey and the result to integers.
  np.testing.assert_allclose(got, want, atol=1.3 / 255)


@pytest.mark.parametrize("shift", [-0.25, -0.1, 0.2, 0.5])
def test_hue_equals_colorsys(shift):
  image = drawn_image(12, 12)
  image[0, :4] = [[0.5, 0.5, 0.5], [0, 0, 0], [1, 1, 1], [1, 0, 1]]
  want = np.empty_like(image)
  for pixel in np.ndindex(12, 12):
    hue, saturation, value = colorsys.rgb_to_hsv(*map(float, image[pixel]))
    want[pixel] = colorsys.hsv_to_rgb((hue + shift) % 1.0, saturation, value)
  np.testing.assert_allclose(shift_hue(jnp.asarray(image), jnp.float32(shift)), want, atol=2e-6)


def test_colours_stay_in_range_and_neutral_values_change_nothing():
  image = jnp.asarray(drawn_image(16, 16))
  strong = np.asarray(jitter_colour(image, colour(2.0, 2.0, 2.0, 0.4), hue=True))
  assert 0 <= strong.min() and strong.max() <= 1
  neutral = colour(0.3, 0.3, 2.0, 0.4).where(jnp.asarray(False))
  np.testing.assert_allclose(jitter_colour(image, neutral, hue=True), image, atol=1e-6)


def test_draws_are_uniform_in_their_ranges():
  drawn = jax.jit(jax.vmap(lambda key: draw_colour(key, 0.25, 0.4, 1.0, 0.1)))(KEYS)
  for values, middle, amount in zip(drawn, (1, 1, 1, 0), (0.25, 0.4, 1.0, 0.1), strict=True):
    values = np.asarray(values)
    assert middle - amount <= values.min() and values.max() <= middle + amount
    np.testing.assert_allclose(values.mean(), middle, atol=0.03 * amount)
    np.testing.assert_allclose(values.std(), amount / np.sqrt(3), rtol=0.02)
  assert abs(np.corrcoef(drawn)[np.triu_indices(4, 1)]).max() < 0.04
