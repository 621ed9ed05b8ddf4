"""T2T-ViT classifiers (arXiv:2101.11986)."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_me.models.layers import FixedTable, at_least_float32, dropout, dropout_key, split_or_none
from jax_me.models.patches import check_images, patch_grid
from jax_me.models.positions import sinusoid_1d
from jax_me.models.t2t_backbones import dense_blocks, uniform_blocks
from jax_me.models.t2t_tokens import LINEAR_INIT, NORM_EPSILON, STRIDES, TokensToToken
from jax_me.models.transformer import layer_norm, run_blocks


class T2TViT(nnx.Module):
  """T2T-ViT classifier.

  Args:
    tokens_type: "performer" or "transformer", the attention of the tokens-to-token module.
    embed_dim: width of the tokens.
    depth: number of blocks (not used by the dense backbone).
    num_heads: attention heads; must divide `embed_dim`.
    mlp_ratio: hidden width of the MLPs over `embed_dim`.
    token_dim: width of the tokens between the soft splits.
    strides: of the three soft splits; (2, 2, 1) gives 64 tokens for images of 32 pixels.
    backbone: "plain", "se", "ghost" (needs mlp_ratio 3) or "dense".
    block_config: blocks of each stage, dense backbone only.
    growth_rate: channels that each block appends, dense backbone only.
    qkv_bias: bias of the query, key and value projection.
    qk_scale: factor of the attention scores; None is head_dim ** -0.5, as in all released weights.
    image_size: side of the square input in pixels, a multiple of the product of `strides`.
    num_classes: width of the logits.
    token_labeling: adds `aux_head`, a classifier of every token (arXiv:2104.10858).
    drop_rate: dropout after the position table and on the outputs of attention and MLP.
    attn_drop_rate: dropout on the attention weights.
    drop_path_rate: stochastic depth of the last block; rises linearly from 0 at the first.
    token_drop_rate: dropout in the performers; active in training by default, as in the original.
    remat: recompute blocks and token attentions in the backward pass, to save memory.
    scan: run the blocks as one loop that compiles once, see `run_stack`; not for `dense`.
    dtype: compute dtype; norms, softmax, the performer's kernel and the heads use at least float32.
    param_dtype: dtype of the parameters.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    *,
    tokens_type: str = "performer",
    embed_dim: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    mlp_ratio: float = 4.0,
    token_dim: int = 64,
    strides: Sequence[int] = STRIDES,
    backbone: str = "plain",
    block_config: Sequence[int] = (3, 6, 6, 4),
    growth_rate: int = 64,
    qkv_bias: bool = False,
    qk_scale: float | None = None,
    image_size: int = 224,
    num_classes: int = 1000,
    token_labeling: bool = False,
    drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    token_drop_rate: float = 0.1,
    remat: bool = False,
    scan: bool = False,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    self.strides = tuple(strides)
    grid = patch_grid(image_size, math.prod(strides))
    self.image_size = image_size
    self.drop_rate = drop_rate
    self.remat = remat
    self.scan = scan
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    self.tokens_to_token = TokensToToken(
      tokens_type=tokens_type,
      embed_dim=embed_dim,
      token_dim=token_dim,
      strides=strides,
      drop_rate=token_drop_rate,
      remat=remat,
      **common,
    )
    self.cls_token = nnx.Param(LINEAR_INIT(rngs.params(), (1, 1, embed_dim), param_dtype))
    self.pos_embed = FixedTable(jnp.asarray(sinusoid_1d(grid**2 + 1, embed_dim), param_dtype))
    settings: dict[str, Any] = dict(
      num_heads=num_heads,
      mlp_ratio=mlp_ratio,
      qkv_bias=qkv_bias,
      qk_scale=qk_scale,
      drop_rate=drop_rate,
      attn_drop_rate=attn_drop_rate,
      drop_path_rate=drop_path_rate,
      epsilon=NORM_EPSILON,
      kernel_init=LINEAR_INIT,
      **common,
    )
    if backbone == "dense":
      self.blocks, width = dense_blocks(
        embed_dim, block_config=block_config, growth_rate=growth_rate, **settings
      )
    else:
      self.blocks, width = uniform_blocks(backbone, embed_dim, depth=depth, **settings), embed_dim
    self.norm = layer_norm(width, epsilon=NORM_EPSILON, **common)
    head: dict[str, Any] = dict(kernel_init=LINEAR_INIT, param_dtype=param_dtype, rngs=rngs)
    self.head = nnx.Linear(width, num_classes, dtype=at_least_float32(dtype), **head)
    self.token_labeling = token_labeling
    if token_labeling:
      self.aux_head = nnx.Linear(width, num_classes, dtype=at_least_float32(dtype), **head)

  def tokens(
    self, images: jax.Array, *, deterministic: bool = True, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """All tokens after the final norm.

    Args:
      images: [B, image_size, image_size, 3] normalised.
      deterministic: False turns dropout and stochastic depth on.
      rngs: must have a `dropout` stream; required when not deterministic.

    Returns:
      [B, 1 + (image_size / 16)**2, D], at least float32, class token first. D is `embed_dim`, or
      the final width of the dense backbone.
    """
    check_images(images, self.image_size)
    key = None if deterministic else dropout_key(rngs)
    split_key, positions_key, blocks_key = split_or_none(key, 3)
    tokens = self.tokens_to_token(images, split_key)
    token = jnp.broadcast_to(
      self.cls_token[...].astype(tokens.dtype), (tokens.shape[0], 1, tokens.shape[-1])
    )
    tokens = jnp.concatenate([token, tokens], axis=1) + self.pos_embed[...].astype(tokens.dtype)
    tokens = dropout(tokens, self.drop_rate, positions_key)
    return self.norm(run_blocks(self.blocks, tokens, blocks_key, remat=self.remat, scan=self.scan))

  def features(
    self, images: jax.Array, *, deterministic: bool = True, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """The class token after the final norm.

    Args:
      images, deterministic, rngs: see `tokens`.

    Returns:
      [B, D], at least float32.
    """
    return self.tokens(images, deterministic=deterministic, rngs=rngs)[:, 0]

  def token_logits(
    self, images: jax.Array, *, deterministic: bool = True, rngs: nnx.Rngs | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Logits of every token, for training with token labeling.

    Args:
      images, deterministic, rngs: see `tokens`.

    Returns:
      logits of the class token [B, num_classes] and of every other token [B, N, num_classes].

    Raises:
      ValueError: the model was built without token_labeling.
    """
    if not self.token_labeling:
      raise ValueError("token_logits needs a model built with token_labeling=True")
    tokens = self.tokens(images, deterministic=deterministic, rngs=rngs)
    return self.head(tokens[:, 0]), self.aux_head(tokens[:, 1:])

  def __call__(
    self, images: jax.Array, *, deterministic: bool = True, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """Logits [B, num_classes], at least float32; arguments as in `tokens`.

    With token labeling, half of the maximum over the other tokens' logits is added to the class
    token's, the evaluation rule of LV-ViT (arXiv:2104.10858). The same rule applies in training, so
    that fine-tuning with an ordinary loss optimises the logits used in evaluation.
    """
    if self.token_labeling:
      logits, aux = self.token_logits(images, deterministic=deterministic, rngs=rngs)
      return logits + 0.5 * aux.max(axis=1)
    return self.head(self.features(images, deterministic=deterministic, rngs=rngs))


def _sizes() -> dict[str, dict[str, Any]]:
  lite = dict(embed_dim=256, num_heads=4, mlp_ratio=2.0)
  d384 = dict(embed_dim=384, num_heads=6, mlp_ratio=3.0)
  d448 = dict(embed_dim=448, num_heads=7, mlp_ratio=3.0)
  d512 = dict(embed_dim=512, num_heads=8, mlp_ratio=3.0)
  return {
    "7": dict(**lite, depth=7),
    "10": dict(**lite, depth=10),
    "12": dict(**lite, depth=12),
    "14": dict(**d384, depth=14),
    "19": dict(**d448, depth=19),
    "24": dict(**d512, depth=24),
    "t_14": dict(**d384, depth=14, tokens_type="transformer"),
    "t_19": dict(**d448, depth=19, tokens_type="transformer"),
    "t_24": dict(**d512, depth=24, tokens_type="transformer"),
    "14_resnext": dict(embed_dim=384, num_heads=32, mlp_ratio=3.0, depth=14),
    "14_wide": dict(embed_dim=768, num_heads=12, mlp_ratio=3.0, depth=4),
    "14_se": dict(**d384, depth=14, backbone="se"),
    "dense": dict(embed_dim=128, num_heads=8, mlp_ratio=2.0, backbone="dense"),
    "16_ghost": dict(**d384, depth=16, backbone="ghost"),
  }


T2T_MODELS: dict[str, Callable[..., T2TViT]] = {
  f"t2t_vit_{size}": functools.partial(T2TViT, **arguments) for size, arguments in _sizes().items()
}
