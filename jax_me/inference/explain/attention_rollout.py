"""Attention rollout of vision transformers (arXiv:2005.00928)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jax_me.inference.explain.activation_hooks import (
  hook_layer,
  pools_patch_tokens,
  unrolled_copy,
)
from jax_me.models.layers import at_least_float32
from jax_me.models.t2t_vit import T2TViT
from jax_me.models.transformer import Attention, Block
from jax_me.models.vit import VisionTransformer


def attention_weights(attention: Attention, x: jax.Array) -> jax.Array:
  """Softmax weights of an attention layer, computed as in `attend`.

  Args:
    attention: any attention layer of the backbones.
    x: [B, N, dim], input of the layer (after the norm).

  Returns:
    [B, heads, N, N] at least float32; row i holds the weights of all tokens for query token i and
    sums to 1.
  """
  query, key, _ = attention.heads(x)
  scores = jnp.matmul(
    query * attention.scale,
    key.swapaxes(-1, -2),
    preferred_element_type=at_least_float32(query.dtype),
  )
  return jax.nn.softmax(scores, axis=-1)


def attention_maps(model: VisionTransformer | T2TViT, images: jax.Array) -> list[jax.Array]:
  """Attention weights of every backbone block, in order of depth.

  For T2T-ViT, only the backbone is included. The tokens-to-token stages are omitted: stages of
  kind "performer" have no softmax weights, and tokens are regrouped between stages.

  Args:
    model: a classifier in deterministic mode (no dropout).
    images: [B, S, S, 3] normalised.

  Returns:
    list of [B, heads, N, N]; token 0 is the class token, followed by the patches in row order.

  Raises:
    ValueError: the model has no attention.
  """
  if not isinstance(model, VisionTransformer | T2TViT):
    raise ValueError(f"attention rollout needs a ViT or T2T-ViT, got a {type(model).__name__}")
  copy = unrolled_copy(model)
  blocks = [block for block in copy.blocks if isinstance(block, Block)]
  layers = [block.attn for block in blocks]
  hooks = [hook_layer(block, "attn") for block in blocks]
  copy(images)
  return [
    attention_weights(layer, hook.input)  # type: ignore[arg-type]
    for layer, hook in zip(layers, hooks, strict=True)
  ]


def rollout(weights: Sequence[jax.Array]) -> jax.Array:
  """Attention rollout (Abnar & Zuidema 2020, arXiv:2005.00928, equation 1).

  Averages the heads, models the residual connection as 0.5 A + 0.5 I, and multiplies the layers,
  the last one leftmost. Values and MLPs are ignored, so the result is the same for every class.

  Args:
    weights: attention weights per layer in order of depth; [B, heads, N, N] with rows that sum
      to 1.

  Returns:
    [B, N, N]; row i holds the contributions of the input tokens to output token i and sums to 1.
  """
  product = None
  for layer in weights:
    mixed = layer.mean(axis=1)
    mixed = 0.5 * mixed + 0.5 * jnp.eye(mixed.shape[-1], dtype=mixed.dtype)[None]
    product = mixed if product is None else jnp.matmul(mixed, product)
  if product is None:
    raise ValueError("rollout needs the weights of at least one layer")
  return product


def attention_rollout(model: VisionTransformer | T2TViT, images: jax.Array) -> jax.Array:
  """Rollout contribution of each patch to the token that the classifier head reads.

  This is the row of the class token, or the mean of the patch token rows when the model pools
  them (`global_pool`).

  Args:
    model: a classifier with attention.
    images: [B, S, S, 3] normalised.

  Returns:
    [B, h, w] in [0, 1], at least float32, on the patch grid of the image. The difference of the
    sum to 1 is the contribution of the class token.

  Raises:
    ValueError: the model has no attention.
  """
  rows = rollout(attention_maps(model, images))
  row = rows[:, 1:].mean(axis=1) if pools_patch_tokens(model) else rows[:, 0]
  side = round((row.shape[-1] - 1) ** 0.5)
  return row[:, 1:].reshape(-1, side, side)
