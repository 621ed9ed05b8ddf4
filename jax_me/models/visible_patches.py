"""The patches that masking left: between all of a grid and the visible ones, without scatters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_me.models.patches import patchify, unpatchify


class VisiblePatches(NamedTuple):
  """Which patches of a square grid of L patches are there, per image.

  Attributes:
    numbers: [B, V] int32 number of each visible patch, counted row by row.
    slots: [B, L] int32 place of each patch among the visible ones; V or more where removed.
  """

  numbers: jax.Array
  slots: jax.Array

  @property
  def side(self) -> int:
    """Patches along a side of the grid."""
    return round(self.slots.shape[1] ** 0.5)

  def take(self, patches: jax.Array) -> jax.Array:
    """[B, L, P] -> [B, V, P]: the visible patches."""
    return _take(patches, self.numbers, self.slots)

  def spread(self, patches: jax.Array) -> jax.Array:
    """[B, V, P] -> [B, L, P]: each patch at its place, zeros at the removed ones."""
    return _take(patches, self.slots, self.numbers)

  def to_grid(self, x: jax.Array) -> jax.Array:
    """[B, V, p, p, C] -> [B, side * p, side * p, C], zeros at removed sites."""
    batch, count, size, _, channels = x.shape
    return unpatchify(self.spread(x.reshape(batch, count, -1)), size)

  def from_grid(self, grid: jax.Array) -> jax.Array:
    """[B, side * p, side * p, C] -> [B, V, p, p, C]."""
    batch, height, _, channels = grid.shape
    size = height // self.side
    return self.take(patchify(grid, size)).reshape(batch, -1, size, size, channels)


@jax.custom_vjp
def _take(x, index, inverse):
  """Rows [B, K, P] of x [B, N, P] by index [B, K], zeros where the index is N or more.

  `inverse` [B, N] undoes it, which makes the gradient a gather as well and not a scatter-add.
  """
  return jnp.take_along_axis(x, index[..., None], axis=1, mode="fill", fill_value=0)


_take.defvjp(
  lambda x, index, inverse: (_take(x, index, inverse), (index, inverse)),
  lambda indices, gradient: (_take(gradient, *reversed(indices)), None, None),
)
