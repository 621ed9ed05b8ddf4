"""RandAugment of one image (arXiv:1909.13719), with the operations of timm's "rand-...-inc1".

timm applies Pillow operations to 8-bit images on the host; here they are computed on the device.
The values are whole grey levels in [0, 255], and the results are those of Pillow, except that
rounding may differ by one level.
"""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np

# timm's `_RAND_INCREASING_TRANSFORMS`, in its order.
OPERATIONS = (
  "AutoContrast",
  "Equalize",
  "Invert",
  "Rotate",
  "PosterizeIncreasing",
  "SolarizeIncreasing",
  "SolarizeAdd",
  "ColorIncreasing",
  "ContrastIncreasing",
  "BrightnessIncreasing",
  "SharpnessIncreasing",
  "ShearX",
  "ShearY",
  "TranslateXRel",
  "TranslateYRel",
)
INTERPOLATIONS = ("bicubic", "random")
DEFAULT_FILL = 128  # Grey level outside the image if the mean of the images is not known.
_MAX_LEVEL = 10.0
_GREY_LEVELS = 256

# Pillow's conversion to grey, in 1/65536, and its filter SMOOTH.
_LUMA = (19595, 38470, 7471)
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


@dataclasses.dataclass(frozen=True)
class RandAugmentSettings:
  """Numbers of a timm string such as "rand-m9-mstd0.5-inc1".

  Attributes:
    magnitude: mean strength of an operation, of 10.
    magnitude_std: standard deviation of the strength, which is clipped to [0, 10].
    layers: operations drawn per image, with repetition.
    prob: probability of applying a drawn operation.
  """

  magnitude: float = 10.0
  magnitude_std: float = 0.0
  layers: int = 2
  prob: float = 0.5


def parse_rand_augment(text: str) -> RandAugmentSettings:
  """Reads timm's description of a RandAugment.

  Args:
    text: "rand", then any of -m<magnitude>, -mstd<deviation>, -n<layers>, -p<probability>; -inc1
      is required.

  Raises:
    ValueError: another description.
  """
  first, *parts = text.split("-")
  found: dict[str, float] = {}
  for part in parts:
    match = re.fullmatch(r"(mstd|m|n|p|inc)(\d+(?:\.\d+)?)", part)
    if match:
      found[match[1]] = float(match[2])
  layers = found.get("n", 2.0)
  possible = (
    found.get("m", 0) <= _MAX_LEVEL and layers >= 1 and layers % 1 == 0 and found.get("p", 0) <= 1
  )
  if first != "rand" or len(found) != len(parts) or found.pop("inc", 0) != 1 or not possible:
    raise ValueError(
      f'augment.rand_augment must be like "rand-m9-mstd0.5-inc1" (m at most 10, p at most 1; n, p '
      f"and mstd are optional, inc1 is required), got {text!r}"
    )
  return RandAugmentSettings(
    magnitude=found.get("m", _MAX_LEVEL),
    magnitude_std=found.get("mstd", 0.0),
    layers=int(layers),
    prob=found.get("p", 0.5),
  )


def rand_augment(
  image: jax.Array,
  key: jax.Array,
  settings: RandAugmentSettings,
  fill: jax.Array,
  *,
  interpolation: str = "bicubic",
) -> jax.Array:
  """Applies randomly drawn operations to an image.

  Args:
    image: [H, W, 3] grey levels in [0, 255].
    key: PRNG key of this image.
    settings: strength and number of the operations.
    fill: [3] grey levels outside the image after a geometric operation.
    interpolation: of geometric operations, "bicubic" or "random" (each time bilinear or bicubic).

  Returns:
    [H, W, 3] whole grey levels in [0, 255].
  """
  image = jnp.rint(image)
  for layer in range(settings.layers):
    draws_key, level_key = jax.random.split(jax.random.fold_in(key, layer))
    applied, which, sign, method = jax.random.uniform(draws_key, (4,))
    operation = jnp.floor(which * len(OPERATIONS)).astype(jnp.int32)
    level = settings.magnitude + settings.magnitude_std * jax.random.normal(level_key)
    level = jnp.clip(level, 0.0, _MAX_LEVEL)
    argument = operation_arguments(level, sign > 0.5)[operation]
    bicubic = jnp.asarray(True) if interpolation == "bicubic" else method < 0.5
    changed = apply_operation(image, operation, argument, fill, bicubic)
    image = jnp.where(applied <= settings.prob, changed, image)
  return image


