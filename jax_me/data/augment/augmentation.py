"""Image augmentation on the device, one PRNG key per image: crop, flip, colour, affine, erasing."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jax_me.data.augment.colour import draw_colour, jitter_colour
from jax_me.data.augment.erase import MODES, Box, draw_cutout, draw_erasing, fill_box
from jax_me.data.augment.geometry import (
  apply_affine,
  crop_and_resize,
  draw_affine,
  draw_crop,
  flip_horizontal,
  rotate_flow,
)
from jax_me.data.augment.rand_augment import (
  DEFAULT_FILL,
  INTERPOLATIONS,
  parse_rand_augment,
  rand_augment,
)

# (images, one PRNG key per row) -> images
BatchTransform = Callable[[jax.Array, jax.Array], jax.Array]

# Folded into a row's key, since the other transforms before normalisation split that key.
_ERASING_DATA = 0x45524153
_RAND_AUGMENT_DATA = 0x52414E44

CROP_SOURCES = ("read", "stored")
RED = np.array([1.0, 0.0, 0.0], np.float32)


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Ranges of the random transforms, in order of application; the defaults change nothing.

  Attributes:
    crop_scale: area of the random crop as a share of the image, (smallest, largest) in (0, 1],
      drawn uniformly; the crop is resized (bicubic, antialiased) to the model's size.
    crop_ratio: width / height of the crop, drawn log-uniformly.
    crop_source: "read" crops the images of the batch; "stored" says that they are crops already,
      see `random_crop.RandomCrop`.
    crop_interpolation: "bicubic"; with "stored" also "random".
    flip: probability of a horizontal flip.
    rand_augment: description of a RandAugment, see `rand_augment.parse_rand_augment`; "" for none.
    rand_interpolation: of its geometric operations, "bicubic" or "random".
    jitter_prob: probability of the colour and affine transforms of an image: all of them or none.
    brightness, contrast, saturation: largest change of the factor, e.g. 0.25 for [0.75, 1.25].
    hue: largest shift of the hue, in [0, 0.5] of the colour circle.
    rotation: largest rotation in either direction, degrees in [0, 180].
    translate: largest shift in each direction as a share of the side, in [0, 1].
    zoom: scale factor about the centre, (smallest, largest), uniform.
    fill: value in [0, 1] of pixels from outside the image after an affine transform.
    erase_prob: probability of erasing a box, after normalisation (arXiv:1708.04896).
    erase_area: area of the box as a share of the image, uniform.
    erase_ratio: height / width of the box, log-uniform.
    erase_mode: "pixel" fills with standard normal noise, "colour" with one such colour per box,
      "zero" with the mean colour (timm's "pixel", "rand" and "const"). "red" erases before
      normalisation, with one level of red per box and no green and blue.
    cutout: side of a square as a share of the image side; its centre is any pixel, it is clipped
      at the border and filled with the mean colour (arXiv:1708.04552). 0 = none.
    flow: the channels are optical flow (u, v, strain; 0.5 = no motion) instead of RGB: a flip
      negates u, rotation also rotates (u, v), the fill is zero motion and zero strain, and there
      is no colour jitter.
  """

  crop_scale: tuple[float, float] = (1.0, 1.0)
  crop_ratio: tuple[float, float] = (1.0, 1.0)
  crop_source: str = "read"
  crop_interpolation: str = "bicubic"
  flip: float = 0.0
  rand_augment: str = ""
  rand_interpolation: str = "bicubic"
  jitter_prob: float = 1.0
  brightness: float = 0.0
  contrast: float = 0.0
  saturation: float = 0.0
  hue: float = 0.0
  rotation: float = 0.0
  translate: float = 0.0
  zoom: tuple[float, float] = (1.0, 1.0)
  fill: float = 0.0
  erase_prob: float = 0.0
  erase_area: tuple[float, float] = (0.02, 1 / 3)
  erase_ratio: tuple[float, float] = (0.3, 1 / 0.3)
  erase_mode: str = "pixel"
  cutout: float = 0.0
  flow: bool = False

  def __post_init__(self):
    for name, largest in (
      ("crop_scale", 1.0),
      ("crop_ratio", math.inf),
      ("zoom", math.inf),
      ("erase_area", 1.0),
      ("erase_ratio", math.inf),
    ):
      pair = getattr(self, name)
      bound = "" if largest == math.inf else f" <= {largest:g}"
      if len(pair) != 2 or not 0.0 < pair[0] <= pair[1] <= largest:
        raise ValueError(f"augment.{name} must satisfy 0 < low <= high{bound}, got {pair}")
    for name in ("flip", "jitter_prob", "erase_prob"):
      if not 0.0 <= getattr(self, name) <= 1.0:
        raise ValueError(f"augment.{name} is a probability, got {getattr(self, name)}")
    for name, largest in (
      ("brightness", 1.0),
      ("contrast", 1.0),
      ("saturation", 1.0),
      ("hue", 0.5),
      ("rotation", 180.0),
      ("translate", 1.0),
      ("fill", 1.0),
      ("cutout", 1.0),
    ):
      if not 0.0 <= getattr(self, name) <= largest:
        raise ValueError(f"augment.{name} must be in [0, {largest:g}], got {getattr(self, name)}")
    if self.erase_mode not in MODES:
      raise ValueError(f"augment.erase_mode must be one of {MODES}, got {self.erase_mode!r}")
    if self.crop_source not in CROP_SOURCES:
      raise ValueError(f"augment.crop_source must be one of {CROP_SOURCES}")
    for name in ("crop_interpolation", "rand_interpolation"):
      if getattr(self, name) not in INTERPOLATIONS:
        raise ValueError(f"augment.{name} must be one of {INTERPOLATIONS}")
    if self.crop_interpolation != "bicubic" and self.crop_source == "read":
      raise ValueError("augment.crop_interpolation=random needs augment.crop_source=stored")
    if self.rand_augment:
      parse_rand_augment(self.rand_augment)
      if self.flow:
        raise ValueError("augment.rand_augment changes colours: it is not for augment.flow")

  @property
  def has_crop(self) -> bool:
    return self.crop_scale != (1.0, 1.0) or self.crop_ratio != (1.0, 1.0)

  @property
  def crops_stored(self) -> bool:
    """Whether crops are drawn while images are decoded."""
    return self.has_crop and self.crop_source == "stored"

  @property
  def has_colour(self) -> bool:
    return not self.flow and bool(self.brightness or self.contrast or self.saturation or self.hue)

  @property
  def has_affine(self) -> bool:
    return bool(self.rotation or self.translate) or self.zoom != (1.0, 1.0)

  @property
  def erases_red(self) -> bool:
    """Whether boxes are erased before normalisation."""
    return self.erase_prob > 0 and self.erase_mode == "red"

  @property
  def has_erasing(self) -> bool:
    return self.erase_prob > 0 or self.cutout > 0


