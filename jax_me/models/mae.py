"""Masked autoencoders, MAE (arXiv:2111.06377), and the masking and loss shared with FCMAE."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_me.models.layers import FixedTable, MaskedOutput, at_least_float32, dropout_key
from jax_me.models.patches import (
  PatchEmbed,
  check_images,
  flat_xavier_uniform,
  patch_grid,
  patchify,
  torch_uniform,
)
from jax_me.models.positions import sincos_2d
from jax_me.models.transformer import Block, layer_norm, run_blocks
from jax_me.models.vit import NORM_EPSILON, VIT_SIZES

_XAVIER = nnx.initializers.xavier_uniform()
_TOKEN_INIT = nnx.initializers.normal(0.02)


def random_masking(noise: jax.Array, mask_ratio: float) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Selects the patches to keep: those with the smallest noise.

  Args:
    noise: [B, N] one random value per patch.
    mask_ratio: fraction to remove, in [0, 1); int(N * (1 - mask_ratio)) are kept.

  Returns:
    kept [B, K] int32, indices of the kept patches in the order of their noise; restore [B, N]
    int32, index of each patch in concat(kept, removed); mask [B, N], 1 = removed, 0 = kept.

  Raises:
    ValueError: mask_ratio outside [0, 1), or no patch would be kept.
  """
  count = noise.shape[1]
  keep = int(count * (1 - mask_ratio))
  if not 0 <= mask_ratio < 1 or keep < 1:
    raise ValueError(f"mask_ratio must be in [0, 1) and keep a patch of {count}, got {mask_ratio}")
  order = jnp.argsort(noise, axis=1)
  restore = jnp.argsort(order, axis=1)
  return order[:, :keep], restore, (restore >= keep).astype(jnp.float32)


def _take_tokens(tokens: jax.Array, indices: jax.Array) -> jax.Array:
  """tokens [B, N, D], indices [B, K] distinct within a row -> [B, K, D]."""

  def take(rows: jax.Array, indices: jax.Array) -> jax.Array:
    return rows.at[indices].get(unique_indices=True, mode="promise_in_bounds")

  return jax.vmap(take)(tokens, indices)


