"""MAE against the original's outputs, and its behaviour."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_cases import (
  expected,
  filled,
  golden_cases,
  mask_noise,
  max_difference,
  model_input,
  torch_weights,
)

from jax_me.models.catalog import create_model
from jax_me.models.mae import random_masking
from jax_me.models.patches import patchify

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
  return lambda: create_model(name, dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0))


def outputs(graphdef, state, images, noise):
  """The arrays that golden/ keeps, under the names it gives them."""
  model = nnx.merge(graphdef, state)
  out = model(images, 0.75, noise=noise)
  model.norm_pix_loss = True
  latent, pred = out.latent, out.pred
  picks = pred[:, :: pred.shape[1] // 4]
  patches = patchify(images, model.patch_size)
  return {
    "loss": out.loss,
    "loss_norm_pix": model.reconstruction_loss(patches, pred, out.mask),
    "latent": jnp.concatenate([latent[:, :3], latent.mean(1, keepdims=True)], 1),
    "pred": jnp.concatenate([picks, pred.mean(1, keepdims=True)], 1),
    "mask": out.mask,
  }


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
  case, reference = golden_cases("mae")[name], expected("mae", name)
  weights, images, noise = torch_weights(case), model_input(case), mask_noise(case)
  with jax.enable_x64(True):
    graphdef, state = filled(build(name, jnp.float64), weights, dtype=np.float64)
    exact = jax.jit(outputs, static_argnums=0)(
      graphdef, state, jnp.asarray(images, jnp.float64), noise
    )
  graphdef, state = filled(build(name, jnp.float32), weights)
  single = jax.jit(outputs, static_argnums=0)(graphdef, state, images, noise)
  for output in ("loss", "loss_norm_pix", "latent", "pred"):
    desired = reference[f"{output}_f64"]
    assert max_difference(exact[output], desired) < 1e-9
    assert max_difference(single[output], desired) < 1e-5
  np.testing.assert_array_equal(single["mask"], reference["mask"])
  _, restore, _ = random_masking(jnp.asarray(noise), 0.75)
  np.testing.assert_array_equal(restore, reference["ids_restore"])
