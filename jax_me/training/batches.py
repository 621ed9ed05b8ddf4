"""Training batches in the form that a program takes: of one fold, or of several at once."""

from collections.abc import Collection, Sequence
from typing import Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from jax_me.data.sampling import ShuffledSampler
from jax_me.training.checkpoint import JsonValue
from jax_me.training.fold_program import BLOCK, FoldProgram
from jax_me.training.sharding import batch_sharding, shard_batch


class ResumableIterator(Protocol):
  """Endless batches of NumPy arrays; the position in the data is a JSON value."""

  batch_size: int

  def __next__(self) -> dict[str, np.ndarray]: ...
  def get_state(self) -> JsonValue: ...
  def set_state(self, state: JsonValue) -> None: ...


class ImageBatches:
  """Batches of one fold: this process's rows of each batch, put on its devices.

  Attributes:
    batch_size: images per step, over all processes.
  """

  def __init__(self, iterator: ResumableIterator, mesh: Mesh):
    self._iterator, self._mesh = iterator, mesh
    self.batch_size = iterator.batch_size

  def take(self, step: int, counts: np.ndarray, stop: bool) -> dict[str, jax.Array]:
    """The next batch.

    Args:
      step: finished steps; the iterator has a position of its own.
      counts: [1] the number of steps, 1.
      stop: whether this process wants to stop; with several, the step combines their requests.

    Returns:
      global arrays, split over all devices.
    """
    del step
    assert counts.tolist() == [1]
    batch = next(self._iterator)
    if jax.process_count() > 1:
      batch = {**batch, "stop": np.full(len(batch["image"]), stop)}
    return shard_batch(batch, self._mesh)

  def position(self, diverged: Collection[str]) -> JsonValue:
    """The position in the data, for a checkpoint. A fold alone rolls back when it diverges."""
    assert not diverged
    return self._iterator.get_state()

  def go_to(self, position: JsonValue) -> frozenset[str]:
    """Continues at the position in a checkpoint; gives the folds that do not continue: none."""
    self._iterator.set_state(position)
    return frozenset()


class FoldBatches:
  """Batches of several folds: positions of examples, as the images are on the devices already.

  Attributes:
    batch_size: examples per step and fold.
  """

  def __init__(self, samplers: Sequence[ShuffledSampler], batch_size: int, program: FoldProgram):
    """Order of the examples.

    Args:
      samplers: order of the training examples of each fold.
      batch_size: examples per step and fold.
      program: of the folds.
    """
    self._samplers, self._rows = samplers, program.rows
    self._sharding = batch_sharding(program.mesh)
    self.batch_size = batch_size

  def take(self, step: int, counts: np.ndarray, stop: bool) -> tuple[jax.Array, jax.Array]:
    """The batches of the next steps.

    Args:
      step: finished steps.
      counts: [folds] steps of each fold, at most BLOCK.
      stop: unused, as there is one process.

    Returns:
      positions of the examples [rows, BLOCK, B], -1 beyond a fold's steps, and steps [rows].
    """
    del stop
    size = self.batch_size
    indices = np.full((self._rows, BLOCK, size), -1, np.int32)
    steps = np.zeros(self._rows, np.int32)
    steps[: len(counts)] = counts
    for row, (sampler, count) in enumerate(zip(self._samplers, counts, strict=True)):
      indices[row, :count] = sampler.at(step * size, count * size).reshape(count, size)
    return jax.device_put((indices, steps), self._sharding)

  def position(self, diverged: Collection[str]) -> JsonValue:
    """The names of the folds that diverged, for a checkpoint; its step gives the positions."""
    return sorted(diverged)

  def go_to(self, position: JsonValue) -> frozenset[str]:
    """The names of the folds that do not continue."""
    return frozenset(position)


TrainingBatches = ImageBatches | FoldBatches
