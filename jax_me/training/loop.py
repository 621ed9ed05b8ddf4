"""Training loop. Tasks differ in the step function and the evaluator passed to it."""

import collections
import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import jax
import numpy as np

from jax_me.training.checkpoint import Checkpoints, JsonValue
from jax_me.training.graceful_shutdown import StopSignal
from jax_me.training.logging.metrics_log import NullLog, Progress, Tracker, Writer
from jax_me.training.processes import is_writer
from jax_me.training.program import Program
from jax_me.training.sharding import shard_batch
from jax_me.training.state import RunParameters, State, abstract_state, initial_key
from jax_me.training.steps import Metrics
from jax_me.training.utilisation import Utilisation

# A single step may overflow in bfloat16; training does not recover from this many in a row.
SKIPPED_IN_A_ROW = 5
# Rollbacks to the last checkpoint before the run fails.
ROLLBACKS = 3


class TrainingDiverged(RuntimeError):
  """The loss or the gradient stopped being a finite number, and did not recover."""


class ResumableIterator(Protocol):
  """Endless batches of NumPy arrays; the position in the data is a JSON value."""

  def __next__(self) -> dict[str, np.ndarray]: ...
  def get_state(self) -> JsonValue: ...
  def set_state(self, state: JsonValue) -> None: ...


