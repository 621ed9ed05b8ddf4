"""Masked dense reference of FCMAE: whole images, a mask after every layer, jax.lax convolutions.

Three times the work of `jax_me.models.fcmae`, but simple: removed sites are zero before each
convolution and excluded from GRN. Uses the parameters of an FCMAE module.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jax_me.models.fcmae import PATCH_SIZE
from tests.helpers.golden_cases import flax_location


@jax.numpy_rank_promotion("allow")
def masked_dense_loss(model, images, noise, mask_ratio=0.6):
  """(loss, pred [B, L, P], latent [B, h, w, C]) of an FCMAE, in the model's dtype."""
  batch, side = images.shape[0], images.shape[1] // PATCH_SIZE
  count = side * side
  ranks = jnp.argsort(jnp.argsort(noise, axis=1), axis=1)
  keep = (ranks < int(count * (1 - mask_ratio))).astype(images.dtype).reshape(batch, side, side, 1)

  x = images
  for layers, stage in zip(model.encoder.downsample_layers, model.encoder.stages, strict=True):
    for layer in layers:
      x = _strided(x, layer) if hasattr(layer, "kernel") else _norm(x, layer)
    scale = x.shape[1] // side
    mask = keep.repeat(scale, axis=1).repeat(scale, axis=2)
    x = x * mask
    for block in stage:
      axes = (0, 1, 2) if model.grn == "batch" else (1, 2)
      x = x + mask * _branch(x, block, mask, axes)
  latent = x

  x = jnp.einsum("bhwc,cd->bhwd", x, model.proj.kernel[...][0, 0]) + model.proj.bias[...]
  x = jnp.where(keep == 1, x, model.mask_token[...])
  for block in model.decoder:
    x = x + _branch(x, block, 1.0, (1, 2))
  pred = jnp.einsum("bhwc,cd->bhwd", x, model.pred.kernel[...][0, 0]) + model.pred.bias[...]
  pred = pred.reshape(batch, count, -1)

  target = jnp.stack(
    [
      images[:, r : r + PATCH_SIZE, c : c + PATCH_SIZE].reshape(batch, -1)
      for r in range(0, images.shape[1], PATCH_SIZE)
      for c in range(0, images.shape[2], PATCH_SIZE)
    ],
    axis=1,
  )
  if model.norm_pix_loss:
    centred = target - target.mean(-1, keepdims=True)
    variance = (centred**2).sum(-1, keepdims=True) / (target.shape[-1] - 1)
    target = centred / jnp.sqrt(variance + 1e-6)
  removed = 1 - keep.reshape(batch, count)
  loss = (((pred - target) ** 2).mean(-1) * removed).sum() / removed.sum()
  return loss, pred, latent


def _branch(x, block, mask, axes):
  y = depthwise(x, block.dwconv)
  y = _norm(y, block.norm) @ block.pwconv1.kernel[...] + block.pwconv1.bias[...]
  y = jax.nn.gelu(y, approximate=False) * mask
  norm = jnp.sqrt((y**2).sum(axes, keepdims=True))
  divided = norm / (norm.mean(-1, keepdims=True) + 1e-6)
  y = block.grn.gamma[...] * y * divided + block.grn.beta[...] + y
  return y @ block.pwconv2.kernel[...] + block.pwconv2.bias[...]


def _norm(x, layer):
  centred = x - x.mean(-1, keepdims=True)
  x = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
  return x * layer.scale[...] + layer.bias[...]


def _strided(x, layer):
  kernel = layer.kernel[...]
  numbers = ("NHWC", "HWIO", "NHWC")
  x = lax.conv_general_dilated(x, kernel, kernel.shape[:2], "VALID", dimension_numbers=numbers)
  return x + layer.bias[...]


def depthwise(x, layer):
  """Depthwise convolution with bias; benchmarks replace it."""
  return layer.bias[...] + lax.conv_general_dilated(
    x,
    layer.kernel[...],
    (1, 1),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


def sparse_location(key, value):
  """`flax_location` for the original's FCMAE, whose encoder has sparse kernels.

  Sparse: kernel [k * k, in, out] (depthwise [k * k, C]) with flat index row + k * column, biases
  [1, C], GRN [1, C], and an extra level `ln` or `linear` in the names.
  """
  if key == "mask_token":
    return (key,), value.transpose(0, 2, 3, 1)
  if not key.startswith("encoder."):
    return flax_location(key, value)
  key = key.replace(".ln.", ".").replace(".linear.", ".")
  if key.endswith(".kernel"):
    size = round(len(value) ** 0.5)
    value = value.reshape(size, size, -1, value.shape[-1]).swapaxes(0, 1)
  elif value.shape[0] == 1:
    value = value[0] if key.endswith("bias") else value[:, None, None]
  return flax_location(key, value)
