"""Mixup and cutmix on the device: each image is mixed with its neighbour in the batch.

The partner of row i is row i - 1 (row 0: the last row) of the batch of one forward pass, that is
of one micro-batch under gradient accumulation. Batches are shuffled, so the partner is random, and
only one row per device is communicated when a batch is split over devices.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_me.data.augment.erase import Box, box_mask, uniform_integer

# Folded into a row's key, since augmentation splits that key.
_MIXUP_DATA = 0x4D495845
MODES = ("image", "batch")


@dataclasses.dataclass(frozen=True)
class MixupSettings:
  """Settings of mixup and cutmix; the defaults change nothing.

  Attributes:
    mixup_alpha: alpha of mixup's Beta(alpha, alpha) (arXiv:1710.09412); 0 = no mixup.
    cutmix_alpha: alpha of cutmix's Beta(alpha, alpha) (arXiv:1905.04899); 0 = no cutmix.
    prob: probability that an image, or the batch, is mixed.
    switch_prob: probability of cutmix rather than mixup when both are enabled.
    mode: "image": each image draws for itself, as in timm's mode "elem"; "batch": the images of one
      forward pass share one draw, as in timm's default mode.
  """

  mixup_alpha: float = 0.0
  cutmix_alpha: float = 0.0
  prob: float = 1.0
  switch_prob: float = 0.5
  mode: str = "image"

  def __post_init__(self):
    for name in ("mixup_alpha", "cutmix_alpha"):
      if not 0.0 <= getattr(self, name) < float("inf"):
        raise ValueError(f"mixing.{name} must be 0 or more, got {getattr(self, name)}")
    for name in ("prob", "switch_prob"):
      if not 0.0 <= getattr(self, name) <= 1.0:
        raise ValueError(f"mixing.{name} is a probability, got {getattr(self, name)}")
    if self.mode not in MODES:
      raise ValueError(f"mixing.mode must be one of {', '.join(MODES)}, got {self.mode!r}")

  @property
  def active(self) -> bool:
    return self.prob > 0 and (self.mixup_alpha > 0 or self.cutmix_alpha > 0)


class MixupDraw(NamedTuple):
  """Drawn mixing of one image with its partner.

  Attributes:
    kept: weight of the image's own target, in [0, 1] (lambda of the papers).
    box: region that cutmix takes from the partner; empty for mixup.
    is_cutmix: bool, cutmix rather than mixup.
  """

  kept: jax.Array
  box: Box
  is_cutmix: jax.Array


def draw_mixup(key: jax.Array, settings: MixupSettings, height: int, width: int) -> MixupDraw:
  """Draws the mixing of one image.

  The sides of cutmix's box are `sqrt(1 - share)` of the image's; its centre is any pixel and it is
  clipped at the border. `kept` is computed from the clipped box (timm's `correct_lam`).

  Args:
    key: PRNG key of this image.
    settings: probabilities and distributions.
    height, width: of the image, pixels.

  Returns:
    the draw; kept is 1 for an image that is not mixed.
  """
  draws = jax.random.uniform(jax.random.fold_in(key, _MIXUP_DATA), (6,))
  mixed, switch, radius, angle, down, right = draws
  is_cutmix = jnp.asarray(settings.cutmix_alpha > 0)
  if settings.mixup_alpha and settings.cutmix_alpha:
    is_cutmix = switch < settings.switch_prob
  share = jnp.ones(())
  if settings.mixup_alpha:
    share = symmetric_beta(radius, angle, settings.mixup_alpha)
  if settings.cutmix_alpha:
    share = jnp.where(is_cutmix, symmetric_beta(radius, angle, settings.cutmix_alpha), share)
  share = jnp.where(mixed < settings.prob, share, 1.0)

  side = jnp.where(is_cutmix, jnp.sqrt(1.0 - share), 0.0)
  half_height = (height * side).astype(jnp.int32) // 2
  half_width = (width * side).astype(jnp.int32) // 2
  y, x = uniform_integer(down, height), uniform_integer(right, width)
  box = Box(
    jnp.maximum(y - half_height, 0),
    jnp.maximum(x - half_width, 0),
    jnp.minimum(y + half_height, height),
    jnp.minimum(x + half_width, width),
  )
  pasted = (box.bottom - box.top) * (box.right - box.left) / (height * width)
  return MixupDraw(jnp.where(is_cutmix, 1.0 - pasted, share), box, is_cutmix)


def symmetric_beta(radius: jax.Array, angle: jax.Array, alpha: float) -> jax.Array:
  """Beta(alpha, alpha) samples from two uniform numbers, without the loops of `jax.random.beta`.

  T = sqrt(2a (U^(-1/a) - 1)) cos(2 pi V) has Student's t-distribution with 2a degrees of freedom
  (R. W. Bailey, Math. Comp. 62, 1994) and 1/2 + T / (2 sqrt(2a + T^2)) is Beta(a, a). Loops that
  end when all rows are drawn would synchronise the devices in every iteration.

  Args:
    radius, angle: independent uniform numbers in [0, 1), of one shape.
    alpha: parameter of the distribution, > 0.

  Returns:
    samples of that shape, in [0, 1].
  """
  power = (1.0 - radius) ** (1.0 / alpha)  # U in (0, 1]
  cosine = jnp.cos(2 * math.pi * angle)
  part = (1.0 - power) * cosine**2
  ratio = part / jnp.maximum(power + part, jnp.finfo(part.dtype).tiny)  # T^2 / (2a + T^2)
  return 0.5 * (1.0 + jnp.sign(cosine) * jnp.sqrt(ratio))


def make_mixup(
  settings: MixupSettings,
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]] | None:
  """Makes the transform (images [B, S, S, C], keys [B]) -> (mixed images, kept [B]).

  `kept` is the argument of `mix_targets`. None when the settings mix nothing.
  """
  if not settings.active:
    return None

  def mix_image(image, partner, draw):
    height, width, _ = image.shape
    pasted = jnp.where(box_mask(draw.box, height, width)[..., None], partner, image)
    blended = draw.kept * image + (1.0 - draw.kept) * partner
    return jnp.where(draw.is_cutmix, pasted, blended).astype(image.dtype), draw.kept

  def mix_images(images: jax.Array, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    height, width = images.shape[1:3]
    draw = functools.partial(draw_mixup, settings=settings, height=height, width=width)
    if settings.mode == "batch":
      # The key of the first row is as random as one of the batch.
      return jax.vmap(mix_image, (0, 0, None))(images, partners(images), draw(keys[0]))
    return jax.vmap(mix_image)(images, partners(images), jax.vmap(draw)(keys))

  return mix_images


def mix_targets(targets: jax.Array, kept: jax.Array) -> jax.Array:
  """Mixes each row's target with its partner's in the same ratio as the images.

  Args:
    targets: [B, C] distributions.
    kept: [B] weight of the own target.

  Returns:
    [B, C] distributions.
  """
  kept = kept[:, None].astype(targets.dtype)
  return kept * targets + (1.0 - kept) * partners(targets)


def partners(rows: jax.Array) -> jax.Array:
  """The row that each row is mixed with: the previous one, [B, ...]."""
  return jnp.roll(rows, 1, axis=0)
