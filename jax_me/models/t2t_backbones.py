"""Backbones of T2T-ViT (arXiv:2101.11986, section 3.2): plain, squeeze-excitation, ghost, dense."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_me.models.layers import dropout, gelu, split_or_none
from jax_me.models.patches import torch_uniform
from jax_me.models.transformer import Attention, Block, Mlp, stochastic_depth_rates

# The original spreads the rates over 12 steps, although the dense backbone has one rate per stage.
_DENSE_RATES = 12


class SqueezeExcitation(nnx.Module):
  """Squeeze-and-excitation channel gate on the mean over the tokens (arXiv:1709.01507)."""

  def __init__(self, dim: int, *, reduction: int = 16, **options: Any):
    self.fc1 = nnx.Linear(dim, dim // reduction, use_bias=False, **options)
    self.fc2 = nnx.Linear(dim // reduction, dim, use_bias=False, **options)

  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, N, dim] -> [B, N, dim]."""
    gate = jax.nn.sigmoid(self.fc2(jax.nn.relu(self.fc1(x.mean(axis=1)))))
    return x * gate[:, None]


class SEAttention(Attention):
  """Attention with a squeeze-excitation gate on its output, before the dropout."""

  def __init__(
    self,
    dim: int,
    num_heads: int,
    *,
    kernel_init: Callable,
    dtype: DTypeLike,
    param_dtype: DTypeLike,
    rngs: nnx.Rngs,
    **settings: Any,
  ):
    options: dict[str, Any] = dict(
      kernel_init=kernel_init, dtype=dtype, param_dtype=param_dtype, rngs=rngs
    )
    super().__init__(dim, num_heads, **settings, **options)
    self.se_layer = SqueezeExcitation(dim, **options)

  def project(self, x: jax.Array) -> jax.Array:
    return self.se_layer(self.proj(x))


