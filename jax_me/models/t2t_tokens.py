"""Tokens-to-token module of T2T-ViT (arXiv:2101.11986, section 3.1): soft splits and attention."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_me.models.attention import self_attention
from jax_me.models.flops import COPIES
from jax_me.models.layers import (
  FixedTable,
  at_least_float32,
  dropout,
  is_portable,
  split_or_none,
)
from jax_me.models.transformer import Mlp, layer_norm

NORM_EPSILON = 1e-5
LINEAR_INIT = nnx.initializers.normal(0.02)
KERNELS = (7, 3, 3)  # Of the three soft splits.
STRIDES = (4, 2, 2)  # Of the original; they divide the side by 16 in total.


def soft_splits(strides: Sequence[int] = STRIDES) -> tuple[tuple[int, int, int], ...]:
  """(kernel, stride, padding) of the three soft splits; each divides the side by its stride.

  Raises:
    ValueError: not three strides from 1 to the side of their kernel.
  """
  if len(strides) != 3 or not all(1 <= s <= k for s, k in zip(strides, KERNELS, strict=True)):
    raise ValueError(f"strides must be three, from 1 to {KERNELS}, got {tuple(strides)}")
  # The smallest padding with which there are as many windows as strides in the image.
  return tuple((k, s, (k - s + 1) // 2) for k, s in zip(KERNELS, strides, strict=True))


def soft_split(x: jax.Array, kernel: int, stride: int, padding: int) -> jax.Array:
  """Overlapping windows as tokens: torch's Unfold (im2col) on channels-last arrays.

  Args:
    x: [B, H, W, C].
    kernel, stride, padding: of the square window in pixels; padded with zeros.

  Returns:
    [B, N, C * kernel**2]: windows in row-major order; within a token the channel varies slowest,
    then the row in the window, then the column.
  """
  if is_portable():
    return _windows_by_slices(x, kernel, stride, padding)
  return jax.lax.platform_dependent(
    x,
    tpu=lambda x: _windows_by_convolution(x, kernel, stride, padding),
    default=lambda x: _windows_by_slices(x, kernel, stride, padding),
  )


def _windows_by_slices(x: jax.Array, kernel: int, stride: int, padding: int) -> jax.Array:
  """As `soft_split`."""
  batch, height, width, channels = x.shape
  rows = (height + 2 * padding - kernel) // stride + 1
  columns = (width + 2 * padding - kernel) // stride + 1
  x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  # Rows first, then columns: 2 * kernel slices instead of kernel**2.
  x = jnp.stack([_strided_slice(x, i, stride, rows, axis=1) for i in range(kernel)], axis=2)
  x = jnp.stack([_strided_slice(x, j, stride, columns, axis=3) for j in range(kernel)], axis=4)
  # [B, rows, kernel, columns, kernel, C] -> channel before row and column in the window.
  return x.transpose(0, 1, 3, 5, 2, 4).reshape(batch, rows * columns, channels * kernel**2)


def _windows_by_convolution(x: jax.Array, kernel: int, stride: int, padding: int) -> jax.Array:
  """As `soft_split`: a convolution with an identity kernel, which a TPU does in its matrix unit.

  Slices would be copied several times through HBM, in layouts padded to 128 lanes. The highest
  precision keeps float32 values exact, which a TPU would round to bfloat16.
  """
  with jax.named_scope(COPIES):
    windows = jax.lax.conv_general_dilated_patches(
      x,
      (kernel, kernel),
      (stride, stride),
      ((padding, padding), (padding, padding)),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      precision=jax.lax.Precision.HIGHEST,
    )
  return windows.reshape(x.shape[0], -1, windows.shape[-1])


def _strided_slice(x: jax.Array, start: int, stride: int, count: int, axis: int) -> jax.Array:
  """`count` elements of x along `axis`: start, start + stride, ..."""
  return jax.lax.slice_in_dim(x, start, start + stride * (count - 1) + 1, stride, axis)


def _as_image(tokens: jax.Array) -> jax.Array:
  """[B, side**2, C] -> [B, side, side, C]."""
  batch, count, channels = tokens.shape
  side = round(count**0.5)
  return tokens.reshape(batch, side, side, channels)


class TokenPerformer(nnx.Module):
  """Linear attention by positive random features (Performer, arXiv:2009.14794, lemma 1).

  The residual connection adds the value, as the output is narrower than the input. Everything
  between the projections is computed in at least float32: the features are exponentials, and the
  epsilon of the denominator underflows in half precision.

  Args:
    dim: width of the input tokens.
    token_dim: width of the output tokens.
    kernel_ratio: random features over `token_dim`.
    drop_rate: dropout on the outputs of the projection and the MLP, active in training.
  """

  def __init__(
    self,
    dim: int,
    token_dim: int,
    *,
    kernel_ratio: float = 0.5,
    drop_rate: float = 0.1,
    dtype: DTypeLike,
    param_dtype: DTypeLike,
    rngs: nnx.Rngs,
  ):
    self.epsilon = 1e-8
    self.drop_rate = drop_rate
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    self.norm1 = layer_norm(dim, epsilon=NORM_EPSILON, **common)
    self.kqv = nnx.Linear(dim, 3 * token_dim, kernel_init=LINEAR_INIT, **common)
    self.proj = nnx.Linear(token_dim, token_dim, kernel_init=LINEAR_INIT, **common)
    self.norm2 = layer_norm(token_dim, epsilon=NORM_EPSILON, **common)
    self.mlp = Mlp(token_dim, token_dim, kernel_init=LINEAR_INIT, **common)
    count = int(token_dim * kernel_ratio)
    orthonormal = nnx.initializers.orthogonal(scale=count**0.5)
    self.w = FixedTable(orthonormal(rngs.params(), (count, token_dim), param_dtype))

  def random_features(self, x: jax.Array) -> jax.Array:
    """exp(w x - |x|^2 / 2) / sqrt(m): [B, N, token_dim] -> [B, N, m], at least float32."""
    w = self.w[...].astype(x.dtype)
    exponent = jnp.matmul(x, w.T) - jnp.sum(jnp.square(x), axis=-1, keepdims=True) / 2
    return jnp.exp(exponent) / w.shape[0] ** 0.5

  def attention(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B, N, dim] -> attention output and values, each [B, N, token_dim]."""
    kqv = self.kqv(x)
    k, q, v = jnp.split(kqv.astype(at_least_float32(kqv.dtype)), 3, axis=-1)
    k, q = self.random_features(k), self.random_features(q)
    weight = jnp.matmul(q, k.sum(axis=1)[:, :, None])  # [B, N, 1]
    key_values = jnp.matmul(k.swapaxes(1, 2), v)  # [B, m, token_dim]
    return jnp.matmul(q, key_values) / (weight + self.epsilon), v

  def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """[B, N, dim] -> [B, N, token_dim]; `key` None is deterministic."""
    attention_key, mlp_key = split_or_none(key, 2)
    attended, v = self.attention(self.norm1(x))
    projected = self.proj(attended)
    x = v.astype(projected.dtype) + dropout(projected, self.drop_rate, attention_key)
    return x + dropout(self.mlp(self.norm2(x)), self.drop_rate, mlp_key)


