"""Three recorded AdamW steps of MAE pre-training and ViT fine-tuning, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from golden_cases import (
  golden_cases,
  mask_noise,
  max_difference,
  model_input,
  step_input,
  step_labels,
  step_noise,
  trajectories,
)
from trajectory import check_run, repeat_run, smoothed_cross_entropy

from jax_me.models.catalog import create_model

EXACT = dict(dtype=jnp.float64, param_dtype=jnp.float64)


def test_mae_pretraining():
  name = "mae_vit_tiny_pretrain"
  with jax.enable_x64(True):
    run = repeat_run(
      name,
      lambda: create_model("mae_vit_tiny_patch16", norm_pix_loss=True, rngs=nnx.Rngs(0), **EXACT),
      lambda model, batch: model(batch["image"], noise=batch["noise"]).loss,
      lambda case, step: {"image": step_input(case, step), "noise": step_noise(case, step)},
    )
    case = golden_cases("trajectories")[name]
    images = model_input(case).astype(np.float64)
    final = nnx.jit(lambda model: model(images, noise=mask_noise(case)).loss)(run.model)
  check_run(run, name)
  assert max_difference(final, trajectories()[name]["float64"]["final_eval"]["loss"]) < 1e-8


def test_vit_finetuning():
  name = "vit_tiny_gap_finetune"
  with jax.enable_x64(True):
    run = repeat_run(
      name,
      lambda: create_model("vit_tiny_patch16", num_classes=7, rngs=nnx.Rngs(0), **EXACT),
      lambda model, batch: smoothed_cross_entropy(model(batch["image"]), batch["label"], 0.1),
      lambda case, step: {"image": step_input(case, step), "label": step_labels(case, step)},
    )
    images = model_input(golden_cases("trajectories")[name]).astype(np.float64)
    final = nnx.jit(lambda model: model(images))(run.model)
  check_run(run, name)
  assert max_difference(final, trajectories()[name]["float64"]["final_eval"]["logits"]) < 1e-8
