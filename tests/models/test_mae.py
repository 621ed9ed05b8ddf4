"""MAE: parity with the original code, and behaviour."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.models.mae import random_masking
from jax_me.models.patches import patchify, unpatchify
from jax_me.models.registry import abstract_rngs, create_model
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
  count_checkpoints,
  gradients,
  initialised_model,
  random_model,
)

CASES = sorted(name for name in golden_cases("mae") if name.startswith("mae_"))
TINY = dict(
  image_size=32,
  patch_size=8,
  embed_dim=24,
  depth=2,
  num_heads=3,
  decoder_embed_dim=16,
  decoder_depth=1,
  decoder_num_heads=2,
)


def build(name, dtype):
  return lambda: create_model(name, dtype=dtype, param_dtype=dtype, rngs=abstract_rngs())


def outputs(graphdef, state, images, noise):
  """The arrays recorded in tests/golden, by their names there."""
  model = nnx.merge(graphdef, state)
  out = model(images, 0.75, noise=noise)
  model.norm_pix_loss = True
  latent, pred = out.latent, out.pred
  sample = pred[:, :: pred.shape[1] // 4]
  patches = patchify(images, model.patch_size)
  return {
    "loss": out.loss,
    "loss_norm_pix": model.reconstruction_loss(patches, pred, out.mask),
    "latent": jnp.concatenate([latent[:, :3], latent.mean(1, keepdims=True)], 1),
    "pred": jnp.concatenate([sample, pred.mean(1, keepdims=True)], 1),
    "mask": out.mask,
  }


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_golden(name):
  case, reference = golden_cases("mae")[name], expected_outputs("mae", name)
  weights, images, noise = torch_weights(case), model_input(case), mask_noise(case)
  with float64():
    graphdef, state = fill_model(build(name, jnp.float64), weights, dtype=np.float64)
    double = quick_jit(outputs, static_argnums=0)(
      graphdef, state, jnp.asarray(images, jnp.float64), noise
    )
  graphdef, state = fill_model(build(name, jnp.float32), weights)
  single = jax.jit(outputs, static_argnums=0)(graphdef, state, images, noise)
  for output in ("loss", "loss_norm_pix", "latent", "pred"):
    desired = reference[f"{output}_f64"]
    assert max_difference(double[output], desired) < golden_tolerance(desired, np.float64)
    assert max_difference(single[output], desired) < golden_tolerance(desired, np.float32)
  np.testing.assert_array_equal(single["mask"], reference["mask"])
  _, restore, _ = random_masking(jnp.asarray(noise), 0.75)
  np.testing.assert_array_equal(restore, reference["ids_restore"])


def tiny(**overrides):
  return random_model(
    lambda: create_model("mae_vit_tiny_patch16", rngs=nnx.Rngs(0), **{**TINY, **overrides})
  )


def tiny_images(batch=2):
  return np.random.default_rng(0).standard_normal((batch, 32, 32, 3)).astype(np.float32)


def test_masking_keeps_the_smallest_noise():
  noise = jnp.array([[0.5, 0.1, 0.9, 0.3], [0.4, 0.3, 0.2, 0.1]])
  kept, restore, mask = random_masking(noise, 0.5)
  np.testing.assert_array_equal(kept, [[1, 3], [3, 2]])
  np.testing.assert_array_equal(mask, [[1, 0, 1, 0], [1, 1, 0, 0]])
  order = jnp.argsort(noise, axis=1)
  np.testing.assert_array_equal(
    jnp.take_along_axis(order, restore, axis=1), np.arange(4)[None].repeat(2, 0)
  )


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, 0.99])
def test_masking_rejects_ratios_that_keep_nothing(ratio):
  with pytest.raises(ValueError, match="mask_ratio"):
    random_masking(jnp.zeros((1, 16)), ratio)


@pytest.mark.slow
def test_removed_patches_do_not_reach_the_encoder():
  model, images = tiny(), tiny_images()
  noise = np.random.default_rng(1).random((2, 16)).astype(np.float32)
  before = call(model, images, noise=noise)
  patches = np.array(patchify(jnp.asarray(images), 8))
  patches[np.asarray(before.mask) == 1] = 7.0
  after = call(model, unpatchify(jnp.asarray(patches), 8), noise=noise)
  np.testing.assert_allclose(before.latent, after.latent, atol=1e-6)
  assert max_difference(before.loss, after.loss) > 1.0


def test_unpatchify_inverts_patchify():
  images = tiny_images()
  np.testing.assert_array_equal(unpatchify(patchify(jnp.asarray(images), 8), 8), images)


def test_a_key_gives_one_mask_per_image_and_is_repeatable():
  model, images = tiny(), tiny_images(4)
  first = call(model, images, key=jax.random.key(0)).mask
  np.testing.assert_array_equal(first, call(model, images, rngs=RngsStub(jax.random.key(0))).mask)
  assert len({tuple(row) for row in np.asarray(first).tolist()}) == 4
  np.testing.assert_array_equal(first.sum(1), 12)
  with pytest.raises(ValueError, match="rngs"):
    model(images)
  with pytest.raises(ValueError, match=r"noise must be \[4, 16\]"):
    model(images, noise=np.zeros((4, 15), np.float32))


class RngsStub:
  """Stub of nnx.Rngs whose dropout stream returns a given key."""

  def __init__(self, key):
    self.dropout = lambda: key


def test_remat_recomputes_every_block():
  noise = np.zeros((2, 16), np.float32)
  assert count_checkpoints(lambda x: tiny(remat=True)(x, noise=noise), tiny_images()) == 3
  assert count_checkpoints(lambda x: tiny()(x, noise=noise), tiny_images()) == 0


@pytest.mark.slow
def test_bfloat16_gradients_are_finite_for_large_inputs():
  noise = np.random.default_rng(1).random((2, 16)).astype(np.float32)
  model = tiny(dtype=jnp.bfloat16, norm_pix_loss=True)
  for grad in gradients(model, lambda model: model(100 * tiny_images(), noise=noise).loss):
    assert grad.dtype == jnp.float32 and np.isfinite(grad).all()


@pytest.mark.slow
def test_initial_values_match_the_original():
  model = initialised_model(lambda: create_model("mae_vit_tiny_patch16", rngs=nnx.Rngs(0), **TINY))
  kernel = np.asarray(model.patch_embed.proj.kernel[...])
  bound = (6 / (3 * 8 * 8 + 24)) ** 0.5  # Xavier uniform of the flat [192, 24] matrix
  assert 0.95 * bound < np.abs(kernel).max() <= bound
  qkv = np.asarray(model.blocks[0].attn.qkv.kernel[...])
  bound = (6 / (24 + 72)) ** 0.5
  assert 0.95 * bound < np.abs(qkv).max() <= bound
  assert not np.any(model.blocks[0].attn.qkv.bias[...])
  assert 0.005 < np.std(model.mask_token[...]) < 0.04
