"""Dense k x k convolution whose gradients stay fast inside loops on a CPU.

On a CPU, XLA's kernel gradient takes at least 50 times as long inside a loop (several folds in one
program) as outside, and its input gradient 3 to 25 times (jax 0.10.2). Here both are convolutions
in the form that XLA computes at the speed of matrix products everywhere: images [B, H, W, C] and a
kernel [k, k, C, D]. `benchmarks/convolution.py` compares them; see also `compiler_options`.

`jax.lax.platform_dependent` selects the implementation when the program is lowered. Other platforms
use `lax.conv_general_dilated` and its own gradients.
"""

from typing import Any

import jax
from flax import nnx
from jax import lax

from jax_me.models.layers import along_channels, is_portable
from jax_me.models.patches import patchify


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


def _convolve(x, kernel, padding="SAME"):
  return lax.conv_general_dilated(
    x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


@jax.jit
def _backward(residuals, gradient):
  return lax.platform_dependent(*residuals, gradient, cpu=_gradients, default=_xla_gradients)


convolution.defvjp(lambda x, kernel: (_convolve(x, kernel), (x, kernel)), _backward)


def _xla_gradients(x, kernel, gradient):
  return jax.vjp(_convolve, x, kernel)[1](gradient)


def _gradients(x, kernel, gradient):
  input_gradient = _convolve(gradient, kernel[::-1, ::-1].swapaxes(2, 3))
  return input_gradient, _kernel_gradient(x, gradient, kernel.shape[0])


def _kernel_gradient(x, gradient, size):
  """[k, k, C, D]: channels as images, images as channels, and the gradient as a large kernel."""
  margin = size // 2
  found = _convolve(
    x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), [(margin, margin), (margin, margin)]
  )
  return found.transpose(1, 2, 0, 3)


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
