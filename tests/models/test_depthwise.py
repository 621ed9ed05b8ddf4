"""Depthwise convolution: parity with jax.lax, gradients, and the implementation per platform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_me.models.depthwise import depthwise_conv
from tests.helpers.golden_cases import max_difference
from tests.helpers.precision import float64


def library_conv(x, kernel):
  return lax.conv_general_dilated(
    x,
    kernel,
    (1, 1),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


def arrays(shape, size=7, dtype=np.float64):
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
  return draw(*shape), draw(size, size, 1, shape[-1]), draw(*shape)


# Sides with and without divisors up to 8, smaller than the kernel, not square; other kernel sizes.
@pytest.mark.slow
@pytest.mark.parametrize(
  ("shape", "size"),
  [
    ((2, 14, 14, 6), 7),
    ((3, 2, 3, 4), 7),
    ((2, 16, 11, 3), 7),
    ((1, 6, 22, 2), 3),
    ((2, 9, 12, 2), 5),
  ],
)
def test_output_and_gradients_equal_the_library(shape, size):
  with float64():
    x, kernel, gradient = arrays(shape, size)
    output, pullback = jax.vjp(depthwise_conv, x, kernel)
    desired, desired_pullback = jax.vjp(library_conv, x, kernel)
    assert max_difference(output, desired) < 1e-12
    for actual, wanted in zip(pullback(gradient), desired_pullback(gradient), strict=True):
      assert max_difference(actual, wanted) < 1e-11


def test_lowering_selects_the_implementation_of_the_platform():
  x, kernel, gradient = arrays((1, 8, 8, 2), dtype=np.float32)

  def step(x, kernel):
    output, pullback = jax.vjp(depthwise_conv, x, kernel)
    return output, pullback(gradient)

  traced = jax.jit(step).trace(x, kernel)
  texts = {
    platform: traced.lower(lowering_platforms=(platform,)).as_text()
    for platform in ("cpu", "cuda", "tpu")
  }
  assert "stablehlo.convolution" not in texts["cpu"]
  for platform in ("cuda", "tpu"):
    assert texts[platform].count("stablehlo.convolution") == 3  # output and two gradients
    assert "stablehlo.while" not in texts[platform]


def test_bfloat16_sums_in_float32():
  x, kernel, gradient = (a.astype(jnp.bfloat16) for a in arrays((2, 9, 9, 4), dtype=np.float32))
  output, pullback = jax.vjp(depthwise_conv, x, kernel)
  wide = [a.astype(jnp.float32) for a in (x, kernel, gradient)]
  exact, exact_pullback = jax.vjp(depthwise_conv, *wide[:2])
  results = [output, *pullback(gradient)]
  for half, single in zip(results, [exact, *exact_pullback(wide[2])], strict=True):
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, single.astype(jnp.bfloat16))


@pytest.mark.slow
def test_vmap_over_kernels_equals_a_loop():
  """Cross-validation folds train together: images and kernels both have a fold axis."""
  x, kernel, gradient = (np.stack([a, 2 * a, -a]) for a in arrays((2, 8, 8, 3), dtype=np.float32))
  grad = jax.grad(lambda x, kernel, g: jnp.sum(depthwise_conv(x, kernel) * g), (0, 1))
  mapped = jax.vmap(grad)(x, kernel, gradient)
  for fold in range(3):
    for actual, wanted in zip(mapped, grad(x[fold], kernel[fold], gradient[fold]), strict=True):
      np.testing.assert_allclose(actual[fold], wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(7, 7, 1, 5), (7, 5, 1, 4), (6, 6, 1, 4), (7, 7, 4, 4)])
def test_invalid_kernels_are_rejected(shape):
  with pytest.raises(ValueError, match=r"kernel of shape \[k, k, 1, C\]"):
    depthwise_conv(np.zeros((1, 8, 8, 4)), np.zeros(shape))
