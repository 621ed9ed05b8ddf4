"""Pre-norm transformer block shared by ViT, MAE and the T2T-ViT backbones."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_me.models.attention import self_attention, separate_heads
from jax_me.models.block_stack import run_stack
from jax_me.models.layers import (
  at_least_float32,
  drop_path,
  dropout,
  gelu,
  split_or_none,
  stop_fusion,
)


def layer_norm(
  features: int, *, epsilon: float, dtype: DTypeLike, param_dtype: DTypeLike, rngs: nnx.Rngs
) -> nnx.LayerNorm:
  """LayerNorm in at least float32, with the variance about the mean (no cancellation).

  Args:
    features: size of the last axis.
    epsilon: added to the variance.
    dtype: compute dtype of the surrounding layers; the norm uses at least float32.
    param_dtype: dtype of scale and bias.
    rngs: source of the initial values.

  Returns:
    The module.
  """
  return nnx.LayerNorm(
    features,
    epsilon=epsilon,
    use_fast_variance=False,
    dtype=at_least_float32(dtype),
    param_dtype=param_dtype,
    rngs=rngs,
  )


class Attention(nnx.Module):
  """Multi-head self-attention (arXiv:1706.03762) with one projection for query, key and value.

  Args:
    dim: width of the tokens.
    num_heads: must divide `dim`.
    qkv_bias: whether the joint projection has a bias.
    qk_scale: factor of the scores; None is (dim / num_heads) ** -0.5.
    attn_drop_rate: dropout on the attention weights.
    drop_rate: dropout on the output.
  """

  def __init__(
    self,
    dim: int,
    num_heads: int,
    *,
    qkv_bias: bool,
    qk_scale: float | None = None,
    attn_drop_rate: float = 0.0,
    drop_rate: float = 0.0,
    kernel_init: Callable,
    dtype: DTypeLike,
    param_dtype: DTypeLike,
    rngs: nnx.Rngs,
  ):
    self._configure(dim, num_heads, qk_scale, attn_drop_rate, drop_rate)
    options: dict[str, Any] = dict(
      kernel_init=kernel_init, dtype=dtype, param_dtype=param_dtype, rngs=rngs
    )
    self.qkv = nnx.Linear(dim, 3 * dim, use_bias=qkv_bias, **options)
    self.proj = nnx.Linear(dim, dim, **options)

  def _configure(
    self,
    dim: int,
    num_heads: int,
    qk_scale: float | None,
    attn_drop_rate: float,
    drop_rate: float,
  ) -> None:
    """Sets the attributes shared by all kinds of attention; subclasses create their own layers."""
    if dim % num_heads:
      raise ValueError(f"embed_dim {dim} must be divisible by num_heads {num_heads}")
    self.num_heads = num_heads
    self.scale = qk_scale if qk_scale is not None else (dim // num_heads) ** -0.5
    self.attn_drop_rate = attn_drop_rate
    self.drop_rate = drop_rate

  def query_key_value(self, x: jax.Array) -> list[jax.Array]:
    """[B, N, dim] -> query, key, value, each [B, N, dim], with the heads side by side."""
    # Splitting before separating the heads makes the gradient's transposes cheap on CPU: a step of
    # the whole attention takes 0.7 times as long as with one five-dimensional array.
    return jnp.split(self.qkv(x), 3, axis=-1)

  def heads(self, x: jax.Array) -> list[jax.Array]:
    """[B, N, dim] -> query, key, value, each [B, heads, N, head_dim]."""
    return [separate_heads(part, self.num_heads) for part in self.query_key_value(x)]

  def project(self, x: jax.Array) -> jax.Array:
    """Output projection of the concatenated heads: [B, N, dim] -> [B, N, dim]."""
    return self.proj(x)

  def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """[B, N, dim] -> [B, N, dim]; `key` None is deterministic."""
    weights_key, output_key = split_or_none(key, 2)
    mixed = self_attention(
      *self.query_key_value(x),
      heads=self.num_heads,
      scale=self.scale,
      drop_rate=self.attn_drop_rate,
      drop_key=weights_key,
    )
    return dropout(self.project(mixed), self.drop_rate, output_key)


class Mlp(nnx.Module):
  """Linear, exact GELU, linear, with dropout after each."""

  def __init__(
    self,
    dim: int,
    hidden: int,
    *,
    drop_rate: float = 0.0,
    kernel_init: Callable,
    bias_init: Callable = nnx.initializers.zeros,
    dtype: DTypeLike,
    param_dtype: DTypeLike,
    rngs: nnx.Rngs,
  ):
    self.drop_rate = drop_rate
    options: dict[str, Any] = dict(
      kernel_init=kernel_init,
      bias_init=bias_init,
      dtype=dtype,
      param_dtype=param_dtype,
      rngs=rngs,
    )
    self.fc1 = nnx.Linear(dim, hidden, **options)
    self.fc2 = nnx.Linear(hidden, dim, **options)

  def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
    hidden_key, output_key = split_or_none(key, 2)
    x = dropout(gelu(self.fc1(x)), self.drop_rate, hidden_key)
    return dropout(self.fc2(x), self.drop_rate, output_key)


class Block(nnx.Module):
  """x + attention(norm1(x)), then x + mlp(norm2(x)); stochastic depth on both branches.

  Args:
    dim: width of the tokens.
    num_heads: attention heads.
    mlp_ratio: hidden width of the MLP over `dim`.
    qkv_bias, qk_scale, attn_drop_rate: see `Attention`.
    drop_rate: dropout on the outputs of attention and MLP.
    drop_path_rate: probability of dropping each residual branch, per sample.
    epsilon: epsilon of the layer norms.
    attention, mlp: classes with the constructor signatures of `Attention` and `Mlp`.
  """

  def __init__(
    self,
    dim: int,
    num_heads: int,
    *,
    mlp_ratio: float,
    qkv_bias: bool,
    qk_scale: float | None = None,
    drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    epsilon: float,
    attention: Callable[..., nnx.Module] = Attention,
    mlp: Callable[..., nnx.Module] = Mlp,
    kernel_init: Callable,
    dtype: DTypeLike,
    param_dtype: DTypeLike,
    rngs: nnx.Rngs,
  ):
    self.drop_path_rate = drop_path_rate
    norm: dict[str, Any] = dict(epsilon=epsilon, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    linear: dict[str, Any] = dict(
      kernel_init=kernel_init, dtype=dtype, param_dtype=param_dtype, rngs=rngs
    )
    self.norm1 = layer_norm(dim, **norm)
    self.attn: Any = attention(
      dim,
      num_heads,
      qkv_bias=qkv_bias,
      qk_scale=qk_scale,
      attn_drop_rate=attn_drop_rate,
      drop_rate=drop_rate,
      **linear,
    )
    self.norm2 = layer_norm(dim, **norm)
    self.mlp: Any = mlp(dim, int(dim * mlp_ratio), drop_rate=drop_rate, **linear)

  def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """[B, N, dim] -> [B, N, dim]; `key` None is deterministic."""
    attn_key, attn_path_key, mlp_key, mlp_path_key = split_or_none(key, 4)
    x = x + drop_path(self.attn(self.norm1(x), attn_key), self.drop_path_rate, attn_path_key)
    return x + drop_path(self.mlp(self.norm2(x), mlp_key), self.drop_path_rate, mlp_path_key)


def stochastic_depth_rates(drop_path_rate: float, depth: int) -> list[float]:
  """Rates that increase linearly from 0 at the first block to `drop_path_rate` at the last."""
  return [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]


def run_blocks(
  blocks: nnx.List, x: jax.Array, key: jax.Array | None, *, remat: bool = False, scan: bool = False
) -> jax.Array:
  """Applies the blocks in order, each with its own key.

  Args:
    blocks: modules called as block(x, key).
    x: [B, N, D] tokens.
    key: PRNG key; None means deterministic.
    remat: recompute each block's activations in the backward pass instead of keeping them.
    scan: run the blocks as one loop that compiles once, see `run_stack`.

  Returns:
    [B, N, D] output of the last block.
  """

  def call(block: Any, x: jax.Array, key: jax.Array | None) -> jax.Array:
    return stop_fusion(block(x, key))

  keys = split_or_none(key, len(blocks))
  return run_stack(list(blocks), x, keys, call=call, remat=remat, scan=scan)
