"""Geometric augmentation of one image or optical flow: random crop, flip, affine transform."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Tries until a box fits, as in torchvision; drawn at once because shapes must be static.
ATTEMPTS = 10


class CropBox(NamedTuple):
  """A box in sub-pixel coordinates: the top left corner and the sides."""

  top: jax.Array
  left: jax.Array
  height: jax.Array
  width: jax.Array


class Affine(NamedTuple):
  """Rotation about the centre (radians, clockwise), then zoom, then shift in pixels."""

  angle: jax.Array
  zoom: jax.Array
  down: jax.Array
  right: jax.Array

  def where(self, chosen: jax.Array) -> "Affine":
    """This transform where `chosen`, else the identity."""
    none = (0.0, 1.0, 0.0, 0.0)
    return Affine(*(jnp.where(chosen, v, n) for v, n in zip(self, none, strict=True)))


def draw_crop(
  key: jax.Array,
  height: int,
  width: int,
  scale: tuple[float, float],
  ratio: tuple[float, float] = (1.0, 1.0),
) -> CropBox:
  """Draws the box of torchvision's RandomResizedCrop, but with sub-pixel coordinates.

  A box that does not fit is drawn again, up to 10 times; after that the largest central box with
  an allowed ratio is used.

  Args:
    key: PRNG key of this image.
    height, width: of the image, pixels.
    scale: share of the area, uniform.
    ratio: width / height, log-uniform.

  Returns:
    the box.
  """
  area_key, ratio_key, y_key, x_key = jax.random.split(key, 4)
  areas = (
    height * width * jax.random.uniform(area_key, (ATTEMPTS,), minval=scale[0], maxval=scale[1])
  )
  aspects = jnp.exp(
    jax.random.uniform(ratio_key, (ATTEMPTS,), minval=math.log(ratio[0]), maxval=math.log(ratio[1]))
  )
  widths, heights = jnp.sqrt(areas * aspects), jnp.sqrt(areas / aspects)
  fits = (widths <= width) & (heights <= height)
  first = jnp.argmax(fits)
  whole_width = min(width, height * ratio[1])
  whole_height = min(height, width / ratio[0])
  box_width = jnp.where(fits[first], widths[first], whole_width)
  box_height = jnp.where(fits[first], heights[first], whole_height)
  down = jnp.where(fits[first], jax.random.uniform(y_key), 0.5)
  right = jnp.where(fits[first], jax.random.uniform(x_key), 0.5)
  return CropBox(down * (height - box_height), right * (width - box_width), box_height, box_width)


def crop_and_resize(image: jax.Array, box: CropBox, size: int) -> jax.Array:
  """Crops and resizes: bicubic (a = -0.5), antialiased when shrinking.

  Same kernel as Pillow, and therefore as torchvision's bicubic on PIL images and, with antialias,
  on tensors; torch without antialias uses a = -0.75. Unlike Pillow there is no rounding to
  integer grey levels after each direction.

  Args:
    image: [H, W, C] float in [0, 1].
    box: box inside the image. The kernel also uses pixels beyond its border, like Pillow's
      `resize(box=...)`.
    size: side of the result in pixels.

  Returns:
    [size, size, C] in [0, 1] (overshoot of the cubic kernel is clipped).
  """
  zoom = jnp.stack([size / box.height, size / box.width])
  crop = jax.image.scale_and_translate(
    image,
    (size, size, image.shape[-1]),
    (0, 1),
    zoom,
    -jnp.stack([box.top, box.left]) * zoom,
    method="cubic",
    antialias=True,
  )
  return jnp.clip(crop, 0.0, 1.0)


def flip_horizontal(image: jax.Array, *, flow: bool) -> jax.Array:
  """Flips left and right; with `flow`, channel 0 (horizontal motion, 0.5 = none) changes sign."""
  flipped = image[:, ::-1, :]
  if flow:
    flipped = flipped.at[..., 0].set(1.0 - flipped[..., 0])
  return flipped


def draw_affine(
  key: jax.Array, size: int, rotation: float, translate: float, zoom: tuple[float, float]
) -> Affine:
  """Draws the parameters of torchvision's RandomAffine, but without rounding shifts to pixels.

  Args:
    key: PRNG key of this image.
    size: side of the image, pixels.
    rotation: degrees; the angle is uniform in +- rotation.
    translate: both shifts are uniform in +- translate * size.
    zoom: uniform in (low, high).

  Returns:
    the drawn transform.
  """
  angle, factor, down, right = jax.random.uniform(key, (4,))
  shift = translate * size
  return Affine(
    angle=math.radians(rotation) * (2 * angle - 1),
    zoom=zoom[0] + (zoom[1] - zoom[0]) * factor,
    down=shift * (2 * down - 1),
    right=shift * (2 * right - 1),
  )


def apply_affine(image: jax.Array, affine: Affine, fill: jax.Array, *, rotates: bool) -> jax.Array:
  """Rotates, zooms and shifts about the centre with bilinear interpolation.

  A pixel whose source is outside the image gets `fill`; at the border the edge pixels are
  repeated, as in Pillow. Shrinking is not antialiased.

  Args:
    image: [S, S, C].
    affine: the drawn transform.
    fill: [C].
    rotates: False when the angle is 0. Rows and columns are then resampled separately by matrix
      products, which are faster than a gather on accelerators.

  Returns:
    [S, S, C].
  """
  size = image.shape[0]
  fill = fill[None, None]
  if not rotates:
    middle = size / 2 * (1.0 - affine.zoom)
    moved = jax.image.scale_and_translate(
      image - fill,
      image.shape,
      (0, 1),
      jnp.stack([affine.zoom, affine.zoom]),
      jnp.stack([middle + affine.down, middle + affine.right]),
      method="linear",
      antialias=False,
    )
    return moved + fill
  steps = jnp.arange(size, dtype=image.dtype) - (size - 1) / 2
  y = (steps - affine.down)[:, None] / affine.zoom
  x = (steps - affine.right)[None, :] / affine.zoom
  cosine, sine = jnp.cos(affine.angle), jnp.sin(affine.angle)
  source_y = y * cosine - x * sine + (size - 1) / 2
  source_x = y * sine + x * cosine + (size - 1) / 2

  floor_y, floor_x = jnp.floor(source_y), jnp.floor(source_x)
  below, beside = (source_y - floor_y)[..., None], (source_x - floor_x)[..., None]
  row, column = floor_y.astype(jnp.int32), floor_x.astype(jnp.int32)

  def pixel(down, right):
    return image[jnp.clip(row + down, 0, size - 1), jnp.clip(column + right, 0, size - 1)]

  upper = (1 - beside) * pixel(0, 0) + beside * pixel(0, 1)
  lower = (1 - beside) * pixel(1, 0) + beside * pixel(1, 1)

  def is_inside(position):
    return (position >= -0.5) & (position <= size - 0.5)

  inside = is_inside(source_y) & is_inside(source_x)
  return jnp.where(inside[..., None], (1 - below) * upper + below * lower, fill)


def rotate_flow(image: jax.Array, angle: jax.Array) -> jax.Array:
  """Rotates the vectors (u right, v down; 0.5 = none) of channels 0 and 1 clockwise by `angle`.

  Components outside [0, 1] are clipped, as in `optical_flow.flow_image`.
  """
  right, down = image[..., 0] - 0.5, image[..., 1] - 0.5
  cosine, sine = jnp.cos(angle), jnp.sin(angle)
  rotated = [right * cosine - down * sine, right * sine + down * cosine]
  return jnp.concatenate([jnp.clip(jnp.stack(rotated, -1) + 0.5, 0.0, 1.0), image[..., 2:]], -1)