class MaskedAutoencoder(nnx.Module):
  """MAE: a ViT encoder on the visible patches and a small decoder that reconstructs the others.

  Args:
    patch_size, embed_dim, depth, num_heads, mlp_ratio: of the encoder, see `VisionTransformer`.
    decoder_embed_dim, decoder_depth, decoder_num_heads: of the decoder.
    norm_pix_loss: normalise the target pixels per patch (unbiased variance).
    norm_epsilon: epsilon of the layer norms.
    image_size: side of the square input in pixels.
    remat: recompute each block in the backward pass, to save memory.
    scan: run the blocks as one loop that compiles once, see `run_stack`.
    dtype: compute dtype; norms, softmax and the loss use at least float32.
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
    decoder_embed_dim: int = 512,
    decoder_depth: int = 8,
    decoder_num_heads: int = 16,
    norm_pix_loss: bool = False,
    norm_epsilon: float = NORM_EPSILON,
    image_size: int = 224,
    remat: bool = False,
    scan: bool = False,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    grid = patch_grid(image_size, patch_size)
    self.image_size = image_size
    self.patch_size = patch_size
    self.norm_pix_loss = norm_pix_loss
    self.remat = remat
    self.scan = scan
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    block: dict[str, Any] = dict(
      mlp_ratio=mlp_ratio,
      qkv_bias=True,
      epsilon=norm_epsilon,
      kernel_init=_XAVIER,
      **common,
    )
    self.patch_embed = PatchEmbed(
      patch_size,
      embed_dim,
      kernel_init=flat_xavier_uniform,
      bias_init=torch_uniform(3 * patch_size**2),
      **common,
    )
    self.cls_token = nnx.Param(_TOKEN_INIT(rngs.params(), (1, 1, embed_dim), param_dtype))
    self.pos_embed = FixedTable(jnp.asarray(sincos_2d(grid, embed_dim), param_dtype))
    self.blocks = nnx.List(Block(embed_dim, num_heads, **block) for _ in range(depth))
    self.norm = layer_norm(embed_dim, epsilon=norm_epsilon, **common)

    self.decoder_embed = nnx.Linear(embed_dim, decoder_embed_dim, kernel_init=_XAVIER, **common)
    shape = (1, 1, decoder_embed_dim)
    self.mask_token = nnx.Param(_TOKEN_INIT(rngs.params(), shape, param_dtype))
    table = jnp.asarray(sincos_2d(grid, decoder_embed_dim), param_dtype)
    self.decoder_pos_embed = FixedTable(table)
    self.decoder_blocks = nnx.List(
      Block(decoder_embed_dim, decoder_num_heads, **block) for _ in range(decoder_depth)
    )
    self.decoder_norm = layer_norm(decoder_embed_dim, epsilon=norm_epsilon, **common)
    self.decoder_pred = nnx.Linear(
      decoder_embed_dim, 3 * patch_size**2, kernel_init=_XAVIER, **common
    )

  def __call__(
    self,
    images: jax.Array,
    mask_ratio: float = 0.75,
    *,
    noise: jax.Array | None = None,
    key: jax.Array | None = None,
    deterministic: bool = True,
    rngs: nnx.Rngs | None = None,
  ) -> MaskedOutput:
    """Masks, encodes and decodes the images and computes the loss on the removed patches.

    MAE has neither dropout nor stochastic depth, so `deterministic` has no effect; it is accepted
    so that all models have one call signature.

    Args:
      images: [B, image_size, image_size, 3] normalised.
      mask_ratio: fraction of patches to remove, in [0, 1).
      noise: [B, N] selects the kept patches, see `random_masking`; drawn uniformly when None.
      key: PRNG key of the noise.
      deterministic: no effect.
      rngs: source of the key (stream `dropout`) when neither noise nor key is given.

    Returns:
      loss, pred [B, N, patch_size**2 * 3], mask [B, N], latent [B, 1 + K, embed_dim] (class token
      first, patches in the order of their noise); all at least float32.

    Raises:
      ValueError: wrong shapes or mask_ratio, or no noise, key or rngs.
    """
    check_images(images, self.image_size)
    grid = patch_grid(self.image_size, self.patch_size)
    shape = (images.shape[0], grid**2)
    if noise is None:
      noise = jax.random.uniform(dropout_key(rngs) if key is None else key, shape)
    elif noise.shape != shape:
      raise ValueError(f"noise must be {list(shape)} for these images, got {list(noise.shape)}")
    kept, restore, mask = random_masking(noise, mask_ratio)
    patches = patchify(images, self.patch_size)
    latent = self.encode(patches, kept)
    pred = self.decode(latent, restore)
    return MaskedOutput(
      loss=self.reconstruction_loss(patches, pred, mask), pred=pred, mask=mask, latent=latent
    )

  def encode(self, patches: jax.Array, kept: jax.Array) -> jax.Array:
    """Encodes the patches `kept` [B, K] of flat patches [B, N, P] -> [B, 1 + K, embed_dim].

    Patches are selected before the projection: at mask ratio 0.75 this saves three quarters of it,
    and no gradient runs through the selection.
    """
    tokens = self.patch_embed(_take_tokens(patches, kept))
    positions = self.pos_embed[...].astype(tokens.dtype)
    tokens = tokens + positions[0, 1:][kept]
    token = self.cls_token[...].astype(tokens.dtype) + positions[:, :1]
    token = jnp.broadcast_to(token, (tokens.shape[0], 1, tokens.shape[-1]))
    tokens = jnp.concatenate([token, tokens], axis=1)
    return self.norm(run_blocks(self.blocks, tokens, None, remat=self.remat, scan=self.scan))

  def decode(self, latent: jax.Array, restore: jax.Array) -> jax.Array:
    """[B, 1 + K, embed_dim] -> reconstructed patches [B, N, patch_size**2 * 3] in image order."""
    visible = self.decoder_embed(latent)
    batch, count, dim = visible.shape
    removed = restore.shape[1] + 1 - count
    masked = jnp.broadcast_to(self.mask_token[...].astype(visible.dtype), (batch, removed, dim))
    patches = _take_tokens(jnp.concatenate([visible[:, 1:], masked], axis=1), restore)
    tokens = jnp.concatenate([visible[:, :1], patches], axis=1)
    tokens = tokens + self.decoder_pos_embed[...].astype(tokens.dtype)
    tokens = run_blocks(self.decoder_blocks, tokens, None, remat=self.remat, scan=self.scan)
    pred = self.decoder_pred(self.decoder_norm(tokens))[:, 1:]
    return pred.astype(at_least_float32(pred.dtype))

  def reconstruction_loss(self, patches: jax.Array, pred: jax.Array, mask: jax.Array) -> jax.Array:
    """`masked_patch_loss` with the model's `norm_pix_loss`.

    Args:
      patches: [B, N, P] pixels, see `patchify`.
      pred: [B, N, P] reconstructed patches.
      mask: [B, N], 1 = removed.

    Returns:
      [] at least float32.
    """
    return masked_patch_loss(patches, pred, mask, normalize=self.norm_pix_loss)


def masked_patch_loss(
  patches: jax.Array, pred: jax.Array, mask: jax.Array, *, normalize: bool
) -> jax.Array:
  """Mean squared error over the removed patches, of MAE and FCMAE.

  Args:
    patches: [B, N, P] pixels, see `patchify`.
    pred: [B, N, P] reconstructed patches.
    mask: [B, N], 1 = patch contributes to the loss.
    normalize: use `normalized_patches` as the target (norm_pix_loss).

  Returns:
    [] at least float32; 0 when the mask is empty.
  """
  target = patches.astype(pred.dtype)
  if normalize:
    target = normalized_patches(target)
  error = jnp.mean(jnp.square(pred - target), axis=-1)
  return jnp.sum(error * mask) / jnp.maximum(jnp.sum(mask), 1)


def normalized_patches(patches: jax.Array) -> jax.Array:
  """Each patch [..., P] minus its mean, over its standard deviation (N - 1 in the variance)."""
  mean = patches.mean(axis=-1, keepdims=True)
  return (patches - mean) / jnp.sqrt(patches.var(axis=-1, keepdims=True, ddof=1) + 1e-6)


MAE_MODELS: dict[str, Callable[..., MaskedAutoencoder]] = {
  f"mae_vit_{size}": functools.partial(MaskedAutoencoder, **arguments)
  for size, arguments in VIT_SIZES.items()
}
