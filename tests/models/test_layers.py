"""Fusion barrier: unchanged values and gradients, bounded fusion sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.models import create_model, transformer
from jax_me.models.layers import stop_fusion

VALUES = np.array([0.0, -0.0, 1.5, -3e38, 2e-38, np.inf, -np.inf, np.nan], np.float32)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_stop_fusion_changes_neither_values_nor_gradients(dtype):
  x = jnp.asarray(VALUES[:5], dtype)
  np.testing.assert_array_equal(jax.jit(stop_fusion)(x), x)
  np.testing.assert_array_equal(jax.jit(jax.vmap(stop_fusion))(x), x)
  weights = jnp.arange(5, dtype=dtype)
  grad = jax.jit(jax.grad(lambda x: jnp.sum(weights * stop_fusion(x))))(x)
  assert grad.dtype == dtype
  np.testing.assert_array_equal(grad, weights)


def test_stop_fusion_keeps_non_finite_values():
  np.testing.assert_array_equal(jax.jit(stop_fusion)(VALUES), VALUES)


@pytest.mark.slow
def test_fusion_size_is_independent_of_the_depth(monkeypatch):
  """Without stop_fusion the gradient's largest fusion contains the sums of all blocks."""

  def largest_fusion(depth):
    model = create_model(
      "vit_tiny_patch16", image_size=16, embed_dim=8, num_heads=1, depth=depth, rngs=nnx.Rngs(0)
    )
    graphdef, params = nnx.split(model)
    images = np.ones((2, 16, 16, 3), np.float32)
    grad = jax.grad(lambda params: jnp.sum(jnp.square(nnx.merge(graphdef, params)(images))))
    text = jax.jit(grad).lower(params).compile().as_text()
    parts = [part for part in text.split("\n\n") if part.startswith("%fused")]
    return max(len(part.splitlines()) for part in parts)

  assert largest_fusion(6) == largest_fusion(3)
  monkeypatch.setattr(transformer, "stop_fusion", lambda x: x)
  assert largest_fusion(6) > largest_fusion(3)
