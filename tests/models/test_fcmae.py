"""FCMAE: parity with the original code and with a masked dense reference, and behaviour."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jax_me.models.convnext_v2 import CONVNEXTV2_MODELS
from jax_me.models.fcmae import FCMAE_MODELS
from jax_me.models.registry import abstract_rngs
from tests.helpers.fcmae_reference import masked_dense_loss, sparse_location
from tests.helpers.golden_cases import (
  expected_outputs,
  fill_model,
  golden_cases,
  golden_tolerance,
  mask_noise,
  max_difference,
  model_input,
  torch_weights,
)
from tests.helpers.precision import float64
from tests.helpers.quick_compilation import quick_jit
from tests.helpers.small_models import (
  call,
  random_model,
  record_stage_outputs,
)

CASES = golden_cases("fcmae")
TINY = dict(depths=(1, 1, 1, 1), dims=(4, 6, 8, 10), decoder_embed_dim=12, image_size=128)


def build(name, dtype, **overrides):
  constructor = FCMAE_MODELS[name]
  return lambda: constructor(dtype=dtype, param_dtype=dtype, rngs=abstract_rngs(), **overrides)


def outputs(graphdef, state, images, noise):
  """The arrays recorded in tests/golden, by their names there, channels last."""
  model = nnx.merge(graphdef, state)
  stages = record_stage_outputs(model.encoder)
  out = model(images, noise=noise)
  model.norm_pix_loss = False
  return {
    "loss_norm_pix": out.loss,
    "loss": model.reconstruction_loss(model.patchify(images), out.pred, out.mask),
    "encoder": out.latent[..., :: out.latent.shape[-1] // 32],
    "encoder_mean": out.latent.mean((1, 2)),
    "pred": out.pred.reshape(len(images), 7, 7, -1)[..., ::96],
    "pred_mean": out.pred.reshape(len(images), 7, 7, -1).mean(-1),
    "mask": out.mask,
    **{f"stage{number}_active_mean": x.mean((1, 2, 3)) for number, x in enumerate(stages)},
  }


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("grn", ["sample", "batch"])
def test_golden(name, grn):
  case, reference = CASES[name], expected_outputs("fcmae", name)
  weights, images, noise = torch_weights(case), model_input(case), mask_noise(case)
  for dtype in (np.float64, np.float32):
    with float64(dtype == np.float64):
      model = build(name, dtype, grn=grn)
      graphdef, state = fill_model(model, weights, dtype=dtype, locate=sparse_location)
      images_typed = jnp.asarray(images, dtype)
      compile = quick_jit if dtype == np.float64 else jax.jit
      actual = compile(outputs, static_argnums=0)(graphdef, state, images_typed, noise)
    np.testing.assert_array_equal(actual.pop("mask"), reference["mask"])
    for output, value in actual.items():
      desired = reference[f"grn_{grn}/{output}_f64"]
      if desired.ndim == 4:
        desired = desired.transpose(0, 2, 3, 1)
      assert max_difference(value, desired) < golden_tolerance(desired, dtype), output


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_encoder_matches_the_classifier(name):
  """`encoder.*` has the classifier's names and layouts; only norm and head are added."""
  case = CASES[name]
  dim = case["dims"][-1]
  added = {
    "norm.weight": np.ones(dim),
    "norm.bias": np.zeros(dim),
    "head.weight": np.zeros((2, dim)),
    "head.bias": np.zeros(2),
  }
  encoder = {key: v for key, v in torch_weights(case).items() if key.startswith("encoder.")}

  def locate(key, value):
    path, value = sparse_location(key, value)
    return path[path[0] == "encoder" :], value

  constructor = CONVNEXTV2_MODELS[name.removeprefix("fcmae_")]
  exact = dict(dtype=np.float64, param_dtype=np.float64)
  with float64():
    model = nnx.merge(
      *fill_model(
        lambda: constructor(num_classes=2, rngs=abstract_rngs(), **exact),
        encoder | added,
        dtype=np.float64,
        locate=locate,
      )
    )
    features = call(model, model_input(case).astype(np.float64), method="features")
  assert max_difference(features, expected_outputs("fcmae", name)["finetune_features_f64"]) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_parameter_counts_match_the_original(name):
  leaves = jax.tree.leaves(nnx.state(nnx.eval_shape(build(name, np.float32)), nnx.Param))
  assert sum(leaf.size for leaf in leaves) == CASES[name]["n_params_total"]


