"""ViT: parity with the original code, and behaviour in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.models.layers import FixedTable
from jax_me.models.positions import sincos_2d
from jax_me.models.registry import abstract_rngs, create_model
from jax_me.models.transformer import run_blocks, stochastic_depth_rates
from tests.helpers.golden_cases import (
  expected_outputs,
  fill_model,
  golden_cases,
  golden_tolerance,
  max_difference,
  model_input,
  torch_weights,
)
from tests.helpers.precision import float64
from tests.helpers.quick_compilation import quick_jit
from tests.helpers.small_models import (
  call,
  count_checkpoints,
  gradients,
  random_model,
)

CASES = sorted(name for name in golden_cases("mae") if name.startswith("vit_"))
TINY = dict(image_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3, num_classes=5)


def model_name(case_name):
  return "_".join(case_name.split("_")[:3])


def build(case_name, dtype):
  kwargs = golden_cases("mae")[case_name]["kwargs"]
  return lambda: create_model(
    model_name(case_name),
    image_size=kwargs["img_size"],
    num_classes=kwargs["num_classes"],
    global_pool=kwargs["global_pool"],
    dtype=dtype,
    param_dtype=dtype,
    rngs=abstract_rngs(),
  )


def outputs(graphdef, state, images):
  model = nnx.merge(graphdef, state)
  features = model.features(images)
  return {"features": features, "logits": model.head(features)}


def run_golden_case(name, dtype, compile):
  """Outputs in one precision; its weights are released before the next one's are made."""
  case = golden_cases("mae")[name]
  graphdef, state = fill_model(build(name, dtype), torch_weights(case), dtype=dtype)
  return compile(outputs, static_argnums=0)(graphdef, state, jnp.asarray(model_input(case), dtype))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_golden(name):
  with float64():
    double = run_golden_case(name, np.float64, quick_jit)
  single = run_golden_case(name, np.float32, jax.jit)
  for output, value in single.items():
    desired = expected_outputs("mae", name)[f"{output}_f64"]
    assert value.dtype == jnp.float32
    assert max_difference(double[output], desired) < golden_tolerance(desired, np.float64)
    assert max_difference(value, desired) < golden_tolerance(desired, np.float32)


def create(**overrides):
  return create_model("vit_tiny_patch16", rngs=nnx.Rngs(0), **{**TINY, **overrides})


def tiny(**overrides):
  return random_model(lambda: create(**overrides))


def tiny_images(batch=2):
  return np.random.default_rng(0).standard_normal((batch, 32, 32, 3)).astype(np.float32)


@pytest.mark.slow
def test_dropout_and_stochastic_depth_act_in_training_only():
  graphdef, state = nnx.split(tiny(drop_rate=0.2, attn_drop_rate=0.2, drop_path_rate=0.4))

  @quick_jit
  def both(state, key):
    model, images = nnx.merge(graphdef, state), tiny_images()
    return model(images), model(images, deterministic=False, rngs=nnx.Rngs(dropout=key))

  evaluated, first = both(state, jax.random.key(1))
  again, other = both(state, jax.random.key(1))[1], both(state, jax.random.key(2))[1]
  np.testing.assert_array_equal(first, again)
  assert max_difference(first, other) > 1e-3 and max_difference(first, evaluated) > 1e-3


@pytest.mark.slow
def test_every_block_and_branch_is_dropped_independently():
  """With the same key everywhere, a sample would lose all its branches or none."""
  rates, keys = stochastic_depth_rates(0.5, 5), jax.random.split(jax.random.key(0), 5)
  assert rates == [0.0, 0.125, 0.25, 0.375, 0.5]
  used = []

  class Probe(nnx.Module):
    def __call__(self, x, key):
      used.append(jax.random.key_data(key).tolist())
      return x

  run_blocks(nnx.List([Probe() for _ in range(5)]), jnp.zeros((1, 2, 3)), keys[0])
  assert len({tuple(data) for data in used}) == 5
  block = tiny(drop_path_rate=0.5).blocks[-1]
  block.attn.proj.bias[...] = jnp.full_like(block.attn.proj.bias[...], 100.0)
  block.mlp.fc2.bias[...] = jnp.full_like(block.mlp.fc2.bias[...], 10000.0)
  x = jnp.zeros((64, 2, 24))
  branches = np.rint(np.asarray(call(block, x, keys[1]))[:, 0, 0] / 200.0)  # survivors are doubled
  assert {0.0, 1.0, 100.0, 101.0} <= set(branches.tolist())


def test_training_requires_rngs():
  with pytest.raises(ValueError, match="rngs=nnx.Rngs"):
    tiny()(tiny_images(), deterministic=False)


@pytest.mark.slow
def test_positions_are_trained_or_a_fixed_table():
  assert isinstance(tiny().pos_embed, nnx.Param)
  table = create(depth=1, train_positions=False).pos_embed
  assert isinstance(table, FixedTable)
  np.testing.assert_array_equal(table[...], sincos_2d(4, 24))


@pytest.mark.slow
def test_remat_recomputes_every_block():
  assert count_checkpoints(tiny(remat=True), tiny_images()) == 3
  assert count_checkpoints(tiny(), tiny_images()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("global_pool", [True, False])
def test_bfloat16_gradients_are_finite_for_large_inputs(global_pool):
  model = tiny(dtype=jnp.bfloat16, global_pool=global_pool, remat=global_pool)

  def loss(model):
    logits = model(100 * tiny_images())
    assert logits.dtype == jnp.float32
    return jnp.mean(jnp.square(logits))

  for grad in gradients(model, loss):
    assert grad.dtype == jnp.float32 and np.isfinite(grad).all()


@pytest.mark.slow
def test_norm_name_depends_on_the_pooling():
  assert hasattr(tiny(global_pool=True), "fc_norm") and not hasattr(tiny(), "norm")
  assert hasattr(tiny(global_pool=False), "norm")


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (dict(image_size=30), "image_size 30 must be a multiple of patch_size 8"),
    (dict(num_heads=5), "embed_dim 24 must be divisible by num_heads 5"),
  ],
)
def test_invalid_sizes_are_rejected(overrides, message):
  with pytest.raises(ValueError, match=message):
    create(**overrides)


@pytest.mark.slow
def test_images_of_another_size_are_rejected():
  with pytest.raises(ValueError, match=r"expected images \[B, 32, 32, 3\], got \[2, 24, 24, 3\]"):
    tiny()(np.zeros((2, 24, 24, 3), np.float32))
