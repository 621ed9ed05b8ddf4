"""Random erasing and cutout of one image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

MODES = ("pixel", "colour", "zero", "red")

# Tries until a box fits, as in timm and torchvision; drawn at once because shapes must be static.
ATTEMPTS = 10


class Box(NamedTuple):
  """Integer pixels [top, bottom) x [left, right); empty where top = bottom."""

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
  """Draws the box of random erasing, anywhere inside the image (arXiv:1708.04896).

  A box that does not fit is drawn again, up to 10 times, which favours small boxes where `area`
  is large; after that nothing is erased.

  Args:
    key: PRNG key of this image.
    height, width: of the image, pixels.
    probability: probability of erasing.
    area: share of the image, uniform in (low, high).
    ratio: height / width of the box, log-uniform in (low, high).

  Returns:
    the box, empty when nothing is erased.
  """
  # One draw for all numbers: many small draws are slow to compile and to run.
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
  top = uniform_integer(down, height - box_height + 1)
  left = uniform_integer(right, width - box_width + 1)
  return Box(top, left, top + box_height, left + box_width)


def draw_cutout(key: jax.Array, height: int, width: int, side: float) -> Box:
  """Draws the square of cutout (arXiv:1708.04552): centred at any pixel, clipped at the border.

  Args:
    key: PRNG key of this image.
    height, width: of the image, pixels.
    side: side of the square as a share of the shorter image side, in [0, 1].

  Returns:
    the clipped square.
  """
  pixels = round(side * min(height, width))
  down, right = jax.random.uniform(key, (2,))
  top = uniform_integer(down, height) - pixels // 2
  left = uniform_integer(right, width) - pixels // 2
  return Box(
    jnp.maximum(top, 0),
    jnp.maximum(left, 0),
    jnp.minimum(top + pixels, height),
    jnp.minimum(left + pixels, width),
  )


def uniform_integer(share: jax.Array, count: int | jax.Array) -> jax.Array:
  """Maps a uniform number in [0, 1) to a uniform integer in [0, count), count far below 2^23."""
  return jnp.floor(share * jnp.asarray(count, share.dtype)).astype(jnp.int32)


def box_mask(box: Box, height: int, width: int) -> jax.Array:
  """Mask of the pixels inside a box.

  Args:
    box: the box.
    height, width: of the image, pixels.

  Returns:
    bool [height, width], True inside the box.
  """
  rows = jnp.arange(height)[:, None]
  columns = jnp.arange(width)[None, :]
  return (box.top <= rows) & (rows < box.bottom) & (box.left <= columns) & (columns < box.right)


def fill_box(image: jax.Array, box: Box, filling: jax.Array) -> jax.Array:
  """Replaces the pixels inside a box.

  Args:
    image: [H, W, C].
    box: the box.
    filling: new values: [H, W, C], [C] or [].

  Returns:
    [H, W, C].
  """
  height, width, _ = image.shape
  filling = jnp.broadcast_to(filling, image.shape)
  return jnp.where(box_mask(box, height, width)[..., None], filling, image)
