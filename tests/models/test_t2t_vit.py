"""T2T-ViT: parity with the original code, and behaviour in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.models.registry import abstract_rngs, create_abstract_model, create_model
from jax_me.models.t2t_backbones import CheapOperation
from tests.helpers.golden_cases import (
  expected_outputs,
  fill_model,
  flax_location,
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
  initialised_model,
  random_model,
)

CASES = sorted(golden_cases("t2t"))
# torch numbers the layers of a Sequential, activations included.
RENAMED = {".mlp.0.": ".mlp.fc1.", ".mlp.2.": ".mlp.fc2.", ".fc.0.": ".fc1.", ".fc.2.": ".fc2."}


def locate(key, value):
  for old, new in RENAMED.items():
    key = key.replace(old, new)
  return flax_location(key, value)


def build(name, dtype):
  case = golden_cases("t2t")[name]
  overrides = {"image_size" if k == "img_size" else k: v for k, v in case["kwargs"].items()}
  return lambda: create_model(
    case["model"], dtype=dtype, param_dtype=dtype, rngs=abstract_rngs(), **overrides
  )


def outputs(graphdef, state, images):
  model = nnx.merge(graphdef, state)
  tokens = model.tokens_to_token(images)
  features = model.features(images)
  return {
    "tokens": jnp.concatenate([tokens[:, :2], tokens.mean(1, keepdims=True)], 1),
    "features": features,
    "logits": model.head(features),
  }


def run_in_batches(compiled, graphdef, state, images):
  """Outputs for all images; at 384 pixels one at a time, since attention needs 2 GB an image."""
  size = 1 if images.shape[1] > 224 else len(images)
  batches = [compiled(graphdef, state, images[i : i + size]) for i in range(0, len(images), size)]
  return jax.tree.map(lambda *parts: jnp.concatenate(parts), *batches)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_golden(name):
  case, reference = golden_cases("t2t")[name], expected_outputs("t2t", name)
  weights, images = torch_weights(case), model_input(case)
  with float64():
    graphdef, state = fill_model(build(name, jnp.float64), weights, dtype=np.float64, locate=locate)
    double = run_in_batches(
      quick_jit(outputs, static_argnums=0), graphdef, state, jnp.asarray(images, jnp.float64)
    )
  graphdef, state = fill_model(build(name, jnp.float32), weights, locate=locate)
  single = run_in_batches(jax.jit(outputs, static_argnums=0), graphdef, state, images)
  for output, value in single.items():
    desired = reference[f"{output}_f64"]
    assert value.dtype == jnp.float32
    assert max_difference(double[output], desired) < golden_tolerance(desired, np.float64)
    assert max_difference(value, desired) < golden_tolerance(desired, np.float32)


TINY = dict(image_size=32, embed_dim=24, depth=2, num_heads=3, token_dim=8, num_classes=5)


def create(name="t2t_vit_7", **overrides):
  return create_model(name, rngs=nnx.Rngs(0), **{**TINY, **overrides})


def tiny(name="t2t_vit_7", **overrides):
  return random_model(lambda: create(name, **overrides))


def tiny_images(batch=2):
  return np.random.default_rng(0).standard_normal((batch, 32, 32, 3)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.0])
def test_the_performers_dropout_acts_in_training_even_without_drop_rate(rate):
  overrides = {} if rate else dict(token_drop_rate=0.0)
  graphdef, state = nnx.split(tiny(depth=1, **overrides))

  @quick_jit
  def both(state, key):
    model, images = nnx.merge(graphdef, state), tiny_images()
    return model(images), model(images, deterministic=False, rngs=nnx.Rngs(dropout=key))

  evaluated, first = both(state, jax.random.key(1))
  _, other = both(state, jax.random.key(2))
  if rate:
    assert max_difference(first, other) > 1e-5 and max_difference(first, evaluated) > 1e-5
  else:
    np.testing.assert_allclose(first, evaluated, atol=1e-6)


@pytest.mark.slow
def test_dense_backbone_has_the_rates_and_widths_of_the_original():
  model = create_abstract_model("t2t_vit_dense", drop_path_rate=1.1)
  rates = [getattr(block, "drop_path_rate", None) for block in model.blocks]
  stages = [[0.0] * 3, [None], [0.1] * 6, [None], [0.2] * 6, [None], [0.3] * 4]
  expected_rates = [rate for stage in stages for rate in stage]
  assert [rate is None for rate in rates] == [rate is None for rate in expected_rates]
  np.testing.assert_allclose(
    [rate for rate in rates if rate is not None],
    [rate for rate in expected_rates if rate is not None],
  )
  assert model.head.kernel.shape == (584, 1000)


def test_token_labeling_adds_half_the_largest_token_logit():
  model, images = tiny(token_labeling=True, depth=1), tiny_images()
  logits, aux = call(model, images, method="token_logits")
  assert logits.shape == (2, 5) and aux.shape == (2, 4, 5)
  tokens = np.asarray(call(model, images, method="tokens"))
  kernel, bias = (np.asarray(p[...]) for p in (model.aux_head.kernel, model.aux_head.bias))
  token_logits = tokens[:, 1:] @ kernel + bias
  np.testing.assert_allclose(aux, token_logits, atol=1e-5)
  desired = np.asarray(model.head(tokens[:, 0])) + 0.5 * np.max(token_logits, axis=1)
  np.testing.assert_allclose(call(model, images), desired, atol=1e-5)
  with pytest.raises(ValueError, match="token_labeling=True"):
    tiny().token_logits(images)


@pytest.mark.slow
def test_auxiliary_head_parameter_count():
  def size(**overrides):
    model = create_abstract_model("t2t_vit_24", **overrides)
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))

  assert size(token_labeling=True) - size() == 513_000


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "overrides"),
  [
    ("t2t_vit_7", {}),
    ("t2t_vit_t_14", {}),
    ("t2t_vit_14_se", dict(embed_dim=48)),
    ("t2t_vit_16_ghost", dict(mlp_ratio=3.0)),
    ("t2t_vit_dense", dict(block_config=(1, 1), growth_rate=12, num_heads=6)),
  ],
)
def test_bfloat16_gradients_are_finite_for_large_inputs(name, overrides):
  model = tiny(name, dtype=jnp.bfloat16, depth=1, **overrides)

  def loss(model):
    rngs = nnx.Rngs(dropout=jax.random.key(0))
    return jnp.mean(jnp.square(model(100 * tiny_images(), deterministic=False, rngs=rngs)))

  for grad in gradients(model, loss):
    assert grad.dtype == jnp.float32 and np.isfinite(grad).all()


def test_remat_recomputes_blocks_and_token_attentions():
  assert count_checkpoints(tiny(remat=True), tiny_images()) == 2 + 2
  assert count_checkpoints(tiny(), tiny_images()) == 0


@pytest.mark.slow
def test_initial_values_match_the_original():
  model = initialised_model(lambda: create(embed_dim=384, num_heads=6, depth=1))
  kernel = np.asarray(model.blocks[0].mlp.fc1.kernel[...])
  assert abs(kernel.std() - 0.02) < 5e-4 and abs(kernel.mean()) < 5e-4
  assert not np.any(model.blocks[0].mlp.fc1.bias[...]) and not np.any(model.head.bias[...])
  np.testing.assert_array_equal(model.norm.scale[...], 1.0)
  ghost = CheapOperation(99, dtype=jnp.float32, param_dtype=jnp.float32, rngs=nnx.Rngs(0)).kernel[
    ...
  ]
  assert np.abs(ghost).max() <= 1.0 and np.abs(ghost).max() > 0.5  # torch's Conv1d: U(-1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (dict(image_size=40), "image_size 40 must be a multiple of patch_size 16"),
    (dict(backbone="wide"), r"backbone must be one of \['dense', 'ghost', 'plain', 'se'\]"),
    (dict(backbone="ghost"), "ghost backbone needs mlp_ratio 3, got 2"),
  ],
)
def test_invalid_settings_are_rejected(overrides, message):
  with pytest.raises(ValueError, match=message):
    create(**overrides)
