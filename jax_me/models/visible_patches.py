"""Gather and scatter between a patch grid and its visible patches, with gathers only."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_me.models.patches import patchify, unpatchify


class VisiblePatches(NamedTuple):
  """Indices of the visible patches in a square grid of L patches, per image.

  Attributes:
    kept: [B, V] int32 grid index of each visible patch, row-major.
    restore: [B, L] int32 index of each patch among the visible ones; V or more where removed.
  """

  kept: jax.Array
  restore: jax.Array

  @property
  def side(self) -> int:
    """Patches along a side of the grid."""
    return round(self.restore.shape[1] ** 0.5)

  def take(self, patches: jax.Array) -> jax.Array:
    """Selects the visible patches: [B, L, P] -> [B, V, P]."""
    return _take(patches, self.kept, self.restore)

  def scatter(self, patches: jax.Array) -> jax.Array:
    """Puts the visible patches into the grid: [B, V, P] -> [B, L, P], zeros where removed."""
    return _take(patches, self.restore, self.kept)

  def to_grid(self, x: jax.Array) -> jax.Array:
    """[B, V, p, p, C] -> [B, side * p, side * p, C], zeros at removed sites."""
    batch, count, size, _, channels = x.shape
    return unpatchify(self.scatter(x.reshape(batch, count, -1)), size)

  def from_grid(self, grid: jax.Array) -> jax.Array:
    """[B, side * p, side * p, C] -> [B, V, p, p, C]."""
    batch, height, _, channels = grid.shape
    size = height // self.side
    return self.take(patchify(grid, size)).reshape(batch, -1, size, size, channels)


@jax.custom_vjp
def _take(x, index, inverse):
  """Rows [B, K, P] of x [B, N, P] by index [B, K], zeros where the index is N or more.

  `inverse` [B, N] is the inverse index, which makes the gradient a gather instead of a scatter-add.
  """
  return jnp.take_along_axis(x, index[..., None], axis=1, mode="fill", fill_value=0)


_take.defvjp(
  lambda x, index, inverse: (_take(x, index, inverse), (index, inverse)),
  lambda indices, gradient: (_take(gradient, *reversed(indices)), None, None),
)
