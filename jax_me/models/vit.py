"""Vision Transformer classifiers (arXiv:2010.11929) as MAE fine-tunes them (arXiv:2111.06377)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_me.models.layers import FixedTable, at_least_float32, dropout, dropout_key, split_or_none
from jax_me.models.patches import PatchEmbed, check_images, patch_grid, patchify, torch_uniform
from jax_me.models.positions import sincos_2d
from jax_me.models.transformer import Block, layer_norm, run_blocks, stochastic_depth_rates

# timm truncates N(0, 0.02) at +-2, a hundred standard deviations: effectively untruncated.
NORMAL_INIT = nnx.initializers.normal(0.02)
NORM_EPSILON = 1e-6


class VisionTransformer(nnx.Module):
  """ViT classifier.

  Args:
    patch_size: pixels along a side of a patch; must divide `image_size`.
    embed_dim: width of the tokens.
    depth: number of blocks.
    num_heads: attention heads; must divide `embed_dim`.
    mlp_ratio: hidden width of the MLPs over `embed_dim`.
    qkv_bias: bias of the query, key and value projection.
    qk_scale: factor of the attention scores; None is head_dim ** -0.5.
    image_size: side of the square input in pixels.
    num_classes: width of the logits.
    global_pool: True uses the mean of the patch tokens, then `fc_norm`; False uses the class
      token after `norm`.
    representation_size: width of a tanh layer between the last norm and the head, as in ViTs
      pre-trained on ImageNet-21k; None has no such layer.
    train_positions: False uses MAE's 2-D sine-cosine table and does not train it.
    norm_epsilon: epsilon of the layer norms.
    drop_rate: dropout after the position table and on the outputs of attention and MLP.
    attn_drop_rate: dropout on the attention weights.
    drop_path_rate: stochastic depth of the last block; rises linearly from 0 at the first.
    remat: recompute each block in the backward pass, to save memory.
    scan: run the blocks as one loop that compiles once, see `run_stack`.
    dtype: compute dtype; norms, softmax and the head use at least float32.
    param_dtype: dtype of the parameters.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    *,
    patch_size: int = 16,
    embed_dim: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = True,
    qk_scale: float | None = None,
    image_size: int = 224,
    num_classes: int = 1000,
    global_pool: bool = True,
    representation_size: int | None = None,
    train_positions: bool = True,
    norm_epsilon: float = NORM_EPSILON,
    drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    remat: bool = False,
    scan: bool = False,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    grid = patch_grid(image_size, patch_size)
    self.image_size = image_size
    self.patch_size = patch_size
    self.global_pool = global_pool
    self.drop_rate = drop_rate
    self.remat = remat
    self.scan = scan
    self.dtype = dtype
    self.patch_embed = PatchEmbed(
      patch_size,
      embed_dim,
      kernel_init=torch_uniform(3 * patch_size**2),
      bias_init=torch_uniform(3 * patch_size**2),
      dtype=dtype,
      param_dtype=param_dtype,
      rngs=rngs,
    )
    self.cls_token = nnx.Param(NORMAL_INIT(rngs.params(), (1, 1, embed_dim), param_dtype))
    if train_positions:
      shape = (1, 1 + grid**2, embed_dim)
      self.pos_embed: nnx.Variable = nnx.Param(NORMAL_INIT(rngs.params(), shape, param_dtype))
    else:
      self.pos_embed = FixedTable(jnp.asarray(sincos_2d(grid, embed_dim), param_dtype))
    self.blocks = nnx.List(
      Block(
        embed_dim,
        num_heads,
        mlp_ratio=mlp_ratio,
        qkv_bias=qkv_bias,
        qk_scale=qk_scale,
        drop_rate=drop_rate,
        attn_drop_rate=attn_drop_rate,
        drop_path_rate=rate,
        epsilon=norm_epsilon,
        kernel_init=NORMAL_INIT,
        dtype=dtype,
        param_dtype=param_dtype,
        rngs=rngs,
      )
      for rate in stochastic_depth_rates(drop_path_rate, depth)
    )
    norm = layer_norm(
      embed_dim, epsilon=norm_epsilon, dtype=dtype, param_dtype=param_dtype, rngs=rngs
    )
    # The original code names the norm by its position: before or after the pooling.
    if global_pool:
      self.fc_norm = norm
    else:
      self.norm = norm
    linear: dict[str, Any] = dict(
      kernel_init=NORMAL_INIT, dtype=at_least_float32(dtype), param_dtype=param_dtype, rngs=rngs
    )
    self.pre_logits = (
      nnx.Linear(embed_dim, representation_size, **linear) if representation_size else None
    )
    self.head = nnx.Linear(representation_size or embed_dim, num_classes, **linear)

  def features(
    self, images: jax.Array, *, deterministic: bool = True, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """Pooled features after the final norm and, where there is one, the tanh layer.

    Args:
      images: [B, image_size, image_size, 3] normalised.
      deterministic: False turns dropout and stochastic depth on.
      rngs: must have a `dropout` stream; required when not deterministic.

    Returns:
      [B, representation_size or embed_dim], at least float32.
    """
    check_images(images, self.image_size)
    key = None if deterministic else dropout_key(rngs)
    positions_key, blocks_key = split_or_none(key, 2)
    tokens = self.patch_embed(patchify(images, self.patch_size))
    token = jnp.broadcast_to(
      self.cls_token[...].astype(tokens.dtype), (tokens.shape[0], 1, tokens.shape[-1])
    )
    tokens = jnp.concatenate([token, tokens], axis=1)
    tokens = tokens + self.pos_embed[...].astype(tokens.dtype)
    tokens = dropout(tokens, self.drop_rate, positions_key)
    tokens = run_blocks(self.blocks, tokens, blocks_key, remat=self.remat, scan=self.scan)
    if self.global_pool:
      pooled = tokens[:, 1:].mean(axis=1, dtype=at_least_float32(tokens.dtype))
      features = self.fc_norm(pooled)
    else:
      features = self.norm(tokens[:, 0])
    return jnp.tanh(self.pre_logits(features)) if self.pre_logits else features

  def __call__(
    self, images: jax.Array, *, deterministic: bool = True, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """Logits [B, num_classes], at least float32; arguments as in `features`."""
    return self.head(self.features(images, deterministic=deterministic, rngs=rngs))


VIT_SIZES: dict[str, dict[str, Any]] = {
  "tiny_patch16": dict(patch_size=16, embed_dim=192, depth=12, num_heads=3),
  "small_patch16": dict(patch_size=16, embed_dim=384, depth=12, num_heads=6),
  "small_patch32": dict(patch_size=32, embed_dim=384, depth=12, num_heads=6),
  "base_patch16": dict(patch_size=16, embed_dim=768, depth=12, num_heads=12),
  "large_patch16": dict(patch_size=16, embed_dim=1024, depth=24, num_heads=16),
  "huge_patch14": dict(patch_size=14, embed_dim=1280, depth=32, num_heads=16),
}

VIT_MODELS: dict[str, Callable[..., VisionTransformer]] = {
  f"vit_{size}": functools.partial(VisionTransformer, **arguments)
  for size, arguments in VIT_SIZES.items()
}