def row_keys(key: jax.Array, rows: int) -> jax.Array:
  """One PRNG key per row of the global batch: key of row i = `fold_in(key, i)`, [rows].

  Draws from them depend neither on the number of devices nor on the number of processes.
  """
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(rows))


def make_augmentation(
  settings: Augmentation, size: int, mean: Sequence[float] = ()
) -> BatchTransform:
  """Makes the transform (uint8 [B, H, W, 3], keys [B]) -> float32 [B, size, size, 3] in [0, 1].

  It covers the steps before normalisation: crop, flip, RandAugment, colour, affine. For the rest
  see `make_erasing`; the keys may be the same.

  Args:
    settings: ranges of the transforms.
    size: side of the result, pixels.
    mean: of the images, per channel in [0, 1], which RandAugment fills in; empty if unknown.

  Returns:
    the transform.
  """
  operations = parse_rand_augment(settings.rand_augment) if settings.rand_augment else None
  fill = np.rint(255 * np.asarray(mean)) if len(mean) else np.full(3, DEFAULT_FILL)
  fill = np.minimum(fill, 255).astype(np.float32)

  def augment_image(image, key):
    crop_key, flip_key, colour_key, affine_key, jitter_key = jax.random.split(key, 5)
    height, width, _ = image.shape
    cropped = settings.crops_stored and (height, width) == (size, size)
    if (settings.has_crop and not cropped) or (height, width) != (size, size):
      box = draw_crop(crop_key, height, width, settings.crop_scale, settings.crop_ratio)
      image = crop_and_resize(image, box, size)
    if settings.flip:
      flipped = jax.random.bernoulli(flip_key, settings.flip)
      image = jnp.where(flipped, flip_horizontal(image, flow=settings.flow), image)
    if operations is not None:
      image = rand_augment(
        255.0 * image,
        jax.random.fold_in(key, _RAND_AUGMENT_DATA),
        operations,
        jnp.asarray(fill),
        interpolation=settings.rand_interpolation,
      )
      image = image / 255.0
    jitters = jnp.asarray(True)
    if settings.jitter_prob < 1:
      jitters = jax.random.bernoulli(jitter_key, settings.jitter_prob)
    if settings.has_colour:
      colour = draw_colour(
        colour_key, settings.brightness, settings.contrast, settings.saturation, settings.hue
      )
      image = jitter_colour(image, colour.where(jitters), hue=settings.hue > 0)
    if settings.has_affine:
      affine = draw_affine(
        affine_key, size, settings.rotation, settings.translate, settings.zoom
      ).where(jitters)
      outside = jnp.asarray((0.5, 0.5, 0.0) if settings.flow else (settings.fill,) * 3)
      image = apply_affine(image, affine, outside, rotates=settings.rotation > 0)
      if settings.flow and settings.rotation:
        image = rotate_flow(image, affine.angle)
    if settings.erases_red:
      box_key, red_key, _ = _erasing_keys(key)
      red = jax.random.randint(red_key, (), 0, 256).astype(image.dtype) / 255.0
      image = fill_box(image, _draw_box(settings, box_key, *image.shape[:2]), red * RED)
    return image

  def augment(images: jax.Array, keys: jax.Array) -> jax.Array:
    return jax.vmap(augment_image)(images.astype(jnp.float32) / 255.0, keys)

  return augment