# (state, step) -> scalars for the log, with names such as "test/uf1"
Evaluator = Callable[[State, int], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Cadence:
  """Intervals of logging, evaluation and checkpoints in steps. Each is also due at the last step.

  Attributes:
    total: steps of the whole run.
    log: between rows of metrics.
    evaluate: between evaluations; 0 means only at the end.
    checkpoint: between checkpoints.
    epoch: steps of one pass over the training examples (may be fractional; for display).
  """

  total: int
  log: int
  evaluate: int
  checkpoint: int
  epoch: float

  def due(self, every: int, step: int) -> bool:
    """Whether something with this interval is due after `step`."""
    return step == self.total or (every > 0 and step % every == 0)

  def evaluates(self, step: int) -> bool:
    """Whether an evaluation is due; none shortly before the one at the end."""
    near_the_end = 0 < self.total - step < self.evaluate / 2
    return self.due(self.evaluate, step) and not near_the_end


@dataclasses.dataclass
class TrainingResult:
  """Final state, its step, and whether a signal stopped the run early."""

  state: State
  step: int
  interrupted: bool


def train(
  program: Program,
  *,
  batches: ResumableIterator,
  run_parameters: RunParameters,
  cadence: Cadence,
  workdir: pathlib.Path,
  evaluator: Evaluator | None = None,
  initialise: Callable[[State], State] | None = None,
  keep_checkpoints: int = 2,
  make_writers: Callable[[int], Sequence[Writer]] | None = None,
  description: str = "training",
) -> TrainingResult:
  """Trains to `cadence.total` steps, from the newest checkpoint of `workdir` if there is one.

  Evaluation and checkpoint of a step precede reading the next batch, so a checkpoint's data
  position is that of its step. A step that is not finite is not applied; after SKIPPED_IN_A_ROW of
  them the run rolls back to its last checkpoint.

  Args:
    program: jitted functions.
    batches: of this process.
    run_parameters: statistics and learning-rate schedule of this run.
    cadence: number of steps, and intervals.
    workdir: folder of the checkpoints and the log.
    evaluator: called when an evaluation is due; its scalars are logged.
    initialise: changes a fresh state, for example to pre-trained weights; not called on resuming.
    keep_checkpoints: number of checkpoints to keep.
    make_writers: step to resume from -> writers of learning curves; called in one process only.
    description: name of the run in messages.

  Returns:
    the final state.

  Raises:
    TrainingDiverged: there is no checkpoint to roll back to, or rolling back did not help.
    CheckpointError: a checkpoint cannot be written or read.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  checkpoints = Checkpoints(workdir, keep=keep_checkpoints)
  resume_step = checkpoints.latest_step() or 0
  if checkpoints.latest_step() is not None:
    state, position = checkpoints.restore(abstract_state(program.build, program.mesh))
    batches.set_state(position)
  else:
    state = program.create(initial_key(run_parameters.seed))
    if initialise is not None:
      state = initialise(state)
  state["run_parameters"] = program.put_run_parameters(run_parameters)

  tracker: Tracker | NullLog = NullLog()
  progress: Progress | NullLog = NullLog()
  if is_writer():
    writers = make_writers(resume_step) if make_writers else ()
    tracker = Tracker(workdir, resume_step=resume_step, writers=writers)
    progress = Progress(cadence.total, start=resume_step, description=description)
  if resume_step:
    progress.print_line(f"{description}: resumed at step {resume_step} of {cadence.total}")
  try:
    with StopSignal() as stop:
      run = _TrainingRun(
        program, run_parameters, batches, cadence, checkpoints, tracker, progress, stop
      )
      state, step = run.run_to_end(state, evaluator)
      checkpoints.wait()
  finally:
    progress.close()
    tracker.close()
    checkpoints.close()
  return TrainingResult(state=state, step=step, interrupted=run.stopping and step < cadence.total)


def metrics_row(values: Mapping[str, float], epoch: float, rate: float) -> dict[str, float]:
  """A row of metrics.jsonl.

  Args:
    values: metrics of the step function, without `skipped`.
    epoch: finished epochs, may be fractional.
    rate: images per second.

  Returns:
    {column: value}.
  """
  rest = dict(values)
  return {
    "epoch": epoch,
    "learning_rate": rest.pop("learning_rate"),
    "grad_norm": rest.pop("grad_norm"),
    **{f"train/{key}": value for key, value in rest.items()},
    "images_per_second": rate,
  }


class _RollBackNeeded(Exception):
  """Raised after too many steps in a row that were not finite."""


class _TrainingRun:
  """The steps of one call of `train`."""

  def __init__(
    self,
    program: Program,
    run_parameters: RunParameters,
    batches: ResumableIterator,
    cadence: Cadence,
    checkpoints: Checkpoints,
    tracker: Tracker | NullLog,
    progress: Progress | NullLog,
    stop: StopSignal,
  ):
    self._program, self._constants = program, run_parameters
    self._batches, self._cadence, self._checkpoints = batches, cadence, checkpoints
    self._tracker, self._progress, self._stop = tracker, progress, stop
    self._meter = _ThroughputMeter()
    self._utilisation = Utilisation(program.mesh)
    self._pending: tuple[int, Metrics] | None = None
    self._skipped = 0  # Consecutive skipped steps, up to the last whose metrics were read.
    self._rollbacks = 0
    self._stop_requested = False

  @property
  def stopping(self) -> bool:
    """Whether to end early. Several processes must agree, so the step combines their requests."""
    if jax.process_count() > 1:
      return self._stop_requested
    return self._stop.received is not None

  def run_to_end(self, state: State, evaluator: Evaluator | None) -> tuple[State, int]:
    """Trains to the last step, with rollbacks when the loss stops being finite."""
    while True:
      try:
        return self._run_steps(state, evaluator)
      except _RollBackNeeded:
        state = self._roll_back()

  def _run_steps(self, state: State, evaluator: Evaluator | None) -> tuple[State, int]:
    cadence, step = self._cadence, int(state["step"])
    while step < cadence.total and not self.stopping:
      batch = next(self._batches)
      sharded = self._shard(batch)
      self._utilisation.count_step(self._program.step, state, sharded)
      state, metrics = self._program.step(state, sharded)
      step += 1
      # The previous step's metrics are read while this one runs, so the device never waits.
      previous, self._pending = self._pending, (step, metrics)
      if previous is not None:
        self._log_step(previous)
      self._meter.count(len(sharded["image"]))  # Images of all processes.
      evaluate = evaluator if cadence.evaluates(step) else None
      saving = cadence.due(cadence.checkpoint, step)
      if evaluate is not None or saving:
        # A state must be checked to be finite before it is evaluated or saved.
        self._log_pending()
      if evaluate is not None:
        with self._meter.paused():
          scores = dict(evaluate(state, step))
        if scores:
          self._tracker.write(step, {"epoch": step / cadence.epoch, **scores})
          formatted = "  ".join(f"{k} {v:.4f}" for k, v in scores.items())
          self._progress.print_line(f"step {step}: {formatted}")
      # While steps are being skipped, the checkpoint before them must stay the newest.
      if saving and not (self._skipped and step < cadence.total):
        self._save(state)
    self._log_pending()
    if self.stopping:
      self._save(state)
    return state, step

  def _shard(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    if jax.process_count() > 1:
      requested = self._stop.received is not None
      batch = {**batch, "stop": np.full(len(batch["image"]), requested)}
    return shard_batch(batch, self._program.mesh)

  def _save(self, state: State) -> None:
    with self._meter.paused():
      self._checkpoints.save(state, self._batches.get_state())

  def _log_pending(self) -> None:
    pending, self._pending = self._pending, None
    if pending is not None:
      self._log_step(pending)

  def _log_step(self, pending: tuple[int, Metrics]) -> None:
    """Reads a step's metrics from the device and logs them.

    Raises:
      _RollBackNeeded: the last SKIPPED_IN_A_ROW steps were not applied.
    """
    step, metrics = pending
    values = {key: float(value) for key, value in jax.device_get(metrics).items()}
    self._stop_requested |= bool(values.pop("stop", False))
    epoch = step / self._cadence.epoch
    if values.pop("skipped"):
      self._skipped += 1
      self._progress.print_line(
        f"step {step}: loss {values['loss']}, gradient norm {values['grad_norm']}; the step was "
        f"not applied ({self._skipped} in a row)"
      )
      self._tracker.write(step, {"epoch": epoch, "skipped": self._skipped})
      if self._skipped >= SKIPPED_IN_A_ROW:
        raise _RollBackNeeded
      self._progress.advance({})
      return
    self._skipped = 0
    rate = self._meter.images_per_second()
    self._progress.advance({"loss": f"{values['loss']:.4f}", "images/s": f"{rate:.1f}"})
    if self._cadence.due(self._cadence.log, step):
      row = metrics_row(values, epoch, rate)
      self._tracker.write(step, {**row, **self._utilisation.metrics(rate)})

  def _roll_back(self) -> State:
    """The state of the last checkpoint. The data continues after the examples that failed.

    Raises:
      TrainingDiverged: there is no checkpoint, or rolling back did not help.
    """
    self._pending = None
    self._checkpoints.wait()
    latest = self._checkpoints.latest_step()
    self._rollbacks += 1
    if latest is None or self._rollbacks > ROLLBACKS:
      remedy = "Try a lower learning rate, optimizer.clip_norm, or precision=float32"
      if latest is None:
        raise TrainingDiverged(
          f"{self._skipped} steps in a row were not finite, and there is no checkpoint to go back "
          f"to. {remedy}"
        )
      raise TrainingDiverged(
        f"{self._skipped} steps in a row were not finite, again after going back "
        f"{ROLLBACKS} times. The last checkpoint is step {latest}. {remedy}"
      )
    self._progress.print_line(
      f"{self._skipped} steps in a row were not finite: going back to the checkpoint of step "
      f"{latest} and continuing with the next examples"
    )
    self._skipped = 0
    self._tracker.rewind(latest)
    self._progress.rewind(latest)
    state, _ = self._checkpoints.restore(abstract_state(self._program.build, self._program.mesh))
    state["run_parameters"] = self._program.put_run_parameters(self._constants)
    return state


class _ThroughputMeter:
  """Images per second over the last steps, without pauses (evaluation, checkpoints)."""

  def __init__(self, steps: int = 20):
    self._steps: collections.deque[tuple[float, int]] = collections.deque(maxlen=steps)
    self._last_time: float | None = None

  def count(self, images: int) -> None:
    """Called once per step. The first step, which compiles, is not counted."""
    now = time.monotonic()
    if self._last_time is not None:
      self._steps.append((now - self._last_time, images))
    self._last_time = now

  def images_per_second(self) -> float:
    """0 before the second step."""
    seconds = sum(duration for duration, _ in self._steps)
    return sum(images for _, images in self._steps) / seconds if seconds > 0 else 0.0

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Context whose time is not counted."""
    entered = time.monotonic()
    yield
    if self._last_time is not None:
      self._last_time += time.monotonic() - entered