def tiny(**overrides):
  constructor = FCMAE_MODELS["fcmae_convnextv2_atto"]
  return random_model(
    lambda: constructor(rngs=nnx.Rngs(0), **{**TINY, **overrides}), fan_in_scaling=True
  )


def tiny_images(batch=4):
  return np.random.default_rng(0).standard_normal((batch, 128, 128, 3)).astype(np.float32)


def tiny_noise(batch=4):
  return np.random.default_rng(1).standard_normal((batch, 16)).astype(np.float32)


@functools.partial(quick_jit, static_argnums=0)
def step(graphdef, params, images, noise):
  """(loss, MaskedOutput) and gradients."""

  def loss(params):
    out = nnx.merge(graphdef, params)(images, noise=noise)
    return out.loss, out

  return jax.value_and_grad(loss, has_aux=True)(params)


@functools.partial(quick_jit, static_argnums=0)
def reference_step(graphdef, params, images, noise):
  """(loss, (pred, latent)) and gradients of the masked dense reference."""

  def loss(params):
    value, *rest = masked_dense_loss(nnx.merge(graphdef, params), images, noise)
    return value, rest

  return jax.value_and_grad(loss, has_aux=True)(params)


def assert_gradients_agree(actual, desired, rtol, atol):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol, atol), actual, desired)


