"""Jitted initialisation and training step of a recipe, without any data."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from jax_me.data.augment.augmentation import Augmentation, make_augmentation, make_erasing
from jax_me.data.augment.mixup import MixupSettings, make_mixup
from jax_me.models import model_folder
from jax_me.models.attention import batch_split_over
from jax_me.models.compiler_options import compiler_options
from jax_me.models.model_metadata import AFFECT
from jax_me.models.registry import create_abstract_model, create_model
from jax_me.training.checkpoint import JsonValue
from jax_me.training.optim import make_optimizer
from jax_me.training.param_groups import FROZEN_MODULES, learning_rate_scales
from jax_me.training.schedule import make_schedule
from jax_me.training.sharding import (
  gradient_by_device,
  replicated,
  split_for_update,
  state_sharding,
)
from jax_me.training.state import RunParameters, State, initial_key, state_builder
from jax_me.training.steps import (
  Batch,
  Metrics,
  classification_loss,
  make_train_step,
  masked_autoencoder_loss,
)

# Keys of `config.optimizer` that set the learning rate; their values are in the run parameters.
SCHEDULE_KEYS = (
  "learning_rate",
  "base_learning_rate",
  "min_learning_rate",
  "warmup_epochs",
  "warmup_learning_rate",
  "cosine_epochs",
  "cosine_start",
  "interval",
  "milestones",
)


@dataclasses.dataclass(frozen=True)
class Program:
  """Jitted functions of a run, shared by runs that differ only in data and run parameters (folds).

  `loop.train` calls the methods. A `FoldProgram` has the same ones for several folds at once.

  Attributes:
    build: PRNG key -> state without run parameters (`state_builder`).
    create: `build`, jitted to make sharded arrays.
    step: (state, batch) -> (state, metrics), jitted, donating the state.
    pure_step: `step` before jit, for programs that train several folds.
    mesh: the devices.
    split_update: see `state_sharding`.
    block: maximum number of steps in one call of `advance`.
  """

  build: Callable[[jax.Array], State]
  create: Callable[[jax.Array], State]
  step: Callable[[State, Batch], tuple[State, Metrics]]
  pure_step: Callable[[State, Batch], tuple[State, Metrics]]
  mesh: Mesh
  split_update: int
  block: ClassVar[int] = 1

  @classmethod
  def compile(
    cls,
    build: Callable[[jax.Array], State],
    step: Callable[..., tuple[State, Metrics]],
    mesh: Mesh,
    *,
    split_update: int = 1,
    float32_sum: bool = False,
  ) -> "Program":
    """Jits both functions. The step keeps the state's shardings, so it compiles once.

    Args:
      build: PRNG key -> state without run parameters.
      step: `make_train_step`.
      mesh: the devices.
      split_update: see `state_sharding`.
      float32_sum: gradients as with `gradient_by_device`.

    Returns:
      the program.
    """
    shardings = state_sharding(jax.eval_shape(build, jax.random.key(0)), mesh, split_update)
    everywhere = replicated(mesh)

    def step_on_mesh(state: State, batch: Batch) -> tuple[State, Metrics]:
      with batch_split_over(mesh):
        split = functools.partial(split_for_update, mesh=mesh, devices=split_update)
        by_device = None
        if float32_sum and mesh.size > 1:
          by_device = functools.partial(gradient_by_device, mesh=mesh)
        return step(state, batch, split, by_device)

    return cls(
      build=build,
      create=jax.jit(build, out_shardings=shardings),
      step=jax.jit(
        step_on_mesh,
        donate_argnums=0,
        compiler_options=compiler_options(mesh.devices.flat[0].platform),
        out_shardings=({**shardings, "run_parameters": everywhere}, everywhere),
      ),
      pure_step=step,
      mesh=mesh,
      split_update=split_update,
    )

  def abstract_state(self) -> State:
    """Shapes, dtypes and shardings of the state without run parameters; allocates nothing."""
    shapes = jax.eval_shape(self.build, jax.random.key(0))
    shardings = state_sharding(shapes, self.mesh, self.split_update)
    return jax.tree.map(_with_sharding, shapes, shardings)

  def initial_state(self, seed: int, initialise: Callable[[State], State] | None = None) -> State:
    """The state before the first step, without run parameters.

    Args:
      seed: of the initial weights.
      initialise: changes them, for example to pre-trained weights.
    """
    state = self.create(initial_key(seed))
    return state if initialise is None else initialise(state)

  def put_run_parameters(self, *run_parameters: RunParameters) -> dict[str, jax.Array]:
    """The run parameters of the fold as arrays, replicated on every device."""
    (only,) = run_parameters
    return jax.device_put(only.arrays(), replicated(self.mesh))

  def advance(self, state: State, batches: Any) -> tuple[State, Metrics]:
    """Trains on the next batch of the fold (`ImageBatches`); donates the state."""
    return self.step(state, batches)

  def fold_state(self, state: State, number: int) -> State:
    """The state of one fold; in a program of several folds without the optimiser's."""
    assert number == 0
    return state