def operation_arguments(level: jax.Array, negate: jax.Array) -> jax.Array:
  """The argument of each operation at a strength.

  Args:
    level: strength in [0, 10].
    negate: bool, whether the direction is reversed, for operations that have one.

  Returns:
    [15] in the order of OPERATIONS: degrees, bits to keep, threshold, grey levels to add, factor
    of an enhancement, shear, or shift as a fraction of the side; 0 where there is none.
  """
  part = level / _MAX_LEVEL
  sign = jnp.where(negate, -1.0, 1.0)
  enhanced = jnp.maximum(0.1, 1.0 + sign * 0.9 * part)
  none = jnp.zeros_like(part)
  arguments = (
    *(none, none, none),
    sign * 30.0 * part,
    4.0 - jnp.floor(4.0 * part),
    256.0 - jnp.minimum(256.0, jnp.floor(256.0 * part)),
    jnp.minimum(128.0, jnp.floor(110.0 * part)),
    *(enhanced, enhanced, enhanced, enhanced),
    *(sign * 0.3 * part, sign * 0.3 * part),
    *(sign * 0.45 * part, sign * 0.45 * part),
  )
  return jnp.stack(arguments)


def apply_operation(
  image: jax.Array, operation: jax.Array, argument: jax.Array, fill: jax.Array, bicubic: jax.Array
) -> jax.Array:
  """Applies one operation, whose index may be traced.

  All operations are one warp, one table of grey levels per channel and one blend with a changed
  image, of which two do nothing; this costs less than computing all operations.

  Args:
    image: [H, W, 3] whole grey levels in [0, 255].
    operation: index in OPERATIONS.
    argument: as in `operation_arguments`.
    fill: [3] grey levels outside the image.
    bicubic: bool, interpolation of a warp: bicubic, else bilinear.

  Returns:
    [H, W, 3] whole grey levels in [0, 255].
  """

  def is_operation(*names: str) -> jax.Array:
    return jnp.any(operation == jnp.asarray([OPERATIONS.index(name) for name in names]))

  image = image.astype(jnp.float32)
  warps = is_operation("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
  warped = _warp(image, _matrix(operation, argument, *image.shape[:2]), fill, bicubic)
  mapped = jnp.take_along_axis(
    _table(image, operation, argument).reshape(_GREY_LEVELS, 3),
    image.reshape(-1, 3).astype(jnp.int32),
    axis=0,
  ).reshape(image.shape)
  grey = jnp.broadcast_to(_grey(image)[..., None], image.shape)
  degenerate = jnp.where(is_operation("ColorIncreasing"), grey, _smooth(image))
  blended = _blend(degenerate, image, argument)
  blends = is_operation("ColorIncreasing", "SharpnessIncreasing")
  return jnp.where(warps, warped, jnp.where(blends, blended, mapped))


def _grey(image: jax.Array) -> jax.Array:
  weighted = image.astype(jnp.int32) @ jnp.asarray(_LUMA, jnp.int32)
  return ((weighted + 0x8000) >> 16).astype(image.dtype)


def _blend(degenerate: jax.Array, image: jax.Array, factor: jax.Array) -> jax.Array:
  """Pillow's ImageEnhance: between (factor < 1) or beyond the two images, rounded down."""
  return jnp.floor(jnp.clip(degenerate + factor * (image - degenerate), 0, 255))


def _smooth(image: jax.Array) -> jax.Array:
  """Pillow's filter SMOOTH, which leaves the border as it is."""
  height, width, _ = image.shape
  total = sum(
    _SMOOTH[down, right] * image[down : height - 2 + down, right : width - 2 + right]
    for down in range(3)
    for right in range(3)
  )
  return image.at[1:-1, 1:-1].set(jnp.floor(jnp.clip(total + 0.5, 0, 255)))


def _table(image: jax.Array, operation: jax.Array, argument: jax.Array) -> jax.Array:
  """New grey level of each grey level and channel, [256, 3]."""
  levels = jnp.broadcast_to(jnp.arange(_GREY_LEVELS, dtype=image.dtype)[:, None], (_GREY_LEVELS, 3))
  mean = jnp.floor(jnp.mean(_grey(image)) + 0.5)
  kept = jnp.exp2(8.0 - argument)  # Grey levels that become one in "posterize".
  tables = {
    "AutoContrast": _autocontrast_table(image, levels),
    "Equalize": _equalize_table(image, levels),
    "Invert": 255 - levels,
    "PosterizeIncreasing": jnp.floor(levels / kept) * kept,
    "SolarizeIncreasing": jnp.where(levels < argument, levels, 255 - levels),
    "SolarizeAdd": jnp.where(levels < 128, jnp.minimum(255, levels + argument), levels),
    "ContrastIncreasing": _blend(mean, levels, argument),
    "BrightnessIncreasing": _blend(jnp.zeros_like(levels), levels, argument),
  }
  positions = [1 + list(tables).index(name) if name in tables else 0 for name in OPERATIONS]
  return jnp.stack([levels, *tables.values()])[jnp.asarray(positions)[operation]]


def _autocontrast_table(image: jax.Array, levels: jax.Array) -> jax.Array:
  low, high = jnp.min(image, (0, 1))[None], jnp.max(image, (0, 1))[None]
  stretched = jnp.floor((levels - low) * 255 / jnp.maximum(high - low, 1))
  return jnp.where(high > low, jnp.clip(stretched, 0, 255), levels)


def _equalize_table(image: jax.Array, levels: jax.Array) -> jax.Array:
  pixels = image.reshape(-1, 3).astype(jnp.int32)
  histogram = jnp.zeros((_GREY_LEVELS, 3), jnp.int32).at[pixels, jnp.arange(3)[None]].add(1)
  brightest = jnp.take_along_axis(histogram, jnp.max(pixels, 0)[None], axis=0)
  step = (len(pixels) - brightest) // 255
  below = jnp.cumsum(histogram, 0) - histogram
  equalized = (step // 2 + below) // jnp.maximum(step, 1)
  return jnp.where(step > 0, jnp.clip(equalized, 0, 255).astype(levels.dtype), levels)


def _matrix(operation: jax.Array, argument: jax.Array, height: int, width: int) -> jax.Array:
  """Matrix [2, 3] from positions (x, y, 1) in the result to positions in the image."""
  angle = -argument * (math.pi / 180)
  cosine, sine = jnp.cos(angle), jnp.sin(angle)
  centre_x, centre_y = width / 2, height / 2
  one, none = jnp.ones_like(argument), jnp.zeros_like(argument)
  rotation = (
    *(cosine, sine, centre_x - cosine * centre_x - sine * centre_y),
    *(-sine, cosine, centre_y + sine * centre_x - cosine * centre_y),
  )
  matrices = {
    "Rotate": rotation,
    "ShearX": (one, argument, none, none, one, none),
    "ShearY": (one, none, none, argument, one, none),
    "TranslateXRel": (one, none, argument * width, none, one, none),
    "TranslateYRel": (one, none, none, none, one, argument * height),
  }
  positions = [1 + list(matrices).index(name) if name in matrices else 0 for name in OPERATIONS]
  identity = (one, none, none, none, one, none)
  stacked = jnp.stack([jnp.stack(entries) for entries in (identity, *matrices.values())])
  return stacked[jnp.asarray(positions)[operation]].reshape(2, 3)


def _warp(image: jax.Array, matrix: jax.Array, fill: jax.Array, bicubic: jax.Array) -> jax.Array:
  """Affine transform as in Pillow: cubic kernel with a = -1, edge pixels repeated."""
  height, width, _ = image.shape
  x = jnp.arange(width, dtype=image.dtype)[None, :] + 0.5
  y = jnp.arange(height, dtype=image.dtype)[:, None] + 0.5
  source_x = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
  source_y = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
  inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
  column, row = jnp.floor(source_x - 0.5), jnp.floor(source_y - 0.5)
  across = _taps(source_x - 0.5 - column, bicubic)
  down = _taps(source_y - 0.5 - row, bicubic)
  column, row = column.astype(jnp.int32), row.astype(jnp.int32)
  pixels = image.reshape(-1, 3)
  total = jnp.zeros_like(image)
  for i in range(4):
    line = jnp.clip(row + i - 1, 0, height - 1) * width
    part = jnp.zeros_like(image)
    for j in range(4):
      position = line + jnp.clip(column + j - 1, 0, width - 1)
      part = part + across[j][..., None] * pixels[position]
    total = total + down[i][..., None] * part
  return jnp.where(inside[..., None], jnp.floor(jnp.clip(total, 0, 255)), fill[None, None])


def _taps(offset: jax.Array, bicubic: jax.Array) -> list[jax.Array]:
  """Weights of the four pixels around a position, `offset` in [0, 1) after the second."""
  rest = 1.0 - offset
  cubic = (
    -offset * rest**2,
    1.0 - offset**2 * (2.0 - offset),
    1.0 - rest**2 * (2.0 - rest),
    -rest * offset**2,
  )
  linear = (jnp.zeros_like(offset), rest, offset, jnp.zeros_like(offset))
  return [jnp.where(bicubic, c, straight) for c, straight in zip(cubic, linear, strict=True)]
