"""From a recipe to its compiled step: model, loss, optimiser and shardings, without any data."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jax_me.data.augment.augmentation import Augmentation, make_augmentation, make_erasing
from jax_me.data.augment.mixup import MixupSettings, make_mixup
from jax_me.models import model_folder
from jax_me.models.registry import create_model
from jax_me.training.loop import Program
from jax_me.training.optim import make_optimizer
from jax_me.training.schedule import make_schedule
from jax_me.training.state import state_builder
from jax_me.training.steps import classification_loss, make_train_step, masked_autoencoder_loss

# Settings of `optimizer` that are the schedule's numbers, kept in the state's constants.
IN_CONSTANTS = (
  "learning_rate",
  "base_learning_rate",
  "min_learning_rate",
  "warmup_epochs",
  "cosine_epochs",
  "milestones",
)


def model_arguments(config: ConfigDict, classes: int) -> dict[str, Any]:
  """Constructor keywords of the recipe's model, as JSON values."""
  arguments = {"image_size": config.model.image_size, **config.model.arguments.to_dict()}
  if config.task == "classify":
    arguments["num_classes"] = classes
  return arguments


def make_program(config: ConfigDict, mesh: Mesh, classes: int) -> tuple[Program, Any]:
  """The recipe's initialisation and training step, jitted for a mesh but not yet compiled.

  Args:
    config: the checked recipe.
    mesh: devices of this machine, or of a topology that is only described.
    classes: width of the logits; not used in pre-training.

  Returns:
    the program, and the model's graph definition (for evaluation).

  Raises:
    ValueError: the model, the optimiser or the batch cannot be as the recipe says.
  """
  check_batch(config, mesh.size)
  check_class_weights(config, classes)
  # How the step is computed, not what: these stay out of the model's card.
  computation = {
    "dtype": jnp.dtype(config.precision),
    "remat": config.remat,
    "scan": config.scan_layers,
  }
  arguments = {**computation, **model_arguments(config, classes)}

  def make_model(rngs: nnx.Rngs) -> nnx.Module:
    return create_model(config.model.name, rngs=rngs, **arguments)

  graphdef, params, _ = model_folder.split_model(nnx.eval_shape(lambda: make_model(nnx.Rngs(0))))
  pretraining = config.task == "mae"
  chosen = config.optimizer.to_dict()
  schedule = make_schedule(chosen.pop("schedule"), gamma=chosen.pop("gamma"))
  for key in IN_CONSTANTS:
    chosen.pop(key)
  optimizer = make_optimizer(params, phase="pretrain" if pretraining else "finetune", **chosen)
  changes = Augmentation(**config.augment.to_dict())
  augment = make_augmentation(changes, size=config.model.image_size)
  loss = (
    masked_autoencoder_loss(graphdef, augment, mask_ratio=config.mae.mask_ratio)
    if pretraining
    else classification_loss(
      graphdef,
      augment,
      erase=make_erasing(changes),
      mix=make_mixup(MixupSettings(**config.mixing.to_dict())),
      label_smoothing=config.label_smoothing,
    )
  )
  build = state_builder(make_model, optimizer, ema=config.ema_decay > 0)
  step = make_train_step(
    loss,
    optimizer,
    accum_steps=config.accum_steps,
    ema_decay=config.ema_decay,
    schedule=schedule,
  )
  return Program.compile(build, step, mesh), graphdef


def check_class_weights(config: ConfigDict, classes: int) -> None:
  """Refuses a list of weights that does not fit the dataset's classes.

  Raises:
    ValueError: names both numbers.
  """
  weights = config.class_weights
  if weights and weights != "balanced" and len(weights) != classes:
    raise ValueError(f"class_weights has {len(weights)} values, the dataset {classes} classes")


def check_batch(config: ConfigDict, devices: int) -> None:
  """Refuses a batch that the devices cannot share.

  Raises:
    ValueError: names the nearest batch size that works.
  """
  part = devices * config.accum_steps
  if config.batch_size % part:
    fits = max(1, round(config.batch_size / part)) * part
    raise ValueError(
      f"batch_size={config.batch_size} cannot be divided over {devices} devices and "
      f"accum_steps={config.accum_steps}; the nearest that can is {fits}"
    )
