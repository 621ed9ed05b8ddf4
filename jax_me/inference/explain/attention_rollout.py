"""Where a vision transformer's attention leads: attention rollout (arXiv:2005.00928)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_me.inference.explain.activation_hooks import pools_patches, tap, unrolled
from jax_me.models.t2t_vit import T2TViT
from jax_me.models.transformer import Attention, Block, exact_dtype
from jax_me.models.vit import VisionTransformer


def attention_weights(attention: Attention, x: jax.Array) -> jax.Array:
  """The softmax weights that an attention layer forms over its input, as `attend` does.

  Args:
    attention: any kind of it that the backbones use.
    x: [B, N, dim], what the layer was called with (after the norm).

  Returns:
    [B, heads, N, N] at least float32; row i says how much token i takes from each token, and sums
    to 1.
  """
  query, key, _ = attention.heads(x)
  scores = jnp.matmul(
    query * attention.scale,
    key.swapaxes(-1, -2),
    preferred_element_type=exact_dtype(query.dtype),
  )
  return jax.nn.softmax(scores, axis=-1)


def attention_maps(model: VisionTransformer | T2TViT, images: jax.Array) -> list[jax.Array]:
  """The attention weights of every backbone block, the first one first.

  Of T2T-ViT these are the blocks of the backbone. Its tokens-to-token stages are left out: those
  of kind "performer" form no softmax weights, and none has tokens that keep their places.

  Args:
    model: a classifier; deterministic (no dropout).
    images: [B, S, S, 3] normalised.

  Returns:
    a list of [B, heads, N, N]; token 0 is the class token, then come the patches by rows.

  Raises:
    ValueError: a model without attention.
  """
  if not isinstance(model, VisionTransformer | T2TViT):
    raise ValueError(f"attention rollout needs a ViT or T2T-ViT, got a {type(model).__name__}")
  copy = unrolled(model)
  layers = [block.attn for block in copy.blocks if isinstance(block, Block)]
  taps = [tap(block, "attn") for block in copy.blocks if isinstance(block, Block)]
  copy(images)
  return [
    attention_weights(layer, one.input)  # type: ignore[arg-type]
    for layer, one in zip(layers, taps, strict=True)
  ]


def rollout(weights: Sequence[jax.Array]) -> jax.Array:
  """Attention rollout (Abnar & Zuidema 2020, arXiv:2005.00928, equation 1).

  Averages the heads, adds the residual connection as 0.5 A + 0.5 I, and multiplies the layers
  through, the last one leftmost. It follows weights alone: what the values and the MLPs do to the
  tokens is left out, and the result is the same for every class.

  Args:
    weights: of each layer, the first one first; [B, heads, N, N] whose rows sum to 1.

  Returns:
    [B, N, N]; row i is how the last layer's token i is made up of the first layer's tokens, and
    sums to 1.
  """
  product = None
  for layer in weights:
    mixed = layer.mean(axis=1)
    mixed = 0.5 * mixed + 0.5 * jnp.eye(mixed.shape[-1], dtype=mixed.dtype)
    product = mixed if product is None else jnp.matmul(mixed, product)
  if product is None:
    raise ValueError("rollout needs the weights of at least one layer")
  return product


def attention_rollout(model: VisionTransformer | T2TViT, images: jax.Array) -> jax.Array:
  """How much of each patch reaches, by `rollout`, what the classifier looks at.

  That is the class token's row; where the model takes the mean of the patch tokens
  (`global_pool`), the mean of their rows.

  Args:
    model: a classifier with attention.
    images: [B, S, S, 3] normalised.

  Returns:
    [B, h, w] in [0, 1], at least float32, the patches as they lie in the picture. What is missing
    from a sum of 1 is the class token's own share.

  Raises:
    ValueError: a model without attention.
  """
  rows: Any = rollout(attention_maps(model, images))
  row = rows[:, 1:].mean(axis=1) if pools_patches(model) else rows[:, 0]
  side = round((row.shape[-1] - 1) ** 0.5)
  return row[:, 1:].reshape(-1, side, side)
