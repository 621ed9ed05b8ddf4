"""T2T-ViT against the originals' outputs, and its behaviour in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_cases import (
  expected,
  filled,
  flax_location,
  golden_cases,
  max_difference,
  model_input,
  torch_weights,
)

from jax_me.models.catalog import create_model

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
    case["model"], dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0), **overrides
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


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
  case, reference = golden_cases("t2t")[name], expected("t2t", name)
  weights, images = torch_weights(case), model_input(case)
  with jax.enable_x64(True):
    graphdef, state = filled(build(name, jnp.float64), weights, dtype=np.float64, locate=locate)
    exact = jax.jit(outputs, static_argnums=0)(graphdef, state, jnp.asarray(images, jnp.float64))
  graphdef, state = filled(build(name, jnp.float32), weights, locate=locate)
  single = jax.jit(outputs, static_argnums=0)(graphdef, state, images)
  for output, value in single.items():
    desired = reference[f"{output}_f64"]
    assert value.dtype == jnp.float32
    assert max_difference(exact[output], desired) < 1e-9
    assert max_difference(value, desired) < 1e-5
