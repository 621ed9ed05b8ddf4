"""Mixup and cutmix on the device: each image meets its neighbour in the batch.

Row i meets row i - 1 of the batch that the device sees in one pass, row 0 the last one. Batches
are shuffled, so a neighbour is as random a partner as any, and of a batch split over devices only
one row a device has to travel. With gradient accumulation the batch is one part of it.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_me.data.augment.erase import Box, box_mask, whole_number

# Folded into a row's key, which augmentation has split otherwise.
_MIXING = 0x4D495845


@dataclasses.dataclass(frozen=True)
class MixupSettings:
  """How images and their targets are mixed; the defaults change nothing.

  As in timm's "elem" mode each image draws its own share; timm's default draws one a batch.

  Attributes:
    mixup_alpha: of mixup's Beta(alpha, alpha) (arXiv:1710.09412); 0 = no mixup.
    cutmix_alpha: of cutmix's Beta(alpha, alpha) (arXiv:1905.04899); 0 = no cutmix.
    prob: probability that an image is mixed at all.
    switch_prob: probability of cutmix rather than mixup, where both are on.
  """

  mixup_alpha: float = 0.0
  cutmix_alpha: float = 0.0
  prob: float = 1.0
  switch_prob: float = 0.5

  def __post_init__(self):
    for name in ("mixup_alpha", "cutmix_alpha"):
      if not 0.0 <= getattr(self, name) < float("inf"):
        raise ValueError(f"mixing.{name} must be 0 or more, got {getattr(self, name)}")
    for name in ("prob", "switch_prob"):
      if not 0.0 <= getattr(self, name) <= 1.0:
        raise ValueError(f"mixing.{name} is a probability, got {getattr(self, name)}")

  @property
  def active(self) -> bool:
    return self.prob > 0 and (self.mixup_alpha > 0 or self.cutmix_alpha > 0)


class Mix(NamedTuple):
  """What an image keeps.

  Attributes:
    kept: share of the target that stays the image's own, in [0, 1].
    box: what cutmix takes from the partner; empty for mixup.
    pastes: bool, cutmix rather than mixup.
  """

  kept: jax.Array
  box: Box
  pastes: jax.Array


def draw_mixup(key: jax.Array, settings: MixupSettings, height: int, width: int) -> Mix:
  """Draws how one image of height x width pixels is mixed.

  Cutmix's box has the sides `sqrt(1 - share)` of the picture's, its centre is any pixel, and it is
  cut at the border; `kept` is what the cut box really leaves (as timm corrects it).
  """
  draws = jax.random.uniform(jax.random.fold_in(key, _MIXING), (6,))
  mixed, switch, radius, angle, down, right = draws
  pastes = jnp.asarray(settings.cutmix_alpha > 0)
  if settings.mixup_alpha and settings.cutmix_alpha:
    pastes = switch < settings.switch_prob
  share = jnp.ones(())
  if settings.mixup_alpha:
    share = symmetric_beta(radius, angle, settings.mixup_alpha)
  if settings.cutmix_alpha:
    share = jnp.where(pastes, symmetric_beta(radius, angle, settings.cutmix_alpha), share)
  share = jnp.where(mixed < settings.prob, share, 1.0)

  side = jnp.where(pastes, jnp.sqrt(1.0 - share), 0.0)
  half_height = (height * side).astype(jnp.int32) // 2
  half_width = (width * side).astype(jnp.int32) // 2
  y, x = whole_number(down, height), whole_number(right, width)
  box = Box(
    jnp.maximum(y - half_height, 0),
    jnp.maximum(x - half_width, 0),
    jnp.minimum(y + half_height, height),
    jnp.minimum(x + half_width, width),
  )
  pasted = (box.bottom - box.top) * (box.right - box.left) / (height * width)
  return Mix(jnp.where(pastes, 1.0 - pasted, share), box, pastes)


def symmetric_beta(radius: jax.Array, angle: jax.Array, alpha: float) -> jax.Array:
  """Two uniform numbers in [0, 1) -> one of Beta(alpha, alpha), without `jax.random.beta`'s loops.

  T = sqrt(2a (U^(-1/a) - 1)) cos(2 pi V) has Student's t-distribution with 2a degrees of freedom
  (R. W. Bailey, Math. Comp. 62, 1994) and 1/2 + T / (2 sqrt(2a + T^2)) is Beta(a, a). Loops that
  end when all rows are drawn would make the devices wait for each other in every round.
  """
  power = (1.0 - radius) ** (1.0 / alpha)  # U in (0, 1]
  cosine = jnp.cos(2 * math.pi * angle)
  part = (1.0 - power) * cosine**2
  ratio = part / jnp.maximum(power + part, jnp.finfo(part.dtype).tiny)  # T^2 / (2a + T^2)
  return 0.5 * (1.0 + jnp.sign(cosine) * jnp.sqrt(ratio))


def make_mixup(
  settings: MixupSettings,
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]] | None:
  """(images [B, S, S, C], keys [B]) -> (mixed images, kept [B]); None where nothing is mixed.

  `kept` goes to `mix_targets`.
  """
  if not settings.active:
    return None

  def one(image, partner, key):
    height, width, _ = image.shape
    mix = draw_mixup(key, settings, height, width)
    pasted = jnp.where(box_mask(mix.box, height, width)[..., None], partner, image)
    blended = mix.kept * image + (1.0 - mix.kept) * partner
    return jnp.where(mix.pastes, pasted, blended).astype(image.dtype), mix.kept

  def mix_images(images: jax.Array, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vmap(one)(images, partners(images), keys)

  return mix_images


def mix_targets(targets: jax.Array, kept: jax.Array) -> jax.Array:
  """Each row's target and its partner's, in the shares of the images.

  Args:
    targets: [B, C] distributions.
    kept: [B] share of the own target.

  Returns:
    [B, C] distributions.
  """
  kept = kept[:, None].astype(targets.dtype)
  return kept * targets + (1.0 - kept) * partners(targets)


def partners(rows: jax.Array) -> jax.Array:
  """What each row is mixed with: the row before it, [B, ...]."""
  return jnp.roll(rows, 1, axis=0)