@pytest.mark.slow
@pytest.mark.parametrize(("grn", "remat"), [("sample", False), ("batch", True)])
def test_visible_sites_match_the_masked_dense_reference(grn, remat):
  with float64():
    model = tiny(grn=grn, remat=remat, dtype=np.float64, param_dtype=np.float64)
    batch = *nnx.split(model), tiny_images().astype(np.float64), tiny_noise()
    (loss, out), grads = step(*batch)
    (reference_loss, (pred, latent)), reference_grads = reference_step(*batch)
  assert max_difference(loss, reference_loss) < 1e-12
  assert max_difference(out.pred, pred) < 1e-11
  assert max_difference(out.latent, latent) < 1e-11
  assert_gradients_agree(grads, reference_grads, rtol=1e-8, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize(("grn", "remat"), [("sample", False), ("batch", True)])
def test_one_device_and_four_agree(grn, remat):
  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
  sharding = NamedSharding(mesh, PartitionSpec("data"))
  with float64():
    model = nnx.split(tiny(grn=grn, remat=remat, dtype=np.float64, param_dtype=np.float64))
    batch = tiny_images().astype(np.float64), tiny_noise()
    (loss, _), grads = step(*model, *batch)
    (sharded_loss, _), sharded_grads = step(*model, *jax.device_put(batch, sharding))
  np.testing.assert_allclose(loss, sharded_loss, rtol=1e-12)
  assert_gradients_agree(grads, sharded_grads, rtol=1e-8, atol=1e-11)


@pytest.mark.slow
def test_bfloat16_gradients_are_finite_for_large_inputs():
  model, images = tiny(dtype=jnp.bfloat16, remat=True), 100 * tiny_images()[:2]
  (_, out), grads = step(*nnx.split(model), images, tiny_noise()[:2])
  assert out.loss.dtype == out.pred.dtype == jnp.float32 and out.latent.dtype == jnp.bfloat16
  for grad in jax.tree.leaves(grads):
    assert grad.dtype == jnp.float32 and np.isfinite(grad).all()


@functools.partial(quick_jit, static_argnums=(0, 4))
def forward(graphdef, params, images, noise, mask_ratio=0.6):
  return nnx.merge(graphdef, params)(images, mask_ratio, noise=noise)


@pytest.mark.slow
def test_removed_patches_do_not_reach_the_encoder():
  model, images, noise = tiny(), tiny_images(), tiny_noise()
  before = forward(*nnx.split(model), images, noise)
  patches = np.array(model.patchify(images))
  patches[np.asarray(before.mask) == 1] = 7.0
  after = forward(*nnx.split(model), model.unpatchify(patches), noise)
  np.testing.assert_array_equal(before.latent, after.latent)
  removed = np.asarray(before.mask).reshape(4, 4, 4) == 1
  assert removed.sum() == 4 * (16 - 6) and np.all(np.asarray(before.latent)[removed] == 0)


@pytest.mark.slow
def test_grn_depends_on_the_other_images_only_with_batch():
  images, noise = tiny_images(), tiny_noise()
  changed = np.concatenate([images[:1], 5 * images[1:] + 1])
  for grn, independent in (("sample", True), ("batch", False)):
    model = tiny(grn=grn)
    before, after = (forward(*nnx.split(model), x, noise).latent[0] for x in (images, changed))
    assert (max_difference(before, after) < 1e-5) == independent, grn


def test_patches_are_in_row_major_order():
  model, images = tiny(), tiny_images()
  patches = model.patchify(images)
  np.testing.assert_array_equal(patches[:, 5].reshape(-1, 32, 32, 3), images[:, 32:64, 32:64])
  np.testing.assert_array_equal(model.unpatchify(patches), images)


def test_a_key_gives_one_mask_per_image_and_is_repeatable():
  draw = nnx.jit(lambda model, images, key: model(images, key=key).mask)
  model, images = tiny(), tiny_images()
  first = draw(model, images, jax.random.key(0))
  np.testing.assert_array_equal(first, draw(model, images, jax.random.key(0)))
  assert len({tuple(row) for row in np.asarray(first).tolist()}) == 4
  np.testing.assert_array_equal(first.sum(1), 16 - 6)
  from_rngs = nnx.jit(lambda model, rngs: model(images, 0.75, rngs=rngs).mask)
  np.testing.assert_array_equal(from_rngs(model, nnx.Rngs(dropout=0)).sum(1), 12)


@pytest.mark.slow
def test_initial_weights_match_the_original():
  """N(0, 1) truncated at 2 has std 0.88; downsampling .02, the decoder's linear layers torch's."""
  arguments = TINY | dict(dims=(24, 32, 40, 48), decoder_embed_dim=64)
  constructor = FCMAE_MODELS["fcmae_convnextv2_atto"]
  initial = quick_jit(lambda: nnx.state(constructor(rngs=nnx.Rngs(0), **arguments), nnx.Param))()
  for path, variable in nnx.to_flat_state(initial):
    value, name = np.asarray(variable.get_value()), ".".join(map(str, path))
    if ".pwconv" in name and name.startswith("decoder"):
      bound = (64 if "pwconv1" in name else 256) ** -0.5
      assert np.abs(value).max() <= bound and abs(value.std() * 3**0.5 / bound - 1) < 0.2, name
    elif path[-1] == "kernel":
      downsampling = name.startswith("encoder.downsample_layers") and ".0.0." not in name
      std = 0.02 if downsampling else 0.8796
      assert abs(value.std() / std - 1) < 0.1 and np.abs(value).max() <= 2, name
    elif name == "mask_token":
      assert 0.01 < value.std() < 0.03
    else:
      assert np.all(value == (1.0 if path[-1] == "scale" else 0.0)), name


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (dict(image_size=100), "image_size 100 must be a multiple of patch_size 32"),
    (dict(grn="layer"), 'grn must be "sample" or "batch"'),
  ],
)
def test_invalid_arguments_are_rejected(overrides, message):
  with pytest.raises(ValueError, match=message):
    tiny(**overrides)


def test_invalid_calls_are_rejected():
  model, images = tiny(), tiny_images()
  with pytest.raises(ValueError, match="mask_ratio"):
    model(images, 0.99, noise=tiny_noise())
  with pytest.raises(ValueError, match=r"noise must be \[4, 16\]"):
    model(images, noise=tiny_noise()[:, :15])
  with pytest.raises(ValueError, match="rngs"):
    model(images)
  for shape in ((2, 100, 100, 3), (2, 64, 32, 3), (2, 64, 64, 1)):
    with pytest.raises(ValueError, match="square images"):
      model(np.zeros(shape, np.float32), noise=tiny_noise())
