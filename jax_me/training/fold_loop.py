"""Training loop for a chunk of folds in one program, with the results of `loop.train` on each.

Batches, PRNG keys, schedules, skipped steps and the rows of metrics.jsonl are those of a fold that
is trained alone. Folds differ in their number of steps: a finished fold does not change while the
others continue. A fold with too many non-finite steps in a row is left to `loop.train`, which can
roll back to a checkpoint; here, one fold cannot roll back while the others continue.
"""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from jax_me.data.sampling import ShuffledSampler
from jax_me.files import write_atomically
from jax_me.training.checkpoint import Checkpoints, JsonValue
from jax_me.training.fold_program import BLOCK, FoldProgram
from jax_me.training.graceful_shutdown import StopSignal
from jax_me.training.logging.metrics_log import Progress, Tracker
from jax_me.training.loop import SKIPPED_IN_A_ROW, Cadence, metrics_row
from jax_me.training.sharding import batch_sharding
from jax_me.training.state import RunParameters, State, initial_key
from jax_me.training.steps import Metrics

CHUNK_FILE = "chunk.json"
# Target duration of a block of steps; signals and the progress bar are handled between blocks.
BLOCK_SECONDS = 2.0

# (state, {row: step} of the folds to evaluate) -> {row: scalars for its log}
FoldEvaluator = Callable[[State, Mapping[int, int]], Mapping[int, Mapping[str, float]]]


@dataclasses.dataclass(frozen=True)
class FoldRun:
  """One fold of a chunk.

  Attributes:
    name: of the fold.
    workdir: its folder.
    sampler: order of its training examples.
    run_parameters: statistics and schedule, from its training examples.
    cadence: number of steps, and intervals.
  """

  name: str
  workdir: pathlib.Path
  sampler: ShuffledSampler
  run_parameters: RunParameters
  cadence: Cadence


@dataclasses.dataclass
class ChunkResult:
  """Final state of a chunk.

  Attributes:
    state: of all its folds.
    interrupted: whether a signal stopped it.
    diverged: names of the folds with too many non-finite steps, to be trained alone.
  """

  state: State
  interrupted: bool
  diverged: frozenset[str]


def train_chunk(
  program: FoldProgram,
  runs: Sequence[FoldRun],
  *,
  images: jax.Array,
  columns: dict[str, jax.Array],
  batch_size: int,
  folder: pathlib.Path,
  create_state: Callable[[jax.Array], State],
  evaluator: FoldEvaluator,
  progress: Progress,
  stop: StopSignal,
) -> ChunkResult:
  """Trains up to `program.rows` folds, from the checkpoint of the same folds if there is one.

  Args:
    program: compiled for these images and this batch size.
    runs: the folds; row i of the state is runs[i].
    images: of all folds, on every device, see `compile_folds`.
    columns: labels and targets of all folds, see `compile_folds`.
    batch_size: examples per step and fold.
    folder: of the chunk's checkpoints; the caller removes it (`remove_chunk`) when the chunk's
      results are saved.
    create_state: PRNG key -> state of one fold before its first step.
    evaluator: evaluates some folds of the chunk.
    progress: counts the steps of the longest fold.
    stop: checked after every block of steps.

  Returns:
    the final state.

  Raises:
    CheckpointError: a checkpoint cannot be written or read.
  """
  fingerprint = _fingerprint(program, runs, batch_size)
  path = folder / CHUNK_FILE
  if not path.exists() or json.loads(path.read_text()) != fingerprint:
    remove_chunk(folder)  # Of other folds, or of another number of devices.
  folder.mkdir(parents=True, exist_ok=True)
  write_atomically(path, json.dumps(fingerprint).encode())
  checkpoints = Checkpoints(folder, keep=1)
  run_parameters = [run.run_parameters for run in runs]
  step, diverged = checkpoints.latest_step() or 0, frozenset[str]()
  if step:
    state, position = checkpoints.restore(program.abstract_state())
    state["run_parameters"] = program.put_run_parameters(run_parameters)
    diverged = frozenset(position)
  else:
    state = program.repeat_state(
      create_state(initial_key(runs[0].run_parameters.seed)), run_parameters
    )
  trackers = [Tracker(run.workdir, resume_step=min(step, run.cadence.total)) for run in runs]
  if step:
    progress.print_line(f"{len(runs)} folds: resumed at step {step}")
    progress.skip(step)
  try:
    chunk = _Chunk(program, runs, images, columns, batch_size, trackers, progress, diverged)
    while step < chunk.total and stop.received is None:
      count = chunk.block_length(step)
      state = chunk.advance(state, step, count)
      step += count
      due = chunk.due_for_evaluation(step)
      saving = step < chunk.total and chunk.saves(step)
      if due or saving:
        chunk.log_pending()
      if due:
        chunk.log_scores(evaluator(state, due), due)
      if saving:
        checkpoints.save(state, sorted(chunk.diverged))
    chunk.log_pending()
    if step < chunk.total:
      checkpoints.save(state, sorted(chunk.diverged))
    checkpoints.wait()
  finally:
    for tracker in trackers:
      tracker.close()
    checkpoints.close()
  return ChunkResult(state, interrupted=step < chunk.total, diverged=frozenset(chunk.diverged))


def unfinished_chunk(folder: pathlib.Path) -> tuple[list[str], int]:
  """Names of the folds and number of rows of an unfinished chunk; ([], 0) if there is none."""
  try:
    fingerprint = json.loads((folder / CHUNK_FILE).read_text())
    return [str(name) for name in fingerprint["folds"]], int(fingerprint["rows"])
  except (OSError, ValueError, KeyError, TypeError):
    return [], 0


