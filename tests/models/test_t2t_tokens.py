"""Soft splits and token attentions: parity with the original code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.models.flops import count_flops
from jax_me.models.layers import FixedTable
from jax_me.models.t2t_tokens import TokenPerformer, TokensToToken, TokenTransformer, soft_split
from tests.helpers.golden_cases import (
  expected_outputs,
  fill_model,
  flax_location,
  golden_cases,
  golden_tolerance,
  max_difference,
  raw_input,
  torch_weights,
)
from tests.helpers.precision import float64
from tests.helpers.quick_compilation import quick_jit
from tests.helpers.small_models import call, initialised_model, random_model


def locate(key, value):
  return flax_location(key.replace("mlp.0.", "mlp.fc1.").replace("mlp.2.", "mlp.fc2."), value)


@pytest.mark.parametrize("platform", ["default", "tpu"])
@pytest.mark.parametrize(
  ("name", "split"), [("unfold_7_4_2", (7, 4, 2)), ("unfold_3_2_1", (3, 2, 1))]
)
def test_soft_split_equals_unfold(name, split, platform, monkeypatch):
  # The form of a TPU gives the same on the machine of the test.
  monkeypatch.setattr(jax.lax, "platform_dependent", lambda x, **forms: forms[platform](x))
  images = raw_input(golden_cases("units")[name]).transpose(0, 2, 3, 1)
  tokens = soft_split(jnp.asarray(images), *split)
  # Values are only copied: exact.
  np.testing.assert_array_equal(
    np.asarray(tokens).transpose(0, 2, 1),
    expected_outputs("units", name)["output_f64"].astype(np.float32),
  )


def test_soft_split_is_a_convolution_on_a_tpu():
  traced = jax.jit(lambda x: soft_split(x, 3, 2, 1)).trace(np.zeros((1, 8, 8, 4), np.float32))
  for platform, convolutions in (("cpu", 0), ("cuda", 0), ("tpu", 1)):
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == convolutions, platform


def test_soft_split_counts_no_products():
  def squares(x):
    return (soft_split(x, 3, 2, 1) ** 2).sum()

  for function in (squares, jax.grad(squares)):
    assert count_flops(jax.jit(function).trace(np.zeros((1, 8, 8, 4), np.float32)).jaxpr) == 0


@pytest.mark.parametrize(
  ("name", "kind"),
  [("token_performer", TokenPerformer), ("token_transformer", TokenTransformer)],
)
def test_token_attention_equals_the_original(name, kind):
  case, desired = golden_cases("units")[name], expected_outputs("units", name)["output_f64"]

  def run(dtype):
    graphdef, state = fill_model(
      lambda: kind(147, 64, dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0)),
      torch_weights(case),
      dtype=dtype,
      locate=locate,
    )
    return call(nnx.merge(graphdef, state), jnp.asarray(raw_input(case), dtype))

  with float64():
    assert max_difference(run(np.float64), desired) < golden_tolerance(desired, np.float64)
  floor, tolerance = case["noise_floor"]["output"], golden_tolerance(desired, np.float32)
  assert max_difference(run(np.float32), desired) < max(tolerance, 4 * floor)


def performer(**overrides):
  options = {**dict(dtype=jnp.float32, param_dtype=jnp.float32), **overrides}
  return random_model(lambda: TokenPerformer(27, 16, rngs=nnx.Rngs(0), **options))


def test_random_features_are_orthogonal_and_frozen():
  common = dict(dtype=jnp.float32, param_dtype=jnp.float32)
  w = initialised_model(lambda: TokenPerformer(27, 16, rngs=nnx.Rngs(0), **common)).w
  assert isinstance(w, FixedTable) and w[...].shape == (8, 16)
  np.testing.assert_allclose(w[...] @ w[...].T, 8 * np.eye(8), atol=1e-5)


def test_random_features_estimate_the_softmax_kernel():
  """With Gaussian w, the mean of phi(x) . phi(y) is exp(x . y)."""
  rng = np.random.default_rng(0)
  x, y = 0.25 * rng.standard_normal((2, 16)).astype(np.float32)
  module = performer(kernel_ratio=512)
  module.w[...] = jnp.asarray(rng.standard_normal((8192, 16)), jnp.float32)
  features = module.random_features(jnp.asarray([[x, y]]))
  assert abs(float(features[0, 0] @ features[0, 1]) / np.exp(x @ y) - 1) < 0.05


def test_kernel_is_computed_in_float32_under_bfloat16():
  module = performer(dtype=jnp.bfloat16)
  x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 9, 27)), jnp.bfloat16)
  attended, values = call(module, x, method="attention")
  assert attended.dtype == values.dtype == jnp.float32
  assert call(module, x).dtype == jnp.bfloat16


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_bfloat16_gradients_are_finite_even_without_the_norm(scale):
  module = performer(dtype=jnp.bfloat16)
  x = scale * np.random.default_rng(0).standard_normal((2, 9, 27)).astype(np.float32)
  graphdef, params, rest = nnx.split(module, nnx.Param, ...)

  @quick_jit
  def both(params, x):
    def loss(params, x):
      return jnp.sum(nnx.merge(graphdef, params, rest).attention(x)[0])

    return jax.grad(loss, argnums=(0, 1))(params, x)

  for grad in jax.tree.leaves(both(params, x)):
    assert np.isfinite(grad).all()


def test_performer_dropout_rate_in_training():
  module = performer()
  module.proj.kernel[...] = jnp.zeros_like(module.proj.kernel[...])
  module.proj.bias[...] = jnp.ones_like(module.proj.bias[...])
  for linear in (module.mlp.fc2, module.kqv):
    linear.kernel[...] = jnp.zeros_like(linear.kernel[...])
    linear.bias[...] = jnp.zeros_like(linear.bias[...])
  # Values and MLP are zero: the output is the projection, ones, after dropout.
  out = np.asarray(call(module, jnp.ones((8, 196, 27)), jax.random.key(0)))
  np.testing.assert_allclose(np.unique(out), [0.0, 1 / 0.9], rtol=1e-6)
  assert abs(np.mean(out == 0.0) - 0.1) < 0.01
  np.testing.assert_array_equal(call(module, jnp.ones((8, 196, 27))), 1.0)


def test_an_unknown_tokens_type_is_rejected():
  with pytest.raises(ValueError, match="'performer' or 'transformer', got 'convolution'"):
    TokensToToken(
      tokens_type="convolution",
      strides=(4, 2, 2),
      embed_dim=8,
      token_dim=8,
      drop_rate=0.1,
      remat=False,
      dtype=jnp.float32,
      param_dtype=jnp.float32,
      rngs=nnx.Rngs(0),
    )
