"""Augmentation on the device: every image draws from its own key, so batches split freely."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Ranges of the random changes; the defaults change nothing.

  Attributes:
    crop_scale: area of the random crop, as a share of the picture, (smallest, largest) in (0, 1];
      drawn uniformly, then the crop is resized (bicubic, antialiased) to the model's size.
    crop_ratio: width / height of the crop, drawn log-uniformly.
    flip: probability of mirroring left-right.
    brightness, contrast, saturation: largest change of the factor, e.g. 0.25 for [0.75, 1.25].
    flow: the channels are optical flow (u, v, strain; 0.5 = no motion) instead of RGB: mirroring
      negates u, and colour is left alone.
  """

  crop_scale: tuple[float, float] = (1.0, 1.0)
  crop_ratio: tuple[float, float] = (1.0, 1.0)
  flip: float = 0.0
  brightness: float = 0.0
  contrast: float = 0.0
  saturation: float = 0.0
  flow: bool = False

  def __post_init__(self):
    low, high = self.crop_scale
    if not 0.0 < low <= high <= 1.0:
      raise ValueError(f"augment.crop_scale must satisfy 0 < low <= high <= 1, got {low, high}")
    if not 0.0 < self.crop_ratio[0] <= self.crop_ratio[1]:
      raise ValueError(f"augment.crop_ratio must satisfy 0 < low <= high, got {self.crop_ratio}")
    if not 0.0 <= self.flip <= 1.0:
      raise ValueError(f"augment.flip is a probability, got {self.flip}")
    for name in ("brightness", "contrast", "saturation"):
      if not 0.0 <= getattr(self, name) <= 1.0:
        raise ValueError(f"augment.{name} must be in [0, 1], got {getattr(self, name)}")


def random_resized_crop(
  image: jax.Array,
  key: jax.Array,
  *,
  size: int,
  scale: tuple[float, float],
  ratio: tuple[float, float] = (1.0, 1.0),
) -> jax.Array:
  """Crops a random box and resizes it to [size, size, C] (bicubic, antialiased).

  Sub-pixel boxes; a box larger than the picture in one direction is cut to the picture.

  Args:
    image: [H, W, C] float in [0, 1].
    key: PRNG key of this image.
    size: side of the result in pixels.
    scale: share of the area, uniform.
    ratio: width / height, log-uniform.

  Returns:
    [size, size, C] in [0, 1] (the overshoot of the cubic kernel is clipped).
  """
  height, width, channels = image.shape
  area_key, ratio_key, y_key, x_key = jax.random.split(key, 4)
  area = height * width * jax.random.uniform(area_key, minval=scale[0], maxval=scale[1])
  aspect = jnp.exp(
    jax.random.uniform(ratio_key, minval=math.log(ratio[0]), maxval=math.log(ratio[1]))
  )
  box_w = jnp.minimum(jnp.sqrt(area * aspect), width)
  box_h = jnp.minimum(jnp.sqrt(area / aspect), height)
  top = jax.random.uniform(y_key) * (height - box_h)
  left = jax.random.uniform(x_key) * (width - box_w)
  zoom = jnp.stack([size / box_h, size / box_w])
  crop = jax.image.scale_and_translate(
    image,
    (size, size, channels),
    (0, 1),
    zoom,
    -jnp.stack([top, left]) * zoom,
    method="cubic",
    antialias=True,
  )
  return jnp.clip(crop, 0.0, 1.0)


def _mirror(image: jax.Array, key: jax.Array, settings: Augmentation) -> jax.Array:
  mirrored = image[:, ::-1, :]
  if settings.flow:
    mirrored = mirrored.at[..., 0].set(1.0 - mirrored[..., 0])
  return jnp.where(jax.random.bernoulli(key, settings.flip), mirrored, image)


def _jitter_colour(image: jax.Array, key: jax.Array, settings: Augmentation) -> jax.Array:
  """Brightness, contrast about the mean grey, saturation about the grey of each pixel."""
  keys = jax.random.split(key, 3)

  def factor(k, amount):
    return jax.random.uniform(k, minval=1.0 - amount, maxval=1.0 + amount)

  luma = jnp.asarray([0.299, 0.587, 0.114], image.dtype)  # ITU-R BT.601
  image = jnp.clip(image * factor(keys[0], settings.brightness), 0.0, 1.0)
  grey = jnp.mean(image @ luma)
  image = jnp.clip(grey + (image - grey) * factor(keys[1], settings.contrast), 0.0, 1.0)
  grey_pixels = (image @ luma)[..., None]
  change = factor(keys[2], settings.saturation)
  return jnp.clip(grey_pixels + (image - grey_pixels) * change, 0.0, 1.0)


def make_augmentation(
  settings: Augmentation, size: int
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """(uint8 [B, H, W, 3], key) -> float32 [B, size, size, 3] in [0, 1], a pure function.

  The key of row i is `fold_in(key, i)` with i counted over the global batch: the result depends
  neither on the number of devices nor on that of processes.
  """
  colour = settings.brightness or settings.contrast or settings.saturation
  cropping = settings.crop_scale != (1.0, 1.0) or settings.crop_ratio != (1.0, 1.0)

  def one(image, key):
    crop_key, flip_key, colour_key = jax.random.split(key, 3)
    if cropping or image.shape[:2] != (size, size):
      image = random_resized_crop(
        image, crop_key, size=size, scale=settings.crop_scale, ratio=settings.crop_ratio
      )
    if settings.flip:
      image = _mirror(image, flip_key, settings)
    if colour and not settings.flow:
      image = _jitter_colour(image, colour_key, settings)
    return image

  def augment(images: jax.Array, key: jax.Array) -> jax.Array:
    images = images.astype(jnp.float32) / 255.0
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(images.shape[0]))
    return jax.vmap(one)(images, keys)

  return augment