def remove_chunk(folder: pathlib.Path) -> None:
  """Removes the folder of a chunk, in one step as seen by other processes and later runs.

  A run that is killed during the removal leaves no folder with only some of its files, whose
  checkpoints and CHUNK_FILE would not belong together.
  """
  removed = folder.with_name(f".{folder.name}.removed")
  shutil.rmtree(removed, ignore_errors=True)  # Of a run that was killed during the removal.
  if folder.is_dir():
    folder.rename(removed)
    shutil.rmtree(removed)


def _fingerprint(
  program: FoldProgram, runs: Sequence[FoldRun], batch_size: int
) -> dict[str, JsonValue]:
  """Values that must be equal to continue from a chunk's checkpoint."""
  digest = hashlib.sha256(str(batch_size).encode())
  for run in runs:
    digest.update(f"{run.name} {run.sampler.state_name} {run.sampler.seed}".encode())
    digest.update(run.sampler.indices.tobytes())
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
    diverged: frozenset[str],
  ):
    self._program, self._runs, self._trackers = program, runs, trackers
    self._images, self._columns, self._batch_size = images, columns, batch_size
    self._progress = progress
    self._sharding = batch_sharding(program.mesh)
    self._pending: tuple[int, np.ndarray, Metrics] | None = None
    self._skipped = [0] * len(runs)
    self._block = 1
    self._last_time = time.monotonic()
    self.diverged = set(diverged)

  @property
  def total(self) -> int:
    """Steps of the longest fold that has not diverged."""
    return max(
      (run.cadence.total for run in self._runs if run.name not in self.diverged), default=0
    )

  def block_length(self, step: int) -> int:
    """Number of steps until an evaluation or a checkpoint is due, at most a block."""
    ahead = 1
    while ahead < min(self._block, self.total - step):
      if self.due_for_evaluation(step + ahead) or self.saves(step + ahead):
        break
      ahead += 1
    return ahead

  def due_for_evaluation(self, step: int) -> dict[int, int]:
    """{row: step} of the folds to evaluate."""
    return {
      row: step
      for row, run in enumerate(self._runs)
      if run.name not in self.diverged and step <= run.cadence.total and run.cadence.evaluates(step)
    }

  def saves(self, step: int) -> bool:
    """Whether a checkpoint is due."""
    every = self._runs[0].cadence.checkpoint
    return every > 0 and step % every == 0 and not any(self._skipped)

  def advance(self, state: State, step: int, count: int) -> State:
    """Starts the next `count` steps; reads the metrics of the previous block meanwhile."""
    size = self._batch_size
    indices = np.full((self._program.rows, BLOCK, size), -1, np.int32)
    counts = np.zeros(self._program.rows, np.int32)
    for row, run in enumerate(self._runs):
      steps = 0 if run.name in self.diverged else min(count, max(run.cadence.total - step, 0))
      indices[row, :steps] = run.sampler.at(step * size, steps * size).reshape(steps, size)
      counts[row] = steps
    state, metrics = self._program.advance(
      state, self._images, self._columns, *jax.device_put((indices, counts), self._sharding)
    )
    previous, self._pending = self._pending, (step, counts, metrics)
    if previous is not None:
      self._log_block(previous)
    return state

  def log_scores(self, scores: Mapping[int, Mapping[str, float]], steps: Mapping[int, int]) -> None:
    """Logs scores; the time of the evaluation is not part of the training rate."""
    for row, values in scores.items():
      epoch = steps[row] / self._runs[row].cadence.epoch
      self._trackers[row].write(steps[row], {"epoch": epoch, **values})
    self._last_time = time.monotonic()

  def log_pending(self) -> None:
    """Logs the metrics of the last block, if not yet done."""
    pending, self._pending = self._pending, None
    if pending is not None:
      self._log_block(pending)

  def _log_block(self, pending: tuple[int, np.ndarray, Metrics]) -> None:
    step, counts, metrics = pending
    values = {name: np.asarray(value) for name, value in jax.device_get(metrics).items()}
    now = time.monotonic()
    seconds = max((now - self._last_time) / counts.max(), 1e-9)
    self._block = int(np.clip(BLOCK_SECONDS / seconds, 1, BLOCK))
    self._last_time = now
    rate = self._batch_size / seconds
    for row, run in enumerate(self._runs):
      for number in range(counts[row]):
        if run.name not in self.diverged:
          scalars = {name: float(value[row, number]) for name, value in values.items()}
          self._log_fold_step(row, step + number + 1, scalars, rate)
    losses = values["loss"][: len(self._runs)][counts[: len(self._runs)] > 0, 0]
    displayed = {
      "loss": f"{np.nanmean(losses):.4f}",
      "images/s": f"{rate * np.count_nonzero(counts):.1f}",
    }
    for _ in range(counts.max()):
      self._progress.advance(displayed)

  def _log_fold_step(self, row: int, step: int, values: dict[str, float], rate: float) -> None:
    """Logs one step of one fold as `loop.train` does."""
    run, tracker = self._runs[row], self._trackers[row]
    if values.pop("skipped"):
      self._skipped[row] += 1
      tracker.write(step, {"epoch": step / run.cadence.epoch, "skipped": self._skipped[row]})
      if self._skipped[row] >= SKIPPED_IN_A_ROW:
        self._skipped[row] = 0
        self.diverged.add(run.name)
        self._progress.print_line(
          f"{run.name}: {SKIPPED_IN_A_ROW} steps in a row up to {step} were not finite; this fold "
          "will be trained alone, after the others"
        )
      return
    self._skipped[row] = 0
    if run.cadence.due(run.cadence.log, step):
      tracker.write(step, metrics_row(values, step / run.cadence.epoch, rate))
