"""Parts shared by the model families: stochastic depth, fixed tables, the masked-model output."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct


class FixedTable(nnx.Variable):
  """An array that belongs to the model but is never trained (position tables, random features)."""


@struct.dataclass
class MaskedOutput:
  """What a masked autoencoder returns.

  Attributes:
    loss: [] mean squared error over the removed patches.
    pred: [B, N, patch_size**2 * 3] predicted patches.
    mask: [B, N] 1 = removed, 0 = kept.
    latent: encoder output of the kept patches.
  """

  loss: jax.Array
  pred: jax.Array
  mask: jax.Array
  latent: Any


def drop_path(x: jax.Array, rate: float | jax.Array, key: jax.Array | None) -> jax.Array:
  """Stochastic depth (arXiv:1603.09382): drops whole residual branches, one draw per sample.

  Args:
    x: [B, ...] output of a residual branch.
    rate: probability of dropping a sample's branch, in [0, 1); an array where a loop runs over
      layers with different rates.
    key: PRNG key of this branch; None means deterministic (x is returned unchanged).

  Returns:
    [B, ...] x with dropped samples zeroed and the rest scaled by 1 / (1 - rate).
  """
  if key is None or (not isinstance(rate, jax.Array) and rate == 0.0):
    return x
  keep = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
  return jnp.where(keep, x / jnp.asarray(1.0 - rate, x.dtype), jnp.zeros((), x.dtype))


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
  """Elementwise inverted dropout; key None means deterministic."""
  if key is None or rate == 0.0:
    return x
  keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
  return jnp.where(keep, x / jnp.asarray(1.0 - rate, x.dtype), jnp.zeros((), x.dtype))


def split_or_none(key: jax.Array | None, count: int) -> list[jax.Array | None]:
  """`count` independent keys, or `count` Nones when there is no key (deterministic call)."""
  return [None] * count if key is None else list(jax.random.split(key, count))
