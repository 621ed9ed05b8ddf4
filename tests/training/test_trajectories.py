"""Recorded training runs of the originals, repeated with our loss, optimiser and training step.

Three AdamW steps per model in float64: loss and gradient norm of every step, final norm of every
parameter, and output of the trained model.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.models.model_folder import merge_model, split_model
from jax_me.models.registry import abstract_rngs, create_model
from jax_me.training.optim import make_optimizer
from jax_me.training.param_groups import parameter_paths
from jax_me.training.state import RunParameters
from jax_me.training.steps import classification_loss, make_train_step, masked_autoencoder_loss
from tests.helpers.fcmae_reference import sparse_location
from tests.helpers.golden_cases import (
  fill_model,
  flax_location,
  golden_cases,
  mask_noise,
  max_difference,
  model_input,
  step_input,
  step_labels,
  step_noise,
  torch_weights,
  trajectories,
)
from tests.helpers.precision import float64

pytestmark = pytest.mark.usefixtures("quick_compilation")

TOLERANCE = 1e-8


@dataclasses.dataclass(frozen=True)
class Recorded:
  """Configuration of a recorded run.

  Attributes:
    model, arguments: for `create_model`.
    smoothing: of the labels.
    locate: (torch key, array) -> path of the weights here.
  """

  model: str
  arguments: dict = dataclasses.field(default_factory=dict)
  smoothing: float = 0.0
  locate: Callable = flax_location


def locate_t2t(key, value):
  return flax_location(key.replace("mlp.0.", "mlp.fc1.").replace("mlp.2.", "mlp.fc2."), value)


RUNS = {
  "mae_vit_tiny_pretrain": Recorded("mae_vit_tiny_patch16", dict(norm_pix_loss=True)),
  "vit_tiny_gap_finetune": Recorded("vit_tiny_patch16", dict(num_classes=7), smoothing=0.1),
  # The record was made without any dropout.
  "t2t_vit_7_train": Recorded(
    "t2t_vit_7", dict(num_classes=3, token_drop_rate=0.0), locate=locate_t2t
  ),
  "convnextv2_atto_finetune": Recorded("convnextv2_atto", dict(num_classes=7), smoothing=0.1),
  "fcmae_atto_pretrain": Recorded(
    "fcmae_convnextv2_atto", dict(norm_pix_loss=True), locate=sparse_location
  ),
}


def no_augmentation(images, keys):
  """No augmentation: the recorded batches are noise."""
  del keys
  return images


def recorded_batch(case, number, pretraining):
  batch = {"image": step_input(case, number).astype(np.float64)}
  batch["mask"] = np.ones(len(batch["image"]), bool)
  if pretraining:
    batch["noise"] = step_noise(case, number)
  else:
    batch["label"] = step_labels(case, number).astype(np.int32)
  return batch


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_training_repeats_the_recorded_run(name):
  run, case, record = RUNS[name], golden_cases("trajectories")[name], trajectories()[name]
  recipe, pretraining = record["settings"], name.endswith("pretrain")
  with float64():
    weights = torch_weights(case)
    graphdef, start = fill_model(
      lambda: create_model(
        run.model,
        rngs=abstract_rngs(),
        dtype=jnp.float64,
        param_dtype=jnp.float64,
        **run.arguments,
      ),
      weights,
      dtype=np.float64,
      locate=run.locate,
    )
    graphdef, params, model_state = split_model(nnx.merge(graphdef, start))
    if pretraining:
      loss = masked_autoencoder_loss(graphdef, no_augmentation, mask_ratio=recipe["mask_ratio"])
    else:
      loss = classification_loss(graphdef, no_augmentation, label_smoothing=run.smoothing)
    optimizer = make_optimizer(
      params,
      phase="pretrain" if pretraining else "finetune",
      weight_decay=recipe["weight_decay"],
      b1=recipe["betas"][0],
      b2=recipe["betas"][1],
      layer_decay=recipe["layer_decay"] or 1.0,
      layer_decay_type=recipe.get("layer_decay_type", "vit"),
    )
    run_parameters = RunParameters(
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
      "run_parameters": run_parameters.arrays(),
    }
    step = jax.jit(make_train_step(loss, optimizer))
    losses, norms = [], []
    for number in range(record["n_steps"]):
      state, metrics = step(state, recorded_batch(case, number, pretraining))
      losses.append(float(metrics["loss"]))
      norms.append(float(metrics["grad_norm"]))
    final = {**parameter_paths(state["params"]), **parameter_paths(state["model_state"])}
    final_norms = {
      key: float(jnp.linalg.norm(final[".".join(map(str, run.locate(key, w)[0]))].ravel()))
      for key, w in weights.items()
    }
    images = model_input(case).astype(np.float64)

    @jax.jit
    def forward(state):
      model = merge_model(graphdef, state["params"], state["model_state"])
      return model(images, noise=mask_noise(case)).loss if pretraining else model(images)

    outputs = forward(state)
  want = record["float64"]
  np.testing.assert_allclose(losses, want["loss"], rtol=TOLERANCE)
  np.testing.assert_allclose(norms, want["grad_norm"], rtol=TOLERANCE)
  assert final_norms.keys() == want["param_norm"].keys()
  for key, norm in want["param_norm"].items():
    assert final_norms[key] == pytest.approx(norm, rel=TOLERANCE), key
  kind = "loss" if pretraining else "logits"
  assert max_difference(outputs, want["final_eval"][kind]) < TOLERANCE