def _with_sharding(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def model_arguments(config: ConfigDict, classes: int) -> dict[str, JsonValue]:
  """Constructor keywords of the recipe's model, as JSON values."""
  arguments = {"image_size": config.model.image_size, **config.model.arguments.to_dict()}
  if config.task == "classify":
    arguments["num_classes"] = classes + (len(AFFECT) if config.affect_weight else 0)
  return arguments


def make_program(
  config: ConfigDict, mesh: Mesh, classes: int
) -> tuple[Program, nnx.GraphDef[nnx.Module]]:
  """The recipe's initialisation and training step, jitted for a mesh but not yet compiled.

  Args:
    config: the checked recipe.
    mesh: devices of this machine, or of a topology description.
    classes: number of logits; unused in pre-training.

  Returns:
    the program, and the model's graph definition (for evaluation).

  Raises:
    ValueError: the recipe's model, optimiser or batch size is impossible.
  """
  check_batch(config, mesh.size)
  check_mesh(config, mesh.size)
  check_class_weights(config, classes)
  # These change how the step is computed, not its result, so they are not model metadata.
  # The shallow models have no blocks to recompute or to loop over.
  computation: dict[str, Any] = {"dtype": jnp.dtype(config.precision)}
  computation |= {"remat": True} if config.remat else {}
  computation |= {"scan": True} if config.scan_layers else {}
  arguments = {**computation, **model_arguments(config, classes)}

  def make_model(rngs: nnx.Rngs) -> nnx.Module:
    return create_model(config.model.name, rngs=rngs, **arguments)

  abstract = create_abstract_model(config.model.name, **arguments)
  graphdef, params, _ = model_folder.split_model(abstract)
  pretraining = config.task == "mae"
  settings = config.optimizer.to_dict()
  schedule = make_schedule(settings.pop("schedule"), gamma=settings.pop("gamma"))
  for key in SCHEDULE_KEYS:
    settings.pop(key)
  factors = None
  if not settings.pop("scale_minimum"):
    factors = learning_rate_scales(
      params, settings.pop("layer_decay"), settings["layer_decay_type"]
    )
  phase = "pretrain" if pretraining else "finetune"
  freeze_backbone = config.freeze == "backbone"
  optimizer = make_optimizer(
    params,
    phase=phase,
    freeze_backbone=freeze_backbone,
    frozen_modules=FROZEN_MODULES[config.freeze],
    **settings,
  )
  augmentation = Augmentation(**config.augment.to_dict())
  augment = make_augmentation(augmentation, config.model.image_size, tuple(config.data.mean))
  loss = (
    masked_autoencoder_loss(graphdef, augment, mask_ratio=config.mae.mask_ratio)
    if pretraining
    else classification_loss(
      graphdef,
      augment,
      erase=make_erasing(augmentation),
      mix=make_mixup(MixupSettings(**config.mixing.to_dict())),
      label_smoothing=config.label_smoothing,
      freeze_backbone=freeze_backbone,
      affect_weight=config.affect_weight,
    )
  )
  build = state_builder(make_model, optimizer, ema=config.ema_decay > 0)
  step = make_train_step(
    loss,
    optimizer,
    accum_steps=config.accum_steps,
    ema_decay=config.ema_decay,
    schedule=schedule,
    peak_factors=factors,
  )
  program = Program.compile(
    build,
    step,
    mesh,
    split_update=config.mesh.split_update,
    float32_sum=config.mesh.gradient_sum == "float32",
  )
  return program, graphdef


def check_mesh(config: ConfigDict, devices: int) -> None:
  """Checks that the settings of the mesh go together and with the number of devices.

  Raises:
    ValueError: they do not.
  """
  parts = config.mesh.split_update
  if devices % parts:
    raise ValueError(f"mesh.split_update={parts} must divide the number of devices, {devices}")
  if config.mesh.fsdp > 1 and parts > 1:
    raise ValueError("mesh.fsdp already splits the update: leave mesh.split_update at 1")
  if config.mesh.fsdp > 1 and config.mesh.gradient_sum == "float32":
    raise ValueError("mesh.gradient_sum=float32 needs whole parameters: leave mesh.fsdp at 1")


def check_class_weights(config: ConfigDict, classes: int) -> None:
  """Checks that there is one class weight for each class.

  Raises:
    ValueError: the numbers differ.
  """
  weights = config.class_weights
  if weights and not isinstance(weights, str) and len(weights) != classes:
    raise ValueError(f"class_weights has {len(weights)} values, the dataset {classes} classes")


def check_batch(config: ConfigDict, devices: int) -> None:
  """Checks that the batch can be split over devices and accumulation steps.

  Raises:
    ValueError: it cannot; the message has the nearest batch size that can.
  """
  part = devices * config.accum_steps
  if config.batch_size % part:
    nearest = max(1, round(config.batch_size / part)) * part
    raise ValueError(
      f"batch_size={config.batch_size} cannot be divided over {devices} devices and "
      f"accum_steps={config.accum_steps}; the nearest that can is {nearest}"
    )
