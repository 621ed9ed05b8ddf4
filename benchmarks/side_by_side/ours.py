"""Programs of jax_me: inference, and the training step of its own training loop."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.side_by_side.rows import Row
from benchmarks.side_by_side.side import Side
from jax_me.data.augment.augmentation import Augmentation, make_augmentation
from jax_me.models.batch_slices import cache_slices
from jax_me.models.flops import count_flops
from jax_me.models.model_folder import split_model
from jax_me.models.registry import create_abstract_model, default_arguments
from jax_me.training.optim import make_optimizer
from jax_me.training.state import RunParameters
from jax_me.training.steps import (
  classification_loss,
  make_train_step,
  masked_autoencoder_loss,
)


def build(row: Row, batch: int, dtype: str) -> Side:
  """Compiles the program of a row.

  Args:
    row: the work.
    batch: number of images.
    dtype: of the computation. Inference has its weights in it too; a training step has float32
      weights.

  Returns:
    The side; its images are random, and its weights have the magnitudes of initial ones.
  """
  return _inference(row, batch, dtype) if row.work == "inference" else _step(row, batch, dtype)


def _inference(row: Row, batch: int, dtype: str) -> Side:
  size = default_arguments(row.model)["image_size"]
  graphdef, abstract = nnx.split(create_abstract_model(row.model, dtype=dtype, param_dtype=dtype))
  state = _filled(abstract)
  images = jnp.asarray(np.random.default_rng(0).standard_normal((batch, size, size, 3)), dtype)

  def forward(state, images):
    with cache_slices():  # As `jax_me.models.classifier`, without its softmax.
      return nnx.merge(graphdef, state)(images)

  call, seconds, program = _compiled(jax.jit(forward), state, images)

  def run(calls: int) -> None:
    for _ in range(calls):
      logits = call(state, images)
    jax.block_until_ready(logits)

  return Side(run, _count(nnx.filter_state(abstract, nnx.Param)), seconds, program, call.as_text)


def _step(row: Row, batch: int, dtype: str) -> Side:
  size = default_arguments(row.model)["image_size"]
  graphdef, abstract, abstract_state = split_model(create_abstract_model(row.model, dtype=dtype))
  augment = make_augmentation(Augmentation(), size)
  if row.mask_ratio is None:
    loss, phase = classification_loss(graphdef, augment), "finetune"
  else:
    loss, phase = masked_autoencoder_loss(graphdef, augment, mask_ratio=row.mask_ratio), "pretrain"
  optimizer = make_optimizer(abstract, phase=phase)
  params = _filled(abstract)
  run_parameters = RunParameters(
    seed=0,
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
    peak=1e-5,
    minimum=0.0,
    warmup_steps=0,
    total_steps=1_000_000,
  )
  state = {
    "step": jnp.zeros((), jnp.int32),
    "params": params,
    "model_state": _filled(abstract_state),
    "opt_state": optimizer.init(params),
    "run_parameters": run_parameters.arrays(),
  }
  rng = np.random.default_rng(0)
  images = {
    "image": jnp.asarray(rng.integers(0, 256, (batch, size, size, 3), np.uint8)),
    "label": jnp.asarray(rng.integers(0, 1000, batch), jnp.int32),
    "mask": jnp.ones(batch),
  }
  step = jax.jit(make_train_step(loss, optimizer), donate_argnums=0)
  call, seconds, program = _compiled(step, state, images)

  def run(calls: int) -> None:
    nonlocal state
    for _ in range(calls):
      state, _ = call(state, images)
    jax.block_until_ready(state)

  return Side(run, _count(abstract), seconds, program, call.as_text)


def _compiled(function: Any, *arguments: Any) -> tuple[Any, float, dict[str, float]]:
  """(executable, seconds of tracing and compilation, facts about the program)."""
  started = time.perf_counter()
  traced = function.trace(*arguments)
  executable = traced.lower().compile()
  seconds = time.perf_counter() - started
  cost, memory = executable.cost_analysis() or {}, executable.memory_analysis()
  program = {
    "product_flops": count_flops(traced.jaxpr),
    "xla_flops": cost.get("flops", 0.0),
    "xla_bytes_accessed": cost.get("bytes accessed", 0.0),
    "argument_bytes": memory.argument_size_in_bytes,
    "temporary_bytes": memory.temp_size_in_bytes,
    # Donated arguments are counted once.
    "peak_bytes": memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes,
  }
  return executable, seconds, program


def _filled(tree: Any) -> Any:
  """Random arrays for the shapes of a tree: kernels from N(0, 0.02^2), scales 1, biases 0.

  The initialisers of the models would take longer to compile than the program itself.
  """
  rng = np.random.default_rng(0)

  def fill(path, leaf):
    if leaf.ndim > 1:
      value = 0.02 * rng.standard_normal(leaf.shape, np.float32)
    else:
      value = np.full(leaf.shape, "scale" in jax.tree_util.keystr(path))
    return jnp.asarray(value, leaf.dtype)

  return jax.tree_util.tree_map_with_path(fill, tree)


def _count(tree: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(tree))
