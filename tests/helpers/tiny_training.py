"""A small training run for tests: a one-block ViT on random images."""

import functools
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from jax_me.data.augment.augmentation import Augmentation, make_augmentation, make_erasing
from jax_me.data.augment.mixup import MixupSettings, make_mixup
from jax_me.models.model_folder import split_model
from jax_me.models.registry import create_model
from jax_me.training.fold_run import Cadence
from jax_me.training.optim import make_optimizer
from jax_me.training.program import Program
from jax_me.training.state import RunParameters, state_builder
from jax_me.training.steps import classification_loss, make_train_step

SIZE, CLASSES = 16, 3
RUN_PARAMETERS = RunParameters(
  seed=3,
  mean=(0.5, 0.5, 0.5),
  std=(0.25, 0.25, 0.25),
  peak=1e-3,
  minimum=0.0,
  warmup_steps=2,
  total_steps=8,
)


_compilations: list[str] = []


def _record_compilation(event: str, duration: float, **_: object) -> None:
  del duration
  if event.endswith("backend_compile_duration"):
    _compilations.append(event)


jax.monitoring.register_event_duration_secs_listener(_record_compilation)


def count_compilations() -> int:
  """Number of XLA compilations of this process since the import of this module."""
  return len(_compilations)


def make_model(
  rngs: nnx.Rngs, drop_path_rate: float = 0.1, qkv_bias: bool = True, dtype: str = "float32"
) -> nnx.Module:
  return create_model(
    "vit_tiny_patch16",
    image_size=SIZE,
    patch_size=8,
    embed_dim=24,
    depth=1,
    num_heads=2,
    qkv_bias=qkv_bias,
    num_classes=CLASSES,
    drop_path_rate=drop_path_rate,
    dtype=jnp.dtype(dtype),
    rngs=rngs,
  )


def make_batch_norm_model(rngs: nnx.Rngs) -> nnx.Module:
  return create_model(
    "shallow_resnet",
    image_size=SIZE,
    widths=(4, 6),
    depths=(1, 1),
    num_classes=CLASSES,
    drop_rate=0.1,
    rngs=rngs,
  )


def make_program(
  mesh: Mesh,
  *,
  model: Callable[[nnx.Rngs], nnx.Module] | None = None,
  accum_steps: int = 1,
  ema: float = 0.0,
  augment: Augmentation | None = None,
  mixing: MixupSettings | None = None,
  drop_path_rate: float = 0.1,
  qkv_bias: bool = True,
  freeze_backbone: bool = False,
  dtype: str = "float32",
  **placement: Any,
) -> Program:
  make = model or functools.partial(
    make_model, drop_path_rate=drop_path_rate, qkv_bias=qkv_bias, dtype=dtype
  )
  graphdef, params, _ = split_model(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
  optimizer = make_optimizer(params, freeze_backbone=freeze_backbone)
  settings = augment or Augmentation(crop_scale=(0.5, 1.0), flip=0.5, brightness=0.2)
  loss = classification_loss(
    graphdef,
    make_augmentation(settings, SIZE),
    erase=make_erasing(settings),
    mix=make_mixup(mixing or MixupSettings()),
    freeze_backbone=freeze_backbone,
  )
  build = state_builder(make, optimizer, ema=ema > 0)
  step = make_train_step(loss, optimizer, accum_steps=accum_steps, ema_decay=ema)
  return Program.compile(build, step, mesh, **placement)


def make_batch(number: int, rows: int = 8) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(number)
  return {
    "image": rng.integers(0, 256, (rows, SIZE, SIZE, 3), np.uint8),
    "label": rng.integers(0, CLASSES, rows).astype(np.int32),
    "mask": np.ones(rows, bool),
    "index": np.arange(rows, dtype=np.int32),
  }


class Batches:
  """Endless random batches with a position, like those of the pipeline."""

  batch_size = 8

  def __init__(self, nan_batches: Collection[int] = ()):
    self.number = 0
    self.nan_batches = nan_batches

  def __next__(self):
    batch = make_batch(self.number)
    if self.number in self.nan_batches:
      batch["image"] = batch["image"].astype(np.float32) * np.nan
    self.number += 1
    return batch

  def get_state(self):
    return {"number": self.number}

  def set_state(self, state):
    self.number = state["number"]


def cadence(total: int, checkpoint: int = 4, evaluate: int = 0) -> Cadence:
  return Cadence(total=total, log=1, evaluate=evaluate, checkpoint=checkpoint, epoch=4.0)
