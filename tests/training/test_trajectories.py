"""The originals' recorded training runs, repeated by our own optimiser, schedule and step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_cases import (
  filled,
  flax_location,
  golden_cases,
  step_input,
  step_labels,
  step_noise,
  torch_weights,
  trajectories,
)

from jax_me.models.catalog import create_model
from jax_me.models.saved import split_model
from jax_me.training.optim import make_optimizer
from jax_me.training.param_groups import parameter_paths
from jax_me.training.state import Constants
from jax_me.training.steps import classification_loss, make_train_step, masked_autoencoder_loss

TOLERANCE = 1e-6


def as_given(images, keys):
  """No augmentation: the recorded batches are noise already."""
  del keys
  return images


RUNS = {
  "mae_vit_tiny_pretrain": dict(
    model="mae_vit_tiny_patch16", arguments=dict(norm_pix_loss=True), phase="pretrain"
  ),
  "vit_tiny_gap_finetune": dict(
    model="vit_tiny_patch16", arguments=dict(num_classes=7), phase="finetune"
  ),
}


@pytest.mark.parametrize("name", RUNS)
def test_training_code_repeats_the_recorded_run(name):
  run, case, record = RUNS[name], golden_cases("trajectories")[name], trajectories()[name]
  recipe = record["settings"]
  with jax.enable_x64(True):
    weights = torch_weights(case)
    graphdef, filled_state = filled(
      lambda: create_model(
        run["model"],
        rngs=nnx.Rngs(0),
        dtype=jnp.float64,
        param_dtype=jnp.float64,
        **run["arguments"],
      ),
      weights,
      dtype=np.float64,
    )
    graphdef, params, model_state = split_model(nnx.merge(graphdef, filled_state))
    if run["phase"] == "pretrain":
      loss = masked_autoencoder_loss(graphdef, as_given, mask_ratio=recipe["mask_ratio"])
    else:
      loss = classification_loss(graphdef, as_given, label_smoothing=0.1)
    optimizer = make_optimizer(
      params,
      phase=run["phase"],
      weight_decay=recipe["weight_decay"],
      b1=recipe["betas"][0],
      b2=recipe["betas"][1],
      layer_decay=recipe["layer_decay"] or 1.0,
    )
    constants = Constants(
      seed=0,
      mean=(0.0,) * 3,
      std=(1.0,) * 3,
      peak=recipe["lr"],
      minimum=recipe["lr"],  # constant: the cosine goes from the rate to the rate
      warmup_steps=0,
      total_steps=record["n_steps"],
    )
    state = {
      "step": jnp.zeros((), jnp.int32),
      "params": params,
      "model_state": model_state,
      "opt_state": optimizer.init(params),
      "constants": constants.arrays(),
    }
    step = jax.jit(make_train_step(loss, optimizer))
    losses, norms = [], []
    for number in range(record["n_steps"]):
      batch = {"image": step_input(case, number).astype(np.float64)}
      if "noise" in case:
        batch["noise"] = step_noise(case, number)
      else:
        batch["label"] = step_labels(case, number).astype(np.int32)
      batch["mask"] = np.ones(len(batch["image"]), bool)
      state, metrics = step(state, batch)
      losses.append(float(metrics["loss"]))
      norms.append(float(metrics["grad_norm"]))
    final = {**parameter_paths(state["params"]), **parameter_paths(state["model_state"])}
    final_norms = {
      key: float(jnp.linalg.norm(final[".".join(map(str, flax_location(key, w)[0]))].ravel()))
      for key, w in weights.items()
    }
  want = record["float64"]
  np.testing.assert_allclose(losses, want["loss"], rtol=TOLERANCE)
  np.testing.assert_allclose(norms, want["grad_norm"], rtol=TOLERANCE)
  for key, norm in want["param_norm"].items():
    assert final_norms[key] == pytest.approx(norm, rel=TOLERANCE), key
