"""Depthwise convolution with an implementation for each platform.

`jax.lax.platform_dependent` selects the implementation when the program is lowered, so a program
that is compiled on one machine for another (an export, a pod's training step) gets the right one.

- CPU: XLA's depthwise convolution is slow, and its gradients are slower. Output and input gradient
  are sums of k * k shifted products, which XLA fuses into one pass over the image; the kernel
  gradient accumulates a few rows at a time so that all k * k sums stay in cache.
  `benchmarks/depthwise.py` compares them.
- GPU and TPU: `lax.conv_general_dilated` and its own gradients. Nothing else was measured there.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jax_me.models.layers import at_least_float32, is_portable

# Products accumulated before the kernel gradient's sums are written back (4 to 16 are as fast).
_TERMS = 8


@jax.custom_vjp
def depthwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves every channel with its own k x k filter: stride 1, zero padding, same size.

  Cross-correlation, as `torch.nn.Conv2d(C, C, k, padding=k // 2, groups=C)` without bias.
  Differentiable in reverse mode only. bfloat16 inputs are summed in float32.

  Args:
    x: [B, H, W, C].
    kernel: [k, k, 1, C], k odd.

  Returns:
    [B, H, W, C] in x's dtype.

  Raises:
    ValueError: kernel is not [k, k, 1, C] with odd k and x's C.
  """
  size = kernel.shape[0]
  if kernel.shape != (size, size, 1, x.shape[-1]) or size % 2 == 0:
    raise ValueError(
      "depthwise_conv requires a kernel of shape [k, k, 1, C] with odd k, got "
      f"{kernel.shape} for images of shape {x.shape}"
    )
  return _forward(x, kernel, is_portable())


@functools.partial(jax.jit, static_argnums=2)
def _forward(x, kernel, portable):
  if portable:
    return _convolution(x, kernel)
  return lax.platform_dependent(x, kernel, cpu=_shifted_products, default=_convolution)


@jax.jit
def _backward(residuals, gradient):
  return lax.platform_dependent(
    *residuals, gradient, cpu=_shifted_gradients, default=_convolution_gradients
  )


depthwise_conv.defvjp(lambda x, kernel: (depthwise_conv(x, kernel), (x, kernel)), _backward)


def _convolution(x, kernel):
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(1, 1),
    padding="SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


def _convolution_gradients(x, kernel, gradient):
  return jax.vjp(_convolution, x, kernel)[1](gradient)


def _padded(x, size):
  """x in at least float32, padded with k // 2 zeros; the barrier keeps it out of later fusions."""
  margin = (size // 2, size // 2)
  x = x.astype(at_least_float32(x.dtype))
  return lax.optimization_barrier(jnp.pad(x, ((0, 0), margin, margin, (0, 0))))


def _shifted_products(x, kernel):
  height, width = x.shape[1:3]
  size = kernel.shape[0]
  padded = _padded(x, size)
  kernel = lax.optimization_barrier(kernel.astype(padded.dtype))
  total = jnp.zeros((), padded.dtype)
  for i in range(size):
    for j in range(size):
      total = total + padded[:, i : i + height, j : j + width] * kernel[i, j][None, None]
  return total.astype(x.dtype)


def _shifted_gradients(x, kernel, gradient):
  input_gradient = _shifted_products(gradient, kernel[::-1, ::-1])
  return input_gradient, _shifted_kernel_gradient(x, gradient, kernel.shape[0]).astype(kernel.dtype)


def _shifted_kernel_gradient(x, gradient, size):
  """[k, k, 1, C]: the sum over images and pixels of gradient times x shifted by each tap.

  A loop over rows adds to sums[column tap, image, row tap, pixel, C]. A row is folded onto a few
  pixels (`folds`), or several rows are processed at once, so that a sum is read and written once
  per _TERMS products. The image axis is kept until the end, so that a sharded batch is reduced
  across devices only once.
  """
  batch, height, width, channels = x.shape
  padded = _padded(x, size)
  gradient = lax.optimization_barrier(gradient.astype(padded.dtype))
  folds = _largest_divisor(width, _TERMS)
  rows = _largest_divisor(height, _TERMS // folds)
  pixels = width // folds

  def add_rows(step, sums):
    window = lax.dynamic_slice_in_dim(padded, step * rows, rows + size - 1, axis=1)
    output = lax.dynamic_slice_in_dim(gradient, step * rows, rows, axis=1)
    taps = []
    for j in range(size):
      tap = jnp.zeros((), padded.dtype)
      for row in range(rows):
        for start in range(0, width, pixels):
          shifted = window[:, row : row + size, j + start : j + start + pixels]
          tap = tap + shifted * output[:, row : row + 1, start : start + pixels]
      taps.append(tap)
    return sums + jnp.stack(taps)

  sums = jnp.zeros((size, batch, size, pixels, channels), padded.dtype)
  sums = lax.fori_loop(0, height // rows, add_rows, sums)
  return jnp.sum(sums, axis=(1, 3)).transpose(1, 0, 2)[:, :, None]


def _largest_divisor(number, limit):
  return max(d for d in range(1, limit + 1) if number % d == 0)
