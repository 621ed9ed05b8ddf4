"""ConvNeXt V2: parity with the original code, and behaviour in training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jax_me.models.convnext_v2 import CONVNEXTV2_MODELS, GlobalResponseNorm
from jax_me.models.registry import abstract_rngs
from tests.helpers.golden_cases import (
  expected_outputs,
  fill_model,
  fill_model_lazily,
  golden_cases,
  golden_tolerance,
  max_difference,
  model_input,
  torch_weights,
)
from tests.helpers.precision import float64
from tests.helpers.quick_compilation import quick_jit
from tests.helpers.small_models import random_model, record_stage_outputs

CASES = golden_cases("convnextv2")
TINY = dict(depths=(1, 2, 1, 1), dims=(4, 6, 8, 10), num_classes=5)


def build(size, dtype, **overrides):
  constructor = CONVNEXTV2_MODELS[f"convnextv2_{size}"]
  return lambda: constructor(dtype=dtype, param_dtype=dtype, rngs=abstract_rngs(), **overrides)


def outputs(model, images):
  """The arrays recorded in tests/golden, by their names there."""
  stem = images
  for layer in model.downsample_layers[0]:
    stem = layer(stem)
  stages = record_stage_outputs(model)
  features = model.features(images)
  means = {f"stage{number}_mean": x.mean((1, 2)) for number, x in enumerate(stages)}
  return {
    "stem_mean": stem.mean((1, 2)),
    **means,
    "features": features,
    "logits": model.head(features),
  }


def merged_outputs(graphdef, state, images):
  return outputs(nnx.merge(graphdef, state), images)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_golden(name):
  case, size = CASES[name], CASES[name]["model"].split("_")[1]
  for dtype in (np.float64, np.float32):
    with float64(dtype == np.float64):
      model = build(size, dtype, num_classes=case["num_classes"])
      images = jnp.asarray(model_input(case), dtype)
      if size in ("large", "huge"):  # 200 and 660 million parameters
        actual = outputs(fill_model_lazily(model, case, dtype=dtype), images)
      else:
        graphdef, state = fill_model(model, torch_weights(case), dtype=dtype)
        # Without optimisation the base size runs longer than its optimisation takes.
        compile = quick_jit if dtype == np.float64 and size != "base" else jax.jit
        actual = compile(merged_outputs, static_argnums=0)(graphdef, state, images)
    for output, value in actual.items():
      desired = expected_outputs("convnextv2", name)[f"{output}_f64"]
      assert max_difference(value, desired) < golden_tolerance(desired, dtype), output


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_parameter_counts_match_the_original(name):
  case = CASES[name]
  model = build(case["model"].split("_")[1], np.float32, num_classes=case["num_classes"])
  leaves = jax.tree.leaves(nnx.state(nnx.eval_shape(model), nnx.Param))
  assert sum(leaf.size for leaf in leaves) == case["n_params_total"]


def tiny(**overrides):
  constructor = CONVNEXTV2_MODELS["convnextv2_atto"]
  return random_model(
    lambda: constructor(rngs=nnx.Rngs(0), **{**TINY, **overrides}), fan_in_scaling=True
  )


def tiny_images(batch=4, side=64):
  return np.random.default_rng(0).standard_normal((batch, side, side, 3)).astype(np.float32)


@functools.partial(quick_jit, static_argnums=0)
def step(graphdef, params, images):
  """Loss and gradients."""

  def loss(params):
    logits = nnx.merge(graphdef, params)(images)
    assert logits.dtype == jnp.promote_types(images.dtype, jnp.float32)
    return jnp.mean(jnp.square(logits - 1))

  return jax.value_and_grad(loss)(params)


@pytest.mark.slow
def test_initial_weights_match_the_original():
  arguments = TINY | dict(dims=(32, 48, 64, 96), head_init_scale=0.001)
  constructor = CONVNEXTV2_MODELS["convnextv2_atto"]
  initial = quick_jit(lambda: nnx.state(constructor(rngs=nnx.Rngs(0), **arguments), nnx.Param))()
  for path, variable in nnx.to_flat_state(initial):
    value = np.asarray(variable.get_value())
    if path[-1] == "kernel":
      std = 0.02 * (0.001 if path[0] == "head" else 1.0)
      assert abs(value.std() / std - 1) < 5 / np.sqrt(2 * value.size), path
    else:
      assert np.all(value == (1.0 if path[-1] == "scale" else 0.0)), path


@pytest.mark.slow
def test_stochastic_depth_increases_linearly_with_one_key_per_block():
  model = tiny(drop_path_rate=0.4)
  blocks = [block for stage in model.stages for block in stage]
  np.testing.assert_allclose([b.drop_path_rate for b in blocks], [0, 0.1, 0.2, 0.3, 0.4])
  keys = []
  for stage in model.stages:
    for number in range(len(stage)):
      stage[number] = Probe(keys)
  list(model.run_stages(tiny_images(1, 32), jax.random.key(0)))
  assert len(set(keys)) == 5


class Probe(nnx.Module):
  """Block that records the key it is called with."""

  def __init__(self, keys):
    self.record = keys.append

  def __call__(self, x, key, visible, grn_over_batch):
    self.record(tuple(jax.random.key_data(key).tolist()))
    return x


@pytest.mark.slow
def test_stochastic_depth_drops_residual_branches_per_sample_in_training_only():
  block = tiny(drop_path_rate=0.5).stages[3][0]
  run = nnx.jit(lambda block, x, key: block(x, key))
  x = np.random.default_rng(1).standard_normal((64, 2, 2, 10)).astype(np.float32)
  branch = run(block, x, None) - x
  change = run(block, x, jax.random.key(1)) - x
  dropped = np.abs(change).max((1, 2, 3)) == 0
  assert 16 < dropped.sum() < 48
  np.testing.assert_allclose(change[~dropped], 2 * branch[~dropped], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_training_draws_from_rngs_and_requires_them():
  model, images = tiny(drop_path_rate=0.9), tiny_images()
  train = nnx.jit(lambda model, rngs: model(images, deterministic=False, rngs=rngs))
  first, again, other = (train(model, nnx.Rngs(dropout=seed)) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first, again)
  assert max_difference(first, other) > 1e-6
  with pytest.raises(ValueError, match="rngs=nnx.Rngs"):
    model(images, deterministic=False)


@pytest.mark.slow
def test_bfloat16_gradients_are_finite_for_large_inputs():
  model = tiny(dtype=jnp.bfloat16, remat=True)
  value, grads = step(*nnx.split(model), 100 * tiny_images(2))
  assert np.isfinite(value)
  for grad in jax.tree.leaves(grads):
    assert grad.dtype == jnp.float32 and np.isfinite(grad).all()


@pytest.mark.slow
def test_grn_of_a_zero_channel_has_finite_gradients():
  grn = GlobalResponseNorm(3, dtype=jnp.float32, param_dtype=jnp.float32)
  grn.gamma[...] = jnp.ones((1, 1, 1, 3))
  x = np.array([0.0, 1.0, 2.0], np.float32) * np.ones((1, 2, 2, 3), np.float32)
  grad = jax.grad(lambda x: jnp.sum(grn(x) ** 2))(x)
  assert np.isfinite(grad).all()
  # The norms are 0, 2, 4: divided by their mean 0, 1, 2, up to the epsilon.
  np.testing.assert_allclose(grn(x)[0, 0, 0], [0.0, 2.0, 6.0], rtol=1e-5)


@pytest.mark.slow
def test_neither_remat_nor_four_devices_change_the_gradients():
  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
  with float64():
    plain, remat = (
      tiny(remat=on, dtype=np.float64, param_dtype=np.float64) for on in (False, True)
    )
    images = tiny_images().astype(np.float64)
    spread = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    value, grads = step(*nnx.split(plain), images)
    other_value, other_grads = step(*nnx.split(remat), spread)
  np.testing.assert_allclose(value, other_value, rtol=1e-12)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12),
    nnx.to_pure_dict(grads),
    nnx.to_pure_dict(other_grads),
  )


@pytest.mark.slow
def test_other_image_sizes_work_and_invalid_ones_are_rejected():
  call = nnx.jit(lambda model, images: model(images))
  assert call(tiny(image_size=32), tiny_images(1, 100)).shape == (1, 5)
  with pytest.raises(ValueError, match="at least 32 pixels"):
    tiny()(tiny_images(1, 31))
  with pytest.raises(ValueError, match="four stages"):
    tiny(depths=(1, 1, 1))