class TokenAttention(nnx.Module):
  """Single-head attention that reduces the token width; the residual connection adds the value.

  Args:
    dim: width of the input tokens; scores are scaled by dim ** -0.5, not by the head dimension.
    token_dim: width of query, key, value and output.
  """

  def __init__(
    self, dim: int, token_dim: int, *, dtype: DTypeLike, param_dtype: DTypeLike, rngs: nnx.Rngs
  ):
    self.scale = dim**-0.5
    options: dict[str, Any] = dict(
      kernel_init=LINEAR_INIT, dtype=dtype, param_dtype=param_dtype, rngs=rngs
    )
    self.qkv = nnx.Linear(dim, 3 * token_dim, use_bias=False, **options)
    self.proj = nnx.Linear(token_dim, token_dim, **options)

  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, N, dim] -> [B, N, token_dim]."""
    q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
    return v + self.proj(self_attention(q, k, v, heads=1, scale=self.scale))


class TokenTransformer(nnx.Module):
  """Full attention over the tokens of a soft split, then an MLP with residual."""

  def __init__(
    self, dim: int, token_dim: int, *, dtype: DTypeLike, param_dtype: DTypeLike, rngs: nnx.Rngs
  ):
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    self.norm1 = layer_norm(dim, epsilon=NORM_EPSILON, **common)
    self.attn = TokenAttention(dim, token_dim, **common)
    self.norm2 = layer_norm(token_dim, epsilon=NORM_EPSILON, **common)
    self.mlp = Mlp(token_dim, token_dim, kernel_init=LINEAR_INIT, **common)

  def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """[B, N, dim] -> [B, N, token_dim]; without dropout, so `key` is not used."""
    del key
    x = self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


class TokensToToken(nnx.Module):
  """Image to tokens in three soft splits with attention between them.

  Args:
    tokens_type: "performer" or "transformer", the attention between the splits.
    embed_dim: width of the final tokens.
    token_dim: width of the tokens between the splits.
    strides: of the three soft splits.
    drop_rate: dropout of the performers (0.1 in the original, independent of the backbone's rate).
    remat: recompute the attentions in the backward pass, to save memory.
  """

  def __init__(
    self,
    *,
    tokens_type: str,
    embed_dim: int,
    token_dim: int,
    strides: Sequence[int],
    drop_rate: float,
    remat: bool,
    dtype: DTypeLike,
    param_dtype: DTypeLike,
    rngs: nnx.Rngs,
  ):
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    self.splits = soft_splits(strides)
    widths = 3 * KERNELS[0] ** 2, token_dim * KERNELS[1] ** 2
    self.remat = remat
    self.attention1: TokenPerformer | TokenTransformer
    self.attention2: TokenPerformer | TokenTransformer
    if tokens_type == "performer":
      self.attention1 = TokenPerformer(widths[0], token_dim, drop_rate=drop_rate, **common)
      self.attention2 = TokenPerformer(widths[1], token_dim, drop_rate=drop_rate, **common)
    elif tokens_type == "transformer":
      self.attention1 = TokenTransformer(widths[0], token_dim, **common)
      self.attention2 = TokenTransformer(widths[1], token_dim, **common)
    else:
      raise ValueError(f"tokens_type must be 'performer' or 'transformer', got {tokens_type!r}")
    last = token_dim * KERNELS[2] ** 2
    self.project = nnx.Linear(last, embed_dim, kernel_init=LINEAR_INIT, **common)

  def __call__(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """[B, H, W, 3] -> [B, N, embed_dim], N = H * W / product of strides ** 2.

    `key` None is deterministic.
    """
    x = images.astype(self.project.dtype)
    first_key, second_key = split_or_none(key, 2)
    for split, attention, split_key in (
      (self.splits[0], self.attention1, first_key),
      (self.splits[1], self.attention2, second_key),
    ):
      apply = jax.checkpoint(attention.__call__) if self.remat else attention
      x = _as_image(apply(soft_split(x, *split), split_key))
    return self.project(soft_split(x, *self.splits[2]))
