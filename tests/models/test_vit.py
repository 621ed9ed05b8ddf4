"""ViT against the originals' outputs, and its behaviour in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_cases import expected, filled, golden_cases, max_difference, model_input, torch_weights

from jax_me.models.catalog import create_model

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
    rngs=nnx.Rngs(0),
  )


def outputs(graphdef, state, images):
  model = nnx.merge(graphdef, state)
  features = model.features(images)
  return {"features": features, "logits": model.head(features)}


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
  case, reference = golden_cases("mae")[name], expected("mae", name)
  weights, images = torch_weights(case), model_input(case)
  with jax.enable_x64(True):
    graphdef, state = filled(build(name, jnp.float64), weights, dtype=np.float64)
    exact = jax.jit(outputs, static_argnums=0)(graphdef, state, jnp.asarray(images, jnp.float64))
  for output, value in exact.items():
    assert max_difference(value, reference[f"{output}_f64"]) < 1e-9
  graphdef, state = filled(build(name, jnp.float32), weights)
  single = jax.jit(outputs, static_argnums=0)(graphdef, state, images)
  for output, value in single.items():
    assert value.dtype == jnp.float32
    assert max_difference(value, reference[f"{output}_f64"]) < 1e-5
