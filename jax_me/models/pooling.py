"""Pooling over windows that do not overlap, without XLA's slow scatter in the gradient."""

import functools

import jax
import jax.numpy as jnp


def max_pool(x: jax.Array, size: int) -> jax.Array:
  """Maximum over size x size windows with stride `size`; incomplete windows are left out.

  Pairwise maxima of slices, whose gradient takes half the time of that of `jnp.max` on CPU. Equal
  maxima share the gradient.

  Args:
    x: [B, H, W, C], H and W at least `size`.
    size: side of a window in pixels.

  Returns:
    [B, H // size, W // size, C].
  """
  windows = _windows(x, size)
  rows = functools.reduce(jnp.maximum, (windows[:, :, i] for i in range(size)))
  return functools.reduce(jnp.maximum, (rows[:, :, :, i] for i in range(size)))


def mean_pool(x: jax.Array, size: int) -> jax.Array:
  """Mean over size x size windows with stride `size`; arguments and result as in `max_pool`."""
  return jnp.mean(_windows(x, size), axis=(2, 4))


def _windows(x: jax.Array, size: int) -> jax.Array:
  """[B, H, W, C] -> [B, H // size, size, W // size, size, C]."""
  batch, height, width, channels = x.shape
  rows, columns = height // size, width // size
  whole = x[:, : rows * size, : columns * size]
  return whole.reshape(batch, rows, size, columns, size, channels)
