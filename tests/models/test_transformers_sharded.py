"""Loss and gradients of a batch sharded over four devices against one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jax_me.models import create_model
from tests.helpers.quick_compilation import quick_jit
from tests.helpers.small_models import random_model

SMALL = dict(image_size=32, embed_dim=24, depth=2, num_heads=3)
MODELS = {
  "vit_tiny_patch16": dict(patch_size=8, num_classes=5, **SMALL),
  "mae_vit_tiny_patch16": dict(
    patch_size=8, decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2, **SMALL
  ),
  "t2t_vit_7": dict(token_dim=8, num_classes=5, **SMALL),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_one_and_four_devices_agree(name):
  model = random_model(lambda: create_model(name, rngs=nnx.Rngs(0), **MODELS[name]))
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)
  rng = np.random.default_rng(0)
  batch = {
    "image": rng.standard_normal((8, 32, 32, 3)).astype(np.float32),
    "noise": rng.random((8, 16)).astype(np.float32),
  }

  @quick_jit
  def value_and_grad(params, batch):
    def loss(params):
      model = nnx.merge(graphdef, params, rest)
      if name.startswith("mae"):
        return model(batch["image"], noise=batch["noise"]).loss
      return jnp.mean(jnp.square(model(batch["image"])))

    return jax.value_and_grad(loss)(params)

  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
  sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
  replicated = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
  one, four = value_and_grad(params, batch), value_and_grad(replicated, sharded)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
