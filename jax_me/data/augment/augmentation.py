"""Augmentation on the device: every image draws from its own key, so batches split freely."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jax_me.data.augment.colour import draw_colour, jitter_colour
from jax_me.data.augment.erase import MODES, draw_cutout, draw_erasing, fill_box
from jax_me.data.augment.geometry import (
  crop_and_resize,
  draw_affine,
  draw_crop,
  mirror,
  move,
  rotate_flow,
)

# (images, one PRNG key a row) -> images
BatchTransform = Callable[[jax.Array, jax.Array], jax.Array]

# Erasing folds this into a row's key, which the changes before normalisation split.
_ERASING = 0x45524153


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Ranges of the random changes, in the order in which they happen; the defaults change nothing.

  Attributes:
    crop_scale: area of the random crop, as a share of the picture, (smallest, largest) in (0, 1];
      drawn uniformly, then the crop is resized (bicubic, antialiased) to the model's size.
    crop_ratio: width / height of the crop, drawn log-uniformly.
    flip: probability of mirroring left-right.
    jitter_prob: probability that an image's colour and affine changes happen: all of them or none.
    brightness, contrast, saturation: largest change of the factor, e.g. 0.25 for [0.75, 1.25].
    hue: largest turn of the hue, in [0, 0.5] of the colour circle.
    rotation: largest turn either way, degrees in [0, 180].
    translate: largest shift, right or left and up or down, as a share of the side, in [0, 1].
    zoom: factor of the size about the centre, (smallest, largest), uniform.
    fill: value in [0, 1] of what rotation, shift and zoom bring in from outside.
    erase_prob: probability of erasing a box, after normalisation (arXiv:1708.04896).
    erase_area: share of the picture that the box covers, uniform.
    erase_ratio: height / width of the box, log-uniform.
    erase_mode: "pixel" fills with standard normal noise, "colour" with one such colour a box,
      "zero" with the mean colour (timm's "pixel", "rand" and "const").
    cutout: side of a square hole, as a share of the picture's side; its centre is anywhere, what
      falls outside is lost, and it is filled with the mean colour (arXiv:1708.04552). 0 = none.
    flow: the channels are optical flow (u, v, strain; 0.5 = no motion) instead of RGB: mirroring
      negates u, rotation turns (u, v), nothing moves in what comes in from outside, and colour is
      left alone.
  """

  crop_scale: tuple[float, float] = (1.0, 1.0)
  crop_ratio: tuple[float, float] = (1.0, 1.0)
  flip: float = 0.0
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

  @property
  def crops(self) -> bool:
    return self.crop_scale != (1.0, 1.0) or self.crop_ratio != (1.0, 1.0)

  @property
  def colours(self) -> bool:
    return not self.flow and bool(self.brightness or self.contrast or self.saturation or self.hue)

  @property
  def moves(self) -> bool:
    return bool(self.rotation or self.translate) or self.zoom != (1.0, 1.0)

  @property
  def erases(self) -> bool:
    return self.erase_prob > 0 or self.cutout > 0


def row_keys(key: jax.Array, rows: int) -> jax.Array:
  """One PRNG key a row of the global batch: key of row i = `fold_in(key, i)`, [rows].

  What is drawn from them depends neither on the number of devices nor on that of processes.
  """
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(rows))


def make_augmentation(settings: Augmentation, size: int) -> BatchTransform:
  """(uint8 [B, H, W, 3], keys [B]) -> float32 [B, size, size, 3] in [0, 1], a pure function.

  All that happens before normalisation: crop, mirror, colour, affine. For the rest see
  `make_erasing`; the keys may be the same.
  """

  def one(image, key):
    crop_key, flip_key, colour_key, affine_key, jitter_key = jax.random.split(key, 5)
    height, width, _ = image.shape
    if settings.crops or (height, width) != (size, size):
      box = draw_crop(crop_key, height, width, settings.crop_scale, settings.crop_ratio)
      image = crop_and_resize(image, box, size)
    if settings.flip:
      chosen = jax.random.bernoulli(flip_key, settings.flip)
      image = jnp.where(chosen, mirror(image, flow=settings.flow), image)
    jitters = jnp.asarray(True)
    if settings.jitter_prob < 1:
      jitters = jax.random.bernoulli(jitter_key, settings.jitter_prob)
    if settings.colours:
      colour = draw_colour(
        colour_key, settings.brightness, settings.contrast, settings.saturation, settings.hue
      )
      image = jitter_colour(image, colour.where(jitters), hue=settings.hue > 0)
    if settings.moves:
      affine = draw_affine(
        affine_key, size, settings.rotation, settings.translate, settings.zoom
      ).where(jitters)
      outside = jnp.asarray((0.5, 0.5, 0.0) if settings.flow else (settings.fill,) * 3)
      image = move(image, affine, outside, rotates=settings.rotation > 0)
      if settings.flow and settings.rotation:
        image = rotate_flow(image, affine.angle)
    return image

  def augment(images: jax.Array, keys: jax.Array) -> jax.Array:
    return jax.vmap(one)(images.astype(jnp.float32) / 255.0, keys)

  return augment


def make_erasing(settings: Augmentation) -> BatchTransform | None:
  """(normalised [B, S, S, 3], keys [B]) -> the same with holes; None where nothing is erased.

  Random erasing comes first, then cutout.
  """
  if not settings.erases:
    return None

  def one(image, key):
    height, width, _ = image.shape
    erase_key, noise_key, cutout_key = jax.random.split(jax.random.fold_in(key, _ERASING), 3)
    if settings.erase_prob:
      box = draw_erasing(
        erase_key,
        height,
        width,
        settings.erase_prob,
        settings.erase_area,
        settings.erase_ratio,
      )
      shapes = {"pixel": image.shape, "colour": image.shape[-1:]}
      filling = jnp.zeros((), image.dtype)
      if settings.erase_mode in shapes:
        filling = jax.random.normal(noise_key, shapes[settings.erase_mode], image.dtype)
      image = fill_box(image, box, filling)
    if settings.cutout:
      box = draw_cutout(cutout_key, height, width, settings.cutout)
      image = fill_box(image, box, jnp.zeros((), image.dtype))
    return image

  return jax.vmap(one)
