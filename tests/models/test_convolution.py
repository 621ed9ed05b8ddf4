"""Dense convolution: parity with jax.lax, gradients, and the implementation per platform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jax_me.models.convolution import Convolution, PatchConvolution, convolution
from tests.helpers.golden_cases import max_difference
from tests.helpers.precision import float64


def library_conv(x, kernel):
  return lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def arrays(shape, size=3, outputs=4, dtype=np.float64):
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
  return draw(*shape), draw(size, size, shape[-1], outputs), draw(*shape[:-1], outputs)


# The last image is smaller than the kernel.
@pytest.mark.slow
@pytest.mark.parametrize(
  ("shape", "size"),
  [((6, 24, 24, 3), 3), ((7, 40, 11, 2), 3), ((2, 20, 20, 2), 5), ((3, 2, 1, 5), 5)],
)
def test_output_and_gradients_equal_the_library(shape, size):
  with float64():
    x, kernel, gradient = arrays(shape, size)
    output, pullback = jax.vjp(convolution, x, kernel)
    desired, desired_pullback = jax.vjp(library_conv, x, kernel)
    assert max_difference(output, desired) < 1e-12
    for actual, wanted in zip(pullback(gradient), desired_pullback(gradient), strict=True):
      assert max_difference(actual, wanted) < 1e-11


def test_lowering_selects_the_implementation_of_the_platform():
  x, kernel, gradient = arrays((2, 24, 24, 2), dtype=np.float32)

  def step(x, kernel):
    output, pullback = jax.vjp(convolution, x, kernel)
    return output, pullback(gradient)

  traced = jax.jit(step).trace(x, kernel)
  counts = {
    platform: traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")
    for platform in ("cpu", "cuda", "tpu")
  }
  assert counts == {"cpu": 3, "cuda": 3, "tpu": 3}


def test_vmap_over_kernels_equals_a_loop():
  x, kernel, gradient = (np.stack([a, 2 * a, -a]) for a in arrays((2, 20, 20, 3), dtype=np.float32))
  grad = jax.jit(jax.grad(lambda x, kernel, g: jnp.sum(convolution(x, kernel) * g), (0, 1)))
  mapped = jax.vmap(grad)(x, kernel, gradient)
  for fold in range(3):
    for actual, wanted in zip(mapped, grad(x[fold], kernel[fold], gradient[fold]), strict=True):
      np.testing.assert_allclose(actual[fold], wanted, rtol=1e-4, atol=1e-3)


def test_layer_equals_that_of_flax():
  layer = Convolution(3, 5, rngs=nnx.Rngs(0), bias_init=nnx.initializers.normal())
  x = arrays((2, 6, 5, 3), dtype=np.float32)[0]
  np.testing.assert_allclose(layer(x), nnx.Conv.__call__(layer, x), atol=1e-5)


def test_patch_layer_equals_that_of_flax_with_leading_axes_and_a_rest():
  layer = PatchConvolution(3, 5, 2, rngs=nnx.Rngs(0), bias_init=nnx.initializers.normal())
  x = arrays((2, 3, 7, 4, 3), dtype=np.float32)[0]
  assert layer(x).shape == (2, 3, 3, 2, 5)
  np.testing.assert_allclose(layer(x), nnx.Conv.__call__(layer, x), atol=1e-5)
