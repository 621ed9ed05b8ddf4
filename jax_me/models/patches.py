"""Splitting of images into patches and back, and the patch embedding of ViT and MAE."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_me.models.layers import along_channels


def patch_grid(image_size: int, patch_size: int) -> int:
  """Patches along a side; raises ValueError when the patches do not tile the image."""
  if patch_size < 1 or image_size < patch_size or image_size % patch_size:
    raise ValueError(f"image_size {image_size} must be a multiple of patch_size {patch_size}")
  return image_size // patch_size


def check_images(images: jax.Array, image_size: int) -> None:
  """Raises ValueError unless images are [B, image_size, image_size, 3]."""
  if images.ndim != 4 or images.shape[1:] != (image_size, image_size, 3):
    raise ValueError(
      f"expected images [B, {image_size}, {image_size}, 3], got {list(images.shape)}; resize the "
      "images or build the model with another image_size"
    )


def patchify(images: jax.Array, patch_size: int) -> jax.Array:
  """Splits images into flat patches.

  Args:
    images: [B, H, W, C], H and W multiples of `patch_size`.
    patch_size: pixels along a side.

  Returns:
    [B, N, patch_size**2 * C]: patches in row-major order, each with its pixels in row-major order
    and channels last.
  """
  batch, height, width, channels = images.shape
  rows, columns = height // patch_size, width // patch_size
  split = images.reshape(batch, rows, patch_size, columns, patch_size, channels)
  return split.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)


def unpatchify(patches: jax.Array, patch_size: int) -> jax.Array:
  """Inverse of `patchify` for square images: [B, N, patch_size**2 * C] -> [B, H, W, C]."""
  batch, count, values = patches.shape
  grid = round(count**0.5)
  if grid * grid != count:
    raise ValueError(f"{count} patches do not fill a square image")
  split = patches.reshape(batch, grid, grid, patch_size, patch_size, values // patch_size**2)
  side = grid * patch_size
  return split.transpose(0, 1, 3, 2, 4, 5).reshape(batch, side, side, -1)


class PatchEmbed(nnx.Module):
  """Linear projection of flat patches (arXiv:2010.11929, equation 1).

  The weights are those of a convolution whose stride equals its kernel size; on flat patches that
  is one matrix product, and removed patches need not be computed.

  Args:
    patch_size: pixels along a side.
    dim: width of the tokens.
    kernel_init, bias_init: initialisers; the kernel is [patch_size, patch_size, 3, dim].
  """

  def __init__(
    self,
    patch_size: int,
    dim: int,
    *,
    kernel_init: Callable,
    bias_init: Callable,
    dtype: DTypeLike,
    param_dtype: DTypeLike,
    rngs: nnx.Rngs,
  ):
    self.patch_size = patch_size
    self.proj = nnx.Conv(
      3,
      dim,
      (patch_size, patch_size),
      strides=patch_size,
      padding="VALID",
      kernel_init=kernel_init,
      bias_init=bias_init,
      dtype=dtype,
      param_dtype=param_dtype,
      rngs=rngs,
    )

  def __call__(self, patches: jax.Array) -> jax.Array:
    """[B, N, patch_size**2 * 3] (see `patchify`) -> [B, N, dim]."""
    dtype, bias = self.proj.dtype, self.proj.bias
    assert bias is not None
    kernel = self.proj.kernel[...].astype(dtype)
    flat = kernel.reshape(-1, kernel.shape[-1])
    tokens = jnp.matmul(patches.astype(dtype), flat)
    return tokens + along_channels(bias[...].astype(dtype), tokens)


def flat_xavier_uniform(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
  """Xavier uniform initialiser of a patch kernel as a [h * w * in, out] matrix, as in MAE.

  Args:
    key: PRNG key.
    shape: [h, w, in, out].
    dtype: of the kernel.

  Returns:
    Kernel of that shape.
  """
  *receptive, outputs = shape
  inputs = 1
  for size in receptive:
    inputs *= size
  return nnx.initializers.xavier_uniform()(key, (inputs, outputs), dtype).reshape(shape)


def torch_uniform(fan_in: int) -> Callable:
  """torch's default initialiser of linear and convolution layers: U(-b, b), b = fan_in**-0.5."""
  bound = fan_in**-0.5

  def init(
    key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32, **_
  ) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init
