"""Colour jitter of one image: brightness, contrast, saturation, hue."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

LUMA = (0.299, 0.587, 0.114)  # Weights of the grey value of an RGB pixel, ITU-R BT.601.


class ColourJitter(NamedTuple):
  """Drawn values: three factors (1 = none) and a hue shift in turns of the circle (0 = none)."""

  brightness: jax.Array
  contrast: jax.Array
  saturation: jax.Array
  hue: jax.Array

  def where(self, chosen: jax.Array) -> "ColourJitter":
    """These values where `chosen`, else those that change nothing."""
    none = (1.0, 1.0, 1.0, 0.0)
    return ColourJitter(*(jnp.where(chosen, v, n) for v, n in zip(self, none, strict=True)))


def draw_colour(
  key: jax.Array, brightness: float, contrast: float, saturation: float, hue: float
) -> ColourJitter:
  """Draws the colour jitter of one image.

  Args:
    key: PRNG key of this image.
    brightness, contrast, saturation: factors are uniform in 1 +- this amount, in [0, 1].
    hue: shift is uniform in +- this amount, turns of the circle in [0, 0.5].

  Returns:
    the drawn values.
  """
  keys = jax.random.split(key, 4)

  def uniform(k, middle, amount):
    return jax.random.uniform(k, minval=middle - amount, maxval=middle + amount)

  return ColourJitter(
    brightness=uniform(keys[0], 1.0, brightness),
    contrast=uniform(keys[1], 1.0, contrast),
    saturation=uniform(keys[2], 1.0, saturation),
    hue=uniform(keys[3], 0.0, hue),
  )


def jitter_colour(image: jax.Array, colour: ColourJitter, *, hue: bool) -> jax.Array:
  """Applies brightness, contrast about the mean grey, saturation about each pixel's grey, hue.

  Operations and clipping are those of torchvision's ColorJitter, but in a fixed order, where
  torchvision draws a new order for each image.

  Args:
    image: [H, W, 3] RGB in [0, 1].
    colour: values drawn for this image.
    hue: False skips the hue shift.

  Returns:
    [H, W, 3] in [0, 1].
  """
  luma = jnp.asarray(LUMA, image.dtype)
  image = jnp.clip(image * colour.brightness, 0.0, 1.0)
  grey = jnp.mean(image @ luma)
  image = jnp.clip(grey + (image - grey) * colour.contrast, 0.0, 1.0)
  grey_pixels = (image @ luma)[..., None]
  image = jnp.clip(grey_pixels + (image - grey_pixels) * colour.saturation, 0.0, 1.0)
  return shift_hue(image, colour.hue) if hue else image


def shift_hue(image: jax.Array, shift: jax.Array) -> jax.Array:
  """Shifts the hue in HSV space; value and saturation do not change.

  Args:
    image: [H, W, 3] RGB in [0, 1].
    shift: scalar, turns of the circle: red becomes green at 1/3.

  Returns:
    [H, W, 3] in [0, 1].
  """
  red, green, blue = image[..., 0], image[..., 1], image[..., 2]
  value = jnp.max(image, -1)
  chroma = value - jnp.min(image, -1)
  coloured = jnp.where(chroma > 0, chroma, 1.0)
  # Hue in sixths of the circle. Not `value == red`: a compiler may compute the two sides twice and
  # round them differently. Where channels are nearly equal both branches are right.
  sixths = jnp.where(
    (red >= green) & (red >= blue),
    (green - blue) / coloured,
    jnp.where(green >= blue, 2.0 + (blue - red) / coloured, 4.0 + (red - green) / coloured),
  )
  sixths = sixths + 6.0 * shift
  # Each channel drops by up to the chroma, a trapezoid function of the hue with its own offset.
  position = sixths[..., None] + jnp.asarray([[[5.0, 3.0, 1.0]]], image.dtype)
  position = position - 6.0 * jnp.floor(position / 6.0)  # jnp.mod is several times slower on CPU.
  drop = jnp.clip(jnp.minimum(position, 4.0 - position), 0.0, 1.0)
  return value[..., None] - chroma[..., None] * drop
