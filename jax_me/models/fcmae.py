"""FCMAE, the masked autoencoder of ConvNeXt V2 (arXiv:2301.00808), computed on visible sites only.

The original removes 60% of the 32 x 32 pixel patches and runs the encoder in a sparse convolution
library. The number of visible patches V is the same for every image, so here they are a dense
array [B, V, p, p, C] (p = 8, 4, 2, 1 sites a side in the four stages). All operations within a site
or a patch (stem, norms, linear layers, GRN, downsampling) run on that array. Only the depthwise
convolution crosses patch borders: it runs on the grid, with zeros at removed sites.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_me.models.convnext_v2 import NORMAL_INIT, SIZES, ConvNeXtV2Block, ConvNeXtV2Encoder
from jax_me.models.layers import MaskedOutput, at_least_float32, dropout_key
from jax_me.models.mae import masked_patch_loss, random_masking
from jax_me.models.patches import patch_grid, patchify, unpatchify
from jax_me.models.visible_patches import VisiblePatches

PATCH_SIZE = 32  # pixels a side per site of the last stage: 4 (stem) * 2 * 2 * 2

# The original does not pass a std to its truncated normal here: 1, truncated at +-2.
UNIT_INIT = nnx.initializers.truncated_normal(1.0, lower=-2.0, upper=2.0)


class FCMAE(nnx.Module):
  """Fully convolutional masked autoencoder.

  `encoder` has the classifier's parameter names and layouts (without final norm and head), so
  fine-tuning loads it unchanged. Initialised as the original code does: kernels N(0, 1) except in
  the downsampling layers (.02) and in the decoder's linear layers (torch's default).

  Args:
    depths, dims: sizes of the encoder, see `ConvNeXtV2Encoder`.
    image_size: side of the square images in pixels, a multiple of 32.
    decoder_depth: dense ConvNeXt V2 blocks in the decoder.
    decoder_embed_dim: channels of the decoder.
    norm_pix_loss: normalise the target pixels per patch (unbiased variance).
    grn: the visible sites over which the encoder's GRN computes its norms. "sample": those of each
      image, as in the classifier. "batch": those of all images of the call, as in the original's
      sparse library. There the batch is the one of a device; here it is the whole array: under
      `jax.jit` with the batch sharded over devices the global batch (one small all-reduce per
      block; the same result on any number of devices), under `jax.shard_map` one device's share,
      and with gradient accumulation the micro-batch.
    remat: recompute each encoder block in the backward pass, to save memory.
    scan: run an encoder stage's blocks as one loop that compiles once, see `run_stack`.
    dtype: compute dtype; norms and the loss use at least float32.
    param_dtype: dtype of the parameters.
    rngs: source of the initial values.
  """

  patch_size = PATCH_SIZE

  def __init__(
    self,
    *,
    depths: Sequence[int],
    dims: Sequence[int],
    image_size: int = 224,
    decoder_depth: int = 1,
    decoder_embed_dim: int = 512,
    norm_pix_loss: bool = True,
    grn: Literal["sample", "batch"] = "sample",
    remat: bool = False,
    scan: bool = False,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    patch_grid(image_size, PATCH_SIZE)  # raises for other sizes
    if grn not in ("sample", "batch"):
      raise ValueError(f'grn must be "sample" or "batch", got {grn!r}')
    self.image_size = image_size
    self.norm_pix_loss = norm_pix_loss
    self.grn = grn
    self.dtype = dtype
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    pointwise: dict[str, Any] = dict(kernel_size=(1, 1), kernel_init=UNIT_INIT, **common)
    self.encoder = ConvNeXtV2Encoder(
      depths=depths, dims=dims, kernel_init=UNIT_INIT, remat=remat, scan=scan, **common
    )
    self.proj = nnx.Conv(dims[-1], decoder_embed_dim, **pointwise)
    shape = (1, 1, 1, decoder_embed_dim)
    self.mask_token = nnx.Param(NORMAL_INIT(rngs.params(), shape, param_dtype))
    self.decoder = nnx.List(
      ConvNeXtV2Block(decoder_embed_dim, kernel_init=UNIT_INIT, torch_linear=True, **common)
      for _ in range(decoder_depth)
    )
    self.pred = nnx.Conv(decoder_embed_dim, 3 * PATCH_SIZE**2, **pointwise)

  def patchify(self, images: jax.Array) -> jax.Array:
    """Images [B, H, H, 3] -> patches [B, L, 32 * 32 * 3], see `patches.patchify`."""
    side = images.shape[1]
    if images.ndim != 4 or images.shape[1:] != (side, side, 3) or side % PATCH_SIZE or not side:
      raise ValueError(
        f"expected square images [B, H, H, 3], H a multiple of {PATCH_SIZE}, got {images.shape}"
      )
    return patchify(images, PATCH_SIZE)

  def unpatchify(self, patches: jax.Array) -> jax.Array:
    """Inverse of `patchify`: assembles patches into images."""
    return unpatchify(patches, PATCH_SIZE)

  def encode(self, patches: jax.Array, visible: VisiblePatches) -> jax.Array:
    """Encodes the visible ones of flat patches [B, L, 32 * 32 * 3] -> [B, V, dims[3]]."""
    x = visible.take(patches.astype(self.dtype))
    x = x.reshape(*x.shape[:2], PATCH_SIZE, PATCH_SIZE, 3)
    over_batch = self.grn == "batch"
    *_, x = self.encoder.run_stages(x, visible=visible, grn_over_batch=over_batch)
    return x[:, :, 0, 0]

  def decode(self, latent: jax.Array, visible: VisiblePatches) -> jax.Array:
    """[B, V, dims[3]] -> reconstructed patches [B, L, 32 * 32 * 3], at least float32."""
    x = visible.to_grid(self.proj(latent[:, :, None, None]))
    removed = visible.restore.reshape(-1, visible.side, visible.side, 1) >= latent.shape[1]
    x = jnp.where(removed, self.mask_token[...].astype(x.dtype), x)
    for block in self.decoder:
      x = block(x)
    x = self.pred(x)
    return x.reshape(x.shape[0], -1, x.shape[-1]).astype(at_least_float32(x.dtype))

  def reconstruction_loss(self, patches: jax.Array, pred: jax.Array, mask: jax.Array) -> jax.Array:
    """`masked_patch_loss` with the model's `norm_pix_loss`.

    Args:
      patches: [B, L, P] pixels, see `patchify`.
      pred: [B, L, P] reconstructed patches.
      mask: [B, L], 1 = removed.

    Returns:
      [] at least float32.
    """
    return masked_patch_loss(patches, pred, mask, normalize=self.norm_pix_loss)

  def __call__(
    self,
    images: jax.Array,
    mask_ratio: float = 0.6,
    *,
    noise: jax.Array | None = None,
    key: jax.Array | None = None,
    deterministic: bool = True,
    rngs: nnx.Rngs | None = None,
  ) -> MaskedOutput:
    """Masks, encodes and decodes the images and computes the loss on the removed patches.

    FCMAE has no stochastic depth, so `deterministic` has no effect; it is accepted so that all
    models have one call signature.

    Args:
      images: [B, H, H, 3] normalised, H a multiple of 32 (not only `image_size`).
      mask_ratio: fraction of patches to remove, in [0, 1); int(L * (1 - mask_ratio)) are kept.
      noise: [B, L] the patches with the smallest values are kept; drawn from N(0, 1) when None.
      key: PRNG key of the noise.
      deterministic: no effect.
      rngs: source of the key (stream `dropout`) when neither noise nor key is given.

    Returns:
      loss; pred [B, L, 32 * 32 * 3]; mask [B, L]; latent [B, H / 32, H / 32, dims[3]] with zeros
      at removed patches.

    Raises:
      ValueError: wrong shapes or mask_ratio, or no noise, key or rngs.
    """
    patches = self.patchify(images)
    shape = patches.shape[:2]
    if noise is None:
      noise = jax.random.normal(dropout_key(rngs) if key is None else key, shape)
    elif noise.shape != shape:
      raise ValueError(f"noise must be {list(shape)} for these images, got {list(noise.shape)}")
    kept, restore, mask = random_masking(noise, mask_ratio)
    visible = VisiblePatches(kept, restore)
    latent = self.encode(patches, visible)
    pred = self.decode(latent, visible)
    return MaskedOutput(
      loss=self.reconstruction_loss(patches, pred, mask),
      pred=pred,
      mask=mask,
      latent=visible.to_grid(latent[:, :, None, None]),
    )


FCMAE_MODELS: dict[str, Callable[..., FCMAE]] = {
  f"fcmae_convnextv2_{size}": functools.partial(FCMAE, **shape) for size, shape in SIZES.items()
}