class CheapOperation(nnx.Module):
  """One factor per channel: the depthwise convolution of width 1 of GhostNet (arXiv:1911.11907).

  The kernel has the layout of a flax convolution, [1, 1, dim].
  """

  def __init__(self, dim: int, *, dtype: DTypeLike, param_dtype: DTypeLike, rngs: nnx.Rngs):
    self.dtype = dtype
    self.kernel = nnx.Param(torch_uniform(1)(rngs.params(), (1, 1, dim), param_dtype))

  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, N, dim] -> [B, N, dim]."""
    return x * self.kernel[...].astype(self.dtype)


class GhostAttention(Attention):
  """Attention that computes half of query, key and value, and the rest by cheap operations."""

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
    half = dim // 2
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    self.q = nnx.Linear(dim, half, use_bias=qkv_bias, kernel_init=kernel_init, **common)
    self.k = nnx.Linear(dim, half, use_bias=qkv_bias, kernel_init=kernel_init, **common)
    self.v = nnx.Linear(dim, half, use_bias=qkv_bias, kernel_init=kernel_init, **common)
    self.cheap_operation_q = CheapOperation(half, **common)
    self.cheap_operation_k = CheapOperation(half, **common)
    self.cheap_operation_v = CheapOperation(half, **common)
    self.proj = nnx.Linear(dim, dim, kernel_init=kernel_init, **common)

  def query_key_value(self, x: jax.Array) -> list[jax.Array]:
    def complete(half: jax.Array, cheap: CheapOperation) -> jax.Array:
      return jnp.concatenate([half, cheap(half)], axis=-1)

    return [
      complete(self.q(x), self.cheap_operation_q),
      complete(self.k(x), self.cheap_operation_k),
      complete(self.v(x), self.cheap_operation_v),
    ]


class GhostMlp(nnx.Module):
  """MLP of hidden width 3 * dim; two thirds are cheap operations on the first third."""

  def __init__(
    self,
    dim: int,
    hidden: int,
    *,
    drop_rate: float = 0.0,
    kernel_init: Callable,
    dtype: DTypeLike,
    param_dtype: DTypeLike,
    rngs: nnx.Rngs,
  ):
    if hidden != 3 * dim:
      raise ValueError(f"the ghost backbone needs mlp_ratio 3, got {hidden / dim:g}")
    self.drop_rate = drop_rate
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    self.fc1 = nnx.Linear(dim, dim, kernel_init=kernel_init, **common)
    self.cheap_operation2 = CheapOperation(dim, **common)
    self.cheap_operation3 = CheapOperation(dim, **common)
    self.fc2 = nnx.Linear(hidden, dim, kernel_init=kernel_init, **common)

  def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """[B, N, dim] -> [B, N, dim]; `key` None is deterministic."""
    hidden_key, output_key = split_or_none(key, 2)
    first = gelu(self.fc1(x))
    second = gelu(self.cheap_operation2(first))
    third = gelu(self.cheap_operation3(first))
    hidden = jnp.concatenate([first, second, third], axis=-1)
    hidden = dropout(hidden, self.drop_rate, hidden_key)
    return dropout(self.fc2(hidden), self.drop_rate, output_key)


class DenseBlock(Block):
  """A block that appends its output, projected to `growth_rate` channels, to its input."""

  def __init__(self, dim: int, num_heads: int, *, growth_rate: int, **settings: Any):
    super().__init__(dim, num_heads, **settings)
    linear = {key: settings[key] for key in ("kernel_init", "dtype", "param_dtype", "rngs")}
    self.dense_linear = nnx.Linear(dim, growth_rate, **linear)

  def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """[B, N, dim] -> [B, N, dim + growth_rate]."""
    return jnp.concatenate([x, self.dense_linear(super().__call__(x, key))], axis=-1)


class Transition(nnx.Module):
  """Linear layer to half the width and GELU, between the stages of the dense backbone."""

  def __init__(self, dim: int, out_dim: int, **linear: Any):
    self.linear = nnx.Linear(dim, out_dim, **linear)

  def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """[B, N, dim] -> [B, N, out_dim]; without dropout, so `key` is not used."""
    del key
    return gelu(self.linear(x))


BACKBONE_LAYERS: dict[str, dict[str, Any]] = {
  "plain": dict(attention=Attention, mlp=Mlp),
  "se": dict(attention=SEAttention, mlp=Mlp),
  "ghost": dict(attention=GhostAttention, mlp=GhostMlp),
}


def uniform_blocks(
  backbone: str, embed_dim: int, *, depth: int, drop_path_rate: float, **settings: Any
) -> nnx.List:
  """Blocks of one width.

  Args:
    backbone: key of `BACKBONE_LAYERS`.
    embed_dim: width of the tokens.
    depth: number of blocks.
    drop_path_rate: stochastic depth of the last block; rises linearly from 0 at the first.
    **settings: passed to `Block`.

  Returns:
    The blocks in order.

  Raises:
    ValueError: unknown backbone.
  """
  if backbone not in BACKBONE_LAYERS:
    raise ValueError(
      f"backbone must be one of {sorted([*BACKBONE_LAYERS, 'dense'])}, got {backbone!r}"
    )
  return nnx.List(
    Block(embed_dim, drop_path_rate=rate, **BACKBONE_LAYERS[backbone], **settings)
    for rate in stochastic_depth_rates(drop_path_rate, depth)
  )


def dense_blocks(
  embed_dim: int,
  *,
  block_config: Sequence[int],
  growth_rate: int,
  drop_path_rate: float,
  **settings: Any,
) -> tuple[nnx.List, int]:
  """Blocks of the dense backbone: stages with transitions between them.

  Args:
    embed_dim: width at the start.
    block_config: blocks of each stage.
    growth_rate: channels that each block appends.
    drop_path_rate: last of 12 rates that rise linearly from 0; stage i uses rate i, as in the
      original code.
    **settings: passed to `Block`.

  Returns:
    The modules in order, and the width of the last.
  """
  linear = {key: settings[key] for key in ("kernel_init", "dtype", "param_dtype", "rngs")}
  rates = stochastic_depth_rates(drop_path_rate, _DENSE_RATES)
  modules: list[nnx.Module] = []
  width = embed_dim
  for stage, blocks in enumerate(block_config):
    if stage > 0:
      modules.append(Transition(width, width // 2, **linear))
      width //= 2
    for _ in range(blocks):
      modules.append(
        DenseBlock(width, growth_rate=growth_rate, drop_path_rate=rates[stage], **settings)
      )
      width += growth_rate
  return nnx.List(modules), width
