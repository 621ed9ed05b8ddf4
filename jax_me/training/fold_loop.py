"""Trains a chunk of folds in one program: the same numbers as `loop.train` on each of them.

Batches, keys, schedules and skipped steps are those of the fold alone, and so are the rows of its
metrics.jsonl. Folds differ in their number of steps: one that is done stands still while the others
go on. A fold whose numbers stop being finite for too long is left to `loop.train`, which goes back
to checkpoints; here one fold cannot go back while the others go on.
"""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jax_me.data.sampling import ShuffledSampler
from jax_me.files import write_atomically
from jax_me.training.checkpoint import Checkpoints
from jax_me.training.fold_program import BLOCK, FoldProgram
from jax_me.training.graceful_shutdown import StopSignal
from jax_me.training.logging.metrics_log import Progress, Tracker
from jax_me.training.loop import SKIPPED_IN_A_ROW, Cadence, metrics_row
from jax_me.training.sharding import batch_sharding
from jax_me.training.state import Constants, State, initial_key
from jax_me.training.steps import Metrics

CHUNK_FILE = "chunk.json"
# A block of steps is to take about this long: then a signal is answered, and the bar moves.
BLOCK_SECONDS = 2.0

# (state, {row: step} of the folds to judge) -> {row: scalars for its log}
FoldEvaluator = Callable[[State, Mapping[int, int]], Mapping[int, Mapping[str, float]]]


@dataclasses.dataclass(frozen=True)
class FoldRun:
  """One fold of a chunk.

  Attributes:
    name: the fold's.
    home: its folder.
    order: in which it sees its training examples.
    constants: statistics and schedule, from its training side.
    cadence: how often things happen.
  """

  name: str
  home: pathlib.Path
  order: ShuffledSampler
  constants: Constants
  cadence: Cadence


@dataclasses.dataclass
class ChunkResult:
  """Where a chunk ended: its state, whether a signal stopped it, and folds to be trained alone."""

  state: State
  interrupted: bool
  left: frozenset[str]


def train_chunk(
  program: FoldProgram,
  runs: Sequence[FoldRun],
  *,
  images: jax.Array,
  columns: dict[str, jax.Array],
  batch_size: int,
  folder: pathlib.Path,
  fresh: Callable[[jax.Array], State],
  evaluator: FoldEvaluator,
  progress: Progress,
  stop: StopSignal,
) -> ChunkResult:
  """Trains up to `program.rows` folds, from the checkpoint of the same folds if there is one.

  Args:
    program: compiled for these images and this batch size.
    runs: the folds; row i of the state is runs[i].
    images, columns: of all folds, on every device, see `compile_folds`.
    batch_size: examples a step and fold.
    folder: of the chunk's checkpoints; the caller removes it when the chunk's results are kept.
    fresh: PRNG key -> state of one fold before its first step.
    evaluator: judges some folds of the chunk.
    progress: counts the steps of the longest fold.
    stop: asked after every block of steps.

  Raises:
    CheckpointError: a checkpoint cannot be written or read.
  """
  identity = _identity(program, runs, batch_size)
  path = folder / CHUNK_FILE
  if folder.is_dir() and (not path.exists() or json.loads(path.read_text()) != identity):
    shutil.rmtree(folder)  # Of other folds, or of another number of devices.
  folder.mkdir(parents=True, exist_ok=True)
  write_atomically(path, json.dumps(identity).encode())
  checkpoints = Checkpoints(folder, keep=1)
  constants = [run.constants for run in runs]
  step, left = checkpoints.latest_step() or 0, frozenset[str]()
  if step:
    state, position = checkpoints.restore(program.abstract())
    state["constants"] = program.place(constants)
    left = frozenset(position)
  else:
    state = program.spread(fresh(initial_key(runs[0].constants.seed)), constants)
  trackers = [Tracker(run.home, resume_step=min(step, run.cadence.total)) for run in runs]
  if step:
    progress.say(f"{len(runs)} folds: resumed at step {step}")
    progress.skip(step)
  try:
    chunk = _Chunk(program, runs, images, columns, batch_size, trackers, progress, left)
    while step < chunk.total and stop.received is None:
      count = chunk.steps_from(step)
      state = chunk.advance(state, step, count)
      step += count
      due = chunk.due_for_evaluation(step)
      saving = step < chunk.total and chunk.saves(step)
      if due or saving:
        chunk.note_pending()
      if due:
        chunk.write(evaluator(state, due), due)
      if saving:
        checkpoints.save(state, sorted(chunk.left))
    chunk.note_pending()
    if step < chunk.total:
      checkpoints.save(state, sorted(chunk.left))
    checkpoints.wait()
  finally:
    for tracker in trackers:
      tracker.close()
    checkpoints.close()
  return ChunkResult(state, interrupted=step < chunk.total, left=frozenset(chunk.left))


def begun(folder: pathlib.Path) -> tuple[list[str], int]:
  """The folds and rows of a chunk that was begun; ([], 0) where there is none or it is damaged."""
  try:
    identity = json.loads((folder / CHUNK_FILE).read_text())
    return [str(name) for name in identity["folds"]], int(identity["rows"])
  except (OSError, ValueError, KeyError, TypeError):
    return [], 0


