"""Dense k x k convolution, with a faster kernel gradient on CPU.

On CPU, XLA computes the output and the input gradient at the speed of matrix products, but the
kernel gradient of a large image with few channels at a fifth of it. Here the kernel gradient is a
product of the output gradient and the k * k shifted inputs, a few images at a time, so that the
shifted copies stay in cache. Inside a loop (several folds in one program) XLA's kernel gradient
takes up to 50 times, and its input gradient 4 times as long as outside (jax 0.10.2); these forms do
not. `benchmarks/convolution.py` compares them.

`jax.lax.platform_dependent` selects the implementation when the program is lowered. Other platforms
use `lax.conv_general_dilated` and its own gradients.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jax_me.models.layers import along_channels, is_portable
from jax_me.models.patches import patchify

# Pixels of the images whose shifted copies are made at once.
_PIXELS = 1152


@jax.custom_vjp
def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves with stride 1 and zero padding to the same size.

  Cross-correlation, as `torch.nn.Conv2d(C, D, k, padding=k // 2)` without bias. Differentiable in
  reverse mode only.

  Args:
    x: [B, H, W, C].
    kernel: [k, k, C, D] of x's dtype, k odd.

  Returns:
    [B, H, W, D].
  """
  return _convolve(x, kernel)


def _convolve(x, kernel):
  return lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


@jax.jit
def _backward(residuals, gradient):
  return lax.platform_dependent(
    *residuals, gradient, cpu=_gradients_in_cache, default=_xla_gradients
  )


convolution.defvjp(lambda x, kernel: (_convolve(x, kernel), (x, kernel)), _backward)


def _xla_gradients(x, kernel, gradient):
  return jax.vjp(_convolve, x, kernel)[1](gradient)


def _gradients_in_cache(x, kernel, gradient):
  input_gradient = _convolve(gradient, kernel[::-1, ::-1].swapaxes(2, 3))
  return input_gradient, _kernel_gradient(x, gradient, kernel)


def _kernel_gradient(x, gradient, kernel):
  """[k, k, C, D]: the sum over images and pixels of gradient times the shifted inputs."""
  batch, height, width, _ = x.shape
  limit = max(1, _PIXELS // (height * width))
  images = max(count for count in range(1, min(limit, batch) + 1) if batch % count == 0)

  def add(total, part):
    shifted, outputs = part
    size, margin = kernel.shape[0], kernel.shape[0] // 2
    padded = jnp.pad(shifted, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    columns = jnp.concatenate(
      [padded[:, i : i + height, j : j + width] for i in range(size) for j in range(size)], -1
    )
    # The barrier keeps XLA from fusing the shifted copies into the product.
    columns = lax.optimization_barrier(columns.reshape(-1, columns.shape[-1]))
    outputs = outputs.reshape(-1, outputs.shape[-1])
    product = lax.dot_general(
      columns, outputs, (((0,), (0,)), ((), ())), preferred_element_type=total.dtype
    )
    return total + product.reshape(total.shape), None

  parts = jax.tree.map(lambda a: a.reshape(-1, images, *a.shape[1:]), (x, gradient))
  start = jnp.zeros(kernel.shape, jnp.promote_types(kernel.dtype, jnp.float32))
  return lax.scan(add, start, parts)[0].astype(kernel.dtype)


class PatchConvolution(nnx.Conv):
  """Convolution over patches that do not overlap: kernel and stride have one side.

  On CPU it is one matrix product, which takes the same time inside a loop.

  Args:
    inputs, outputs: channels.
    size: side of the patches; pixels beyond a multiple of it are left out.
    **arguments: of `nnx.Conv`, without strides, padding, dilation and groups.
  """

  def __init__(self, inputs: int, outputs: int, size: int, **arguments: Any):
    super().__init__(
      inputs, outputs, (size, size), strides=(size, size), padding="VALID", **arguments
    )

  def __call__(self, x: jax.Array, out_sharding: None = None) -> jax.Array:
    """[..., H, W, inputs] -> [..., H // size, W // size, outputs]."""
    images = x.reshape(-1, *x.shape[-3:]).astype(self.dtype)
    kernel = self.kernel[...].astype(self.dtype)
    if is_portable():
      y = _patch_convolution(images, kernel)
    else:
      y = lax.platform_dependent(images, kernel, cpu=_patch_products, default=_patch_convolution)
    if self.bias is not None:
      y = y + along_channels(self.bias[...].astype(self.dtype), y)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def _patch_products(x, kernel):
  size = kernel.shape[0]
  rows, columns = x.shape[1] // size, x.shape[2] // size
  patches = patchify(x[:, : rows * size, : columns * size], size)
  return (patches @ kernel.reshape(-1, kernel.shape[-1])).reshape(x.shape[0], rows, columns, -1)


def _patch_convolution(x, kernel):
  return lax.conv_general_dilated(
    x, kernel, kernel.shape[:2], "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


class Convolution(nnx.Conv):
  """Convolution layer with stride 1, zero padding to the same size, and `convolution`.

  Args:
    inputs, outputs: channels.
    size: side of the kernel, odd.
    **arguments: of `nnx.Conv`, without strides, padding, dilation and groups.
  """

  def __init__(self, inputs: int, outputs: int, size: int = 3, **arguments: Any):
    super().__init__(inputs, outputs, (size, size), **arguments)

  def __call__(self, x: jax.Array, out_sharding: None = None) -> jax.Array:
    """[B, H, W, inputs] -> [B, H, W, outputs]."""
    y = convolution(x.astype(self.dtype), self.kernel[...].astype(self.dtype))
    if self.bias is None:
      return y
    return y + along_channels(self.bias[...].astype(self.dtype), y)
