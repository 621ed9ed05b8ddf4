"""Where the pixels of one image go: random crop, mirror, affine; optical flow follows."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Boxes drawn until one fits, as in torchvision; all at once, for shapes must be fixed.
ATTEMPTS = 10


class CropBox(NamedTuple):
  """A box in pixels, with fractions: the top left corner and the sides."""

  top: jax.Array
  left: jax.Array
  height: jax.Array
  width: jax.Array


class Affine(NamedTuple):
  """What moves: turn about the centre (radians, clockwise), then zoom, then shift in pixels."""

  angle: jax.Array
  zoom: jax.Array
  down: jax.Array
  right: jax.Array

  def where(self, chosen: jax.Array) -> "Affine":
    """This transform where `chosen`, else none."""
    none = (0.0, 1.0, 0.0, 0.0)
    return Affine(*(jnp.where(chosen, v, n) for v, n in zip(self, none, strict=True)))


def draw_crop(
  key: jax.Array,
  height: int,
  width: int,
  scale: tuple[float, float],
  ratio: tuple[float, float] = (1.0, 1.0),
) -> CropBox:
  """The box of torchvision's RandomResizedCrop, but at sub-pixel places.

  A box that does not fit is drawn again, up to 10 times; then it is the largest central one whose
  ratio is allowed.

  Args:
    key: PRNG key of this image.
    height, width: of the picture, pixels.
    scale: share of the area, uniform.
    ratio: width / height, log-uniform.
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
  """The box, resized to [size, size, C]: bicubic (a = -0.5), antialiased where it shrinks.

  That is the kernel of Pillow, and so of torchvision's bicubic on PIL images and, with antialias,
  on tensors; a = -0.75 is torch's for interpolation without antialias. Pillow also rounds to
  whole grey levels after each direction.

  Args:
    image: [H, W, C] float in [0, 1].
    box: inside the picture. Its border is no wall: the kernel reaches pixels beyond it, like
      Pillow's `resize(box=...)`.
    size: side of the result in pixels.

  Returns:
    [size, size, C] in [0, 1] (the overshoot of the cubic kernel is clipped).
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


def mirror(image: jax.Array, *, flow: bool) -> jax.Array:
  """Left becomes right; with `flow`, channel 0 (horizontal motion, 0.5 = none) changes sign."""
  mirrored = image[:, ::-1, :]
  if flow:
    mirrored = mirrored.at[..., 0].set(1.0 - mirrored[..., 0])
  return mirrored


def draw_affine(
  key: jax.Array, size: int, rotation: float, translate: float, zoom: tuple[float, float]
) -> Affine:
  """As torchvision's RandomAffine, but shifts are not rounded to whole pixels.

  Args:
    key: PRNG key of this image.
    size: side of the picture, pixels.
    rotation: degrees; the angle is uniform in +- rotation.
    translate: both shifts are uniform in +- translate * size.
    zoom: uniform in (low, high).
  """
  angle, factor, down, right = jax.random.uniform(key, (4,))
  shift = translate * size
  return Affine(
    angle=math.radians(rotation) * (2 * angle - 1),
    zoom=zoom[0] + (zoom[1] - zoom[0]) * factor,
    down=shift * (2 * down - 1),
    right=shift * (2 * right - 1),
  )


def move(image: jax.Array, affine: Affine, fill: jax.Array, *, rotates: bool) -> jax.Array:
  """Turns, zooms and shifts about the centre, bilinearly.

  A pixel whose centre comes from outside the picture gets `fill`; at the border the outermost
  pixels are continued (as Pillow does). Shrinking is not antialiased.

  Args:
    image: [S, S, C].
    affine: what was drawn.
    fill: [C].
    rotates: False: the angle is 0. Then rows and columns are resampled one after the other, by
      matrix products, which accelerators prefer to a gather.

  Returns:
    [S, S, C].
  """
  size = image.shape[0]
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
  steps = jnp.arange(size) - (size - 1) / 2
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

  def is_inside(place):
    return (place >= -0.5) & (place <= size - 0.5)

  inside = is_inside(source_y) & is_inside(source_x)
  return jnp.where(inside[..., None], (1 - below) * upper + below * lower, fill)


def rotate_flow(image: jax.Array, angle: jax.Array) -> jax.Array:
  """Turns the vectors (u right, v down; 0.5 = none) of channels 0 and 1 clockwise by `angle`.

  Components that leave [0, 1] are clipped, as in the making of the picture.
  """
  right, down = image[..., 0] - 0.5, image[..., 1] - 0.5
  cosine, sine = jnp.cos(angle), jnp.sin(angle)
  turned = [right * cosine - down * sine, right * sine + down * cosine]
  return jnp.concatenate([jnp.clip(jnp.stack(turned, -1) + 0.5, 0.0, 1.0), image[..., 2:]], -1)