def _identity(program: FoldProgram, runs: Sequence[FoldRun], batch_size: int) -> dict[str, Any]:
  """What must be equal for a chunk's checkpoint to be of use."""
  digest = hashlib.sha256(str(batch_size).encode())
  for run in runs:
    digest.update(f"{run.name} {run.order.state_name} {run.order.seed}".encode())
    digest.update(run.order.indices.tobytes())
  return {"folds": [run.name for run in runs], "rows": program.rows, "order": digest.hexdigest()}


class _Chunk:
  """The folds of one call of `train_chunk`."""

  def __init__(
    self,
    program: FoldProgram,
    runs: Sequence[FoldRun],
    images: jax.Array,
    columns: dict[str, jax.Array],
    batch_size: int,
    trackers: Sequence[Tracker],
    progress: Progress,
    left: frozenset[str],
  ):
    self._program, self._runs, self._trackers = program, runs, trackers
    self._images, self._columns, self._batch_size = images, columns, batch_size
    self._progress = progress
    self._sharding = batch_sharding(program.mesh)
    self._pending: tuple[int, np.ndarray, Metrics] | None = None
    self._skipped = [0] * len(runs)
    self._block = 1
    self._mark = time.monotonic()
    self.left = set(left)

  @property
  def total(self) -> int:
    """Steps of the longest fold that is still trained here."""
    return max((run.cadence.total for run in self._runs if run.name not in self.left), default=0)

  def steps_from(self, step: int) -> int:
    """How many steps to go before something is due, at most a block."""
    ahead = 1
    while ahead < min(self._block, self.total - step):
      if self.due_for_evaluation(step + ahead) or self.saves(step + ahead):
        break
      ahead += 1
    return ahead

  def due_for_evaluation(self, step: int) -> dict[int, int]:
    return {
      row: step
      for row, run in enumerate(self._runs)
      if run.name not in self.left and step <= run.cadence.total and run.cadence.evaluates(step)
    }

  def saves(self, step: int) -> bool:
    every = self._runs[0].cadence.checkpoint
    return every > 0 and step % every == 0 and not any(self._skipped)

  def advance(self, state: State, step: int, count: int) -> State:
    """Sends the next `count` batches; reads the metrics of the block before meanwhile."""
    size = self._batch_size
    indices = np.full((self._program.rows, BLOCK, size), -1, np.int32)
    counts = np.zeros(self._program.rows, np.int32)
    for row, run in enumerate(self._runs):
      own = 0 if run.name in self.left else min(count, max(run.cadence.total - step, 0))
      indices[row, :own] = run.order.at(step * size, own * size).reshape(own, size)
      counts[row] = own
    state, metrics = self._program.advance(
      state, self._images, self._columns, *jax.device_put((indices, counts), self._sharding)
    )
    previous, self._pending = self._pending, (step, counts, metrics)
    if previous is not None:
      self._note(previous)
    return state

  def write(self, scores: Mapping[int, Mapping[str, float]], steps: Mapping[int, int]) -> None:
    """Logs what the evaluator found; its time does not count as training's."""
    for row, values in scores.items():
      epoch = steps[row] / self._runs[row].cadence.epoch
      self._trackers[row].write(steps[row], {"epoch": epoch, **values})
    self._mark = time.monotonic()

  def note_pending(self) -> None:
    pending, self._pending = self._pending, None
    if pending is not None:
      self._note(pending)

  def _note(self, pending: tuple[int, np.ndarray, Metrics]) -> None:
    step, counts, metrics = pending
    values = {name: np.asarray(value) for name, value in jax.device_get(metrics).items()}
    now = time.monotonic()
    seconds = max((now - self._mark) / counts.max(), 1e-9)
    self._block = int(np.clip(BLOCK_SECONDS / seconds, 1, BLOCK))
    self._mark = now
    rate = self._batch_size / seconds
    for row, run in enumerate(self._runs):
      for number in range(counts[row]):
        if run.name not in self.left:
          one = {name: float(value[row, number]) for name, value in values.items()}
          self._note_step(row, step + number + 1, one, rate)
    losses = values["loss"][: len(self._runs)][counts[: len(self._runs)] > 0, 0]
    facts = {
      "loss": f"{np.nanmean(losses):.4f}",
      "images/s": f"{rate * np.count_nonzero(counts):.1f}",
    }
    for _ in range(counts.max()):
      self._progress.advance(facts)

  def _note_step(self, row: int, step: int, values: dict[str, float], rate: float) -> None:
    """Logs one step of one fold as `loop.train` does."""
    run, tracker = self._runs[row], self._trackers[row]
    if values.pop("skipped"):
      self._skipped[row] += 1
      tracker.write(step, {"epoch": step / run.cadence.epoch, "skipped": self._skipped[row]})
      if self._skipped[row] >= SKIPPED_IN_A_ROW:
        self._skipped[row] = 0
        self.left.add(run.name)
        self._progress.say(
          f"{run.name}: {SKIPPED_IN_A_ROW} steps in a row up to {step} were not finite; this fold "
          "will be trained alone, after the others"
        )
      return
    self._skipped[row] = 0
    if run.cadence.due(run.cadence.log, step):
      tracker.write(step, metrics_row(values, step / run.cadence.epoch, rate))
