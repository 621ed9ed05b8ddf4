"""Holes in one image: random erasing and cutout."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

MODES = ("pixel", "colour", "zero")

# Boxes drawn until one fits, as in timm and torchvision; all at once, for shapes must be fixed.
ATTEMPTS = 10


class Box(NamedTuple):
  """Whole pixels [top, bottom) x [left, right); empty where top = bottom."""

  top: jax.Array
  left: jax.Array
  bottom: jax.Array
  right: jax.Array


def draw_erasing(
  key: jax.Array,
  height: int,
  width: int,
  probability: float,
  area: tuple[float, float],
  ratio: tuple[float, float],
) -> Box:
  """A box anywhere inside the picture (random erasing, arXiv:1708.04896).

  A box that does not fit is drawn again, up to 10 times, which favours small ones where `area`
  is large; then nothing is erased.

  Args:
    key: PRNG key of this image.
    height, width: of the picture, pixels.
    probability: of erasing at all.
    area: share of the picture, uniform in (low, high).
    ratio: height / width of the box, log-uniform in (low, high).
  """
  # One draw for all numbers: many small ones take long to compile and to run.
  draws = jax.random.uniform(key, (3 + 2 * ATTEMPTS,))
  chosen, down, right = draws[:3]
  areas = area[0] + (area[1] - area[0]) * draws[3 : 3 + ATTEMPTS]
  ratios = ratio[0] * (ratio[1] / ratio[0]) ** draws[3 + ATTEMPTS :]
  pixels = areas * (height * width)
  heights = jnp.round(jnp.sqrt(pixels * ratios)).astype(jnp.int32)
  widths = jnp.round(jnp.sqrt(pixels / ratios)).astype(jnp.int32)
  fits = (heights < height) & (widths < width)
  first = jnp.argmax(fits)
  erased = (chosen < probability) & fits[first]
  box_height = jnp.where(erased, heights[first], 0)
  box_width = jnp.where(erased, widths[first], 0)
  top = whole_number(down, height - box_height + 1)
  left = whole_number(right, width - box_width + 1)
  return Box(top, left, top + box_height, left + box_width)


def draw_cutout(key: jax.Array, height: int, width: int, side: float) -> Box:
  """A square whose centre is any pixel, cut at the picture's border (cutout, arXiv:1708.04552).

  Args:
    key: PRNG key of this image.
    height, width: of the picture, pixels.
    side: of the square, as a share of the shorter side of the picture, in [0, 1].
  """
  pixels = round(side * min(height, width))
  down, right = jax.random.uniform(key, (2,))
  top = whole_number(down, height) - pixels // 2
  left = whole_number(right, width) - pixels // 2
  return Box(
    jnp.maximum(top, 0),
    jnp.maximum(left, 0),
    jnp.minimum(top + pixels, height),
    jnp.minimum(left + pixels, width),
  )


def whole_number(share: jax.Array, count: int | jax.Array) -> jax.Array:
  """A uniform number in [0, 1) -> a uniform one of 0, ..., count - 1 (count far below 2^23)."""
  return jnp.floor(share * count).astype(jnp.int32)


def box_mask(box: Box, height: int, width: int) -> jax.Array:
  """bool [height, width], True inside the box."""
  rows = jnp.arange(height)[:, None]
  columns = jnp.arange(width)[None, :]
  return (box.top <= rows) & (rows < box.bottom) & (box.left <= columns) & (columns < box.right)


def fill_box(image: jax.Array, box: Box, filling: jax.Array) -> jax.Array:
  """[H, W, C] with `filling` (broadcast to [H, W, C]) inside the box."""
  height, width, _ = image.shape
  return jnp.where(box_mask(box, height, width)[..., None], filling, image)
