"""Scanned and rematerialised block stacks against unrolled ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.models import create_model
from jax_me.models.block_stack import run_stack
from tests.helpers.precision import float64
from tests.helpers.quick_compilation import quick_jit
from tests.helpers.small_models import random_model

pytestmark = pytest.mark.usefixtures("quick_compilation")

WIDTHS = dict(embed_dim=12, num_heads=2, depth=3, image_size=32)
MODELS = {
  "vit_tiny_patch16": dict(patch_size=16, num_classes=3, drop_path_rate=0.5, **WIDTHS),
  "mae_vit_tiny_patch16": dict(
    patch_size=8, decoder_embed_dim=8, decoder_depth=2, decoder_num_heads=2, **WIDTHS
  ),
  "fcmae_convnextv2_atto": dict(
    depths=(1, 1, 2, 1), dims=(4, 5, 6, 7), decoder_embed_dim=8, image_size=64
  ),
}
# Whether the scanned run also recomputes its activations.
REMAT = {name: name != "mae_vit_tiny_patch16" for name in MODELS}


def loss_and_gradients(name, images, **options):
  model = random_model(
    lambda: create_model(
      name, dtype=jnp.float64, param_dtype=jnp.float64, rngs=nnx.Rngs(0), **MODELS[name], **options
    )
  )
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)

  def loss(params):
    rngs = nnx.Rngs(jax.random.key(5))
    out = nnx.merge(graphdef, params, rest)(images, deterministic=False, rngs=rngs)
    return out.loss if "mae" in name else jnp.sum(out**2)

  value, grads = quick_jit(jax.value_and_grad(loss))(params)
  return value, nnx.to_pure_dict(grads), str(jax.make_jaxpr(loss)(params))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_scan_and_remat_change_neither_loss_nor_gradients(name):
  with float64():
    side = MODELS[name].get("image_size", 32)
    images = np.random.default_rng(0).standard_normal((4, side, side, 3))
    value, grads, program = loss_and_gradients(name, images)
    assert " scan[" not in program
    other_value, other_grads, program = loss_and_gradients(
      name, images, scan=True, remat=REMAT[name]
    )
  assert " scan[" in program and ("remat" in program) == REMAT[name]
  np.testing.assert_allclose(other_value, value, rtol=1e-12)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(b).max()),
    *jax.device_get((other_grads, grads)),
  )


class Scale(nnx.Module):
  def __init__(self, width: int, factor: float):
    self.weight = nnx.Param(jnp.full(width, factor))

  def __call__(self, x, key=None):
    return x * self.weight[...].sum()


def test_blocks_that_differ_are_unrolled():
  blocks = [Scale(1, 2.0), Scale(2, 2.0)]
  x = jnp.ones(3)
  run = jax.make_jaxpr(lambda x: run_stack(blocks, x, [None, None], scan=True))(x)
  assert "scan" not in str(run)
  np.testing.assert_allclose(run_stack(blocks, x, [None, None], scan=True), 8.0)


def test_one_block_is_not_scanned():
  run = jax.make_jaxpr(lambda x: run_stack([Scale(1, 2.0)], x, [None], scan=True))(jnp.ones(3))
  assert "scan" not in str(run)
