"""Three recorded AdamW steps of T2T-ViT-7, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from golden_cases import (
  flax_location,
  golden_cases,
  max_difference,
  model_input,
  step_input,
  step_labels,
  trajectories,
)
from trajectory import check_run, repeat_run, smoothed_cross_entropy

from jax_me.models.catalog import create_model


def locate(key, value):
  return flax_location(key.replace("mlp.0.", "mlp.fc1.").replace("mlp.2.", "mlp.fc2."), value)


def test_training():
  name = "t2t_vit_7_train"
  with jax.enable_x64(True):
    run = repeat_run(
      name,
      lambda: create_model(
        "t2t_vit_7",
        num_classes=3,
        token_drop_rate=0.0,  # the record was made without any dropout
        dtype=jnp.float64,
        param_dtype=jnp.float64,
        rngs=nnx.Rngs(0),
      ),
      lambda model, batch: smoothed_cross_entropy(
        model(batch["image"], deterministic=False, rngs=nnx.Rngs(dropout=0)), batch["label"], 0.0
      ),
      lambda case, step: {"image": step_input(case, step), "label": step_labels(case, step)},
      locate=locate,
    )
    images = model_input(golden_cases("trajectories")[name]).astype(np.float64)
    final = nnx.jit(lambda model: model(images))(run.model)
  check_run(run, name)
  assert max_difference(final, trajectories()[name]["float64"]["final_eval"]["logits"]) < 1e-8