def _erasing_keys(key: jax.Array) -> jax.Array:
  return jax.random.split(jax.random.fold_in(key, _ERASING_DATA), 3)


def _draw_box(settings: Augmentation, key: jax.Array, height: int, width: int) -> Box:
  """Draws the box that is erased.

  Args:
    settings: probability, area and ratio.
    key: PRNG key of this image.
    height, width: of the image, pixels.

  Returns:
    the box, empty when nothing is erased.
  """
  return draw_erasing(
    key, height, width, settings.erase_prob, settings.erase_area, settings.erase_ratio
  )


def make_erasing(settings: Augmentation) -> BatchTransform | None:
  """Makes the erasing transform (normalised [B, S, S, 3], keys [B]) -> [B, S, S, 3].

  Random erasing is applied before cutout. None when the settings have neither.
  """
  if not settings.has_erasing:
    return None

  def erase_image(image, key):
    height, width, _ = image.shape
    erase_key, noise_key, cutout_key = _erasing_keys(key)
    if settings.erase_prob and not settings.erases_red:
      box = _draw_box(settings, erase_key, height, width)
      shapes = {"pixel": image.shape, "colour": image.shape[-1:]}
      filling = jnp.zeros((), image.dtype)
      if settings.erase_mode in shapes:
        filling = jax.random.normal(noise_key, shapes[settings.erase_mode], image.dtype)
      image = fill_box(image, box, filling)
    if settings.cutout:
      box = draw_cutout(cutout_key, height, width, settings.cutout)
      image = fill_box(image, box, jnp.zeros((), image.dtype))
    return image

  return jax.vmap(erase_image)
