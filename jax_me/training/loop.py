"""Training loop of one fold, or of several folds in one program.

Tasks differ in the step function and in the evaluation of a fold. A fold has the same batches, PRNG
keys, schedule, skipped steps and rows of metrics.jsonl whether it is trained alone or with others.
Folds of one program differ in their number of steps: a finished one does not change while the
others continue.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import jax
import numpy as np

from jax_me.data.device_images import HOST_PLATFORMS
from jax_me.freed_memory import keep_freed_memory
from jax_me.progress import Progress
from jax_me.training.batches import TrainingBatches
from jax_me.training.checkpoint import Checkpoints
from jax_me.training.duration import DurationWarning
from jax_me.training.fold_program import FoldProgram
from jax_me.training.fold_run import FoldRun
from jax_me.training.graceful_shutdown import StopSignal
from jax_me.training.logging.metrics_log import NullLog, Tracker, metrics_row
from jax_me.training.processes import is_writer
from jax_me.training.program import Program
from jax_me.training.state import State
from jax_me.training.steps import Metrics
from jax_me.training.utilisation import ThroughputMeter, Utilisation

# A single step may overflow in bfloat16; training does not recover from this many in a row.
SKIPPED_IN_A_ROW = 5
# Rollbacks to the last checkpoint before the run fails.
ROLLBACKS = 3
# Target duration of the steps in one call of the program; signals are handled between calls.
BLOCK_SECONDS = 2.0


class TrainingDiverged(RuntimeError):
  """The loss or the gradient stopped being a finite number, and did not recover."""


@dataclasses.dataclass
class TrainingResult:
  """End of a run.

  Attributes:
    state: the final state, of all folds.
    step: its step; that of the longest fold.
    interrupted: whether a signal stopped the run early.
    diverged: names of the folds with too many non-finite steps, to be trained alone.
  """

  state: State
  step: int
  interrupted: bool
  diverged: frozenset[str]


def train(
  program: Program,
  runs: Sequence[FoldRun],
  batches: TrainingBatches,
  *,
  folder: pathlib.Path,
  stop: StopSignal,
  progress: Progress,
  initialise: Callable[[State], State] | None = None,
  keep_checkpoints: int = 2,
  save_last: bool = True,
  duration: DurationWarning | None = None,
) -> TrainingResult:
  """Trains to the last step of every fold, from the newest checkpoint if there is one.

  Evaluation and checkpoint of a step precede reading the next batch, so a checkpoint's data
  position is that of its step. A step that is not finite is not applied. After SKIPPED_IN_A_ROW of
  them one fold rolls back to its last checkpoint. In a program with several folds, one cannot roll
  back while the others continue: it does not continue, and is to be trained alone.

  Args:
    program: of one fold, or a `FoldProgram` of at least as many folds as `runs`.
    runs: the folds; their numbers are the indices along the fold axis.
    batches: of this process.
    folder: of the checkpoints; for one fold its workdir.
    stop: checked after each call of the program.
    progress: counts the steps of the longest fold.
    initialise: changes a fresh state of one fold, for example to pre-trained weights; not called on
      resuming.
    keep_checkpoints: number of checkpoints to keep.
    save_last: whether the last step has a checkpoint too.
    duration: warns about a long run after its first steps.

  Returns:
    the final state.

  Raises:
    TrainingDiverged: there is no checkpoint to roll back to, or rolling back did not help.
    CheckpointError: a checkpoint cannot be written or read.
  """
  folder.mkdir(parents=True, exist_ok=True)
  checkpoints = Checkpoints(folder, keep=keep_checkpoints)
  with contextlib.ExitStack() as resources:
    resources.callback(checkpoints.close)
    diverged = frozenset[str]()
    if checkpoints.latest_step() is None:
      state = program.initial_state(runs[0].run_parameters.seed, initialise)
    else:
      state, position = checkpoints.restore(program.abstract_state())
      diverged = batches.go_to(position)
    step = checkpoints.latest_step() or 0
    folds = [_Fold(run, _open_tracker(run, step), run.name in diverged) for run in runs]
    for fold in folds:
      resources.callback(fold.tracker.close)
    loop = _Loop(program, folds, batches, checkpoints, progress, stop, save_last, duration)
    if step:
      progress.print_line(f"{loop.name}: resumed at step {step} of {loop.total}")
      progress.skip(step)
      if duration is not None:
        duration.steps -= step
    state, step = loop.run(loop.with_run_parameters(state), step)
    checkpoints.wait()
  return TrainingResult(
    state=state,
    step=step,
    interrupted=step < loop.total,
    diverged=frozenset(fold.run.name for fold in folds if fold.diverged),
  )


def _open_tracker(run: FoldRun, step: int) -> Tracker | NullLog:
  """The log of a fold from a step on, in the one process that writes."""
  run.workdir.mkdir(parents=True, exist_ok=True)
  if not is_writer():
    return NullLog()
  last = min(step, run.cadence.total)
  return Tracker(run.workdir, resume_step=last, writers=run.open_writers(last))


@dataclasses.dataclass
class _Fold:
  """One fold in the loop.

  Attributes:
    run: its settings.
    tracker: its log.
    skipped: consecutive skipped steps, up to the last whose metrics were read.
    diverged: whether it does not continue.
  """

  run: FoldRun
  tracker: Tracker | NullLog
  diverged: bool
  skipped: int = 0

  def steps(self, step: int, count: int) -> int:
    """How many of the `count` steps after `step` this fold trains."""
    return 0 if self.diverged else min(count, max(self.run.cadence.total - step, 0))

  def evaluates(self, step: int) -> bool:
    """Whether its evaluation is due."""
    wanted = self.run.evaluate is not None and not self.diverged
    return wanted and self.run.cadence.evaluates(step)


class _RollBackNeeded(Exception):
  """Raised after too many steps in a row that were not finite."""


class _Loop:
  """The steps of one call of `train`."""

  def __init__(
    self,
    program: Program,
    folds: Sequence[_Fold],
    batches: TrainingBatches,
    checkpoints: Checkpoints,
    progress: Progress,
    stop: StopSignal,
    save_last: bool,
    duration: DurationWarning | None,
  ):
    self.folds = folds
    self._program, self._batches = program, batches
    self._checkpoints, self._progress, self._stop = checkpoints, progress, stop
    self._save_last = save_last
    self._alone = not isinstance(program, FoldProgram)
    self._on_host = program.mesh.devices.flat[0].platform in HOST_PLATFORMS
    self._meter = ThroughputMeter()
    self._utilisation = Utilisation(program.mesh)
    # First step, steps of each fold, and metrics of a call of the program that are not read yet.
    self._pending: tuple[int, np.ndarray, Metrics] | None = None
    self._block = 1
    self._rollbacks = 0
    self._stop_requested = False
    self._duration = duration

  @property
  def name(self) -> str:
    """What is trained, in messages."""
    return self.folds[0].run.name if self._alone else f"{len(self.folds)} folds"

  @property
  def total(self) -> int:
    """Steps of the longest fold that has not diverged."""
    return max((f.run.cadence.total for f in self.folds if not f.diverged), default=0)

  def with_run_parameters(self, state: State) -> State:
    """The state as the program takes it."""
    run_parameters = [fold.run.run_parameters for fold in self.folds]
    return {**state, "run_parameters": self._program.put_run_parameters(*run_parameters)}

  def run(self, state: State, step: int) -> tuple[State, int]:
    """Trains to the last step, with rollbacks when the loss stops being finite."""
    while True:
      try:
        return self._run_steps(state, step)
      except _RollBackNeeded:
        state, step = self._roll_back()

  def _run_steps(self, state: State, step: int) -> tuple[State, int]:
    while step < self.total and not self._stopping():
      count = self._block_length(step)
      counts = np.array([fold.steps(step, count) for fold in self.folds])
      batches = self._batches.take(step, counts, self._stop.received is not None)
      if self._alone:
        self._utilisation.count_step(self._program.step, state, batches)
      state, metrics = self._program.advance(state, batches)
      # The previous metrics are read while these steps run, so the device never waits.
      previous, self._pending = self._pending, (step, counts, metrics)
      step += count
      if previous is not None:
        self._log(previous)
        if self._on_host:
          keep_freed_memory()  # Once: the first step is finished.
      if self._due_for_evaluation(step) or self._saves(step):
        # A state must be checked to be finite before it is evaluated or saved.
        self._log_pending()
        with self._meter.paused():
          self._evaluate(state, step)
          # While steps are being skipped, the checkpoint before them must stay the newest.
          skipping = any(fold.skipped and fold.steps(step, 1) for fold in self.folds)
          if self._saves(step) and not skipping:
            self._save(state)
    self._log_pending()
    if step < self.total:
      self._save(state)
    return state, step

  def _stopping(self) -> bool:
    """Whether to end early. Several processes must agree, so the step combines their requests."""
    if jax.process_count() > 1:
      return self._stop_requested
    return self._stop.received is not None

  def _block_length(self, step: int) -> int:
    """Number of steps until an evaluation or a checkpoint is due, at most a block."""
    ahead = 1
    while ahead < min(self._block, self.total - step):
      if self._due_for_evaluation(step + ahead) or self._saves(step + ahead):
        break
      ahead += 1
    return ahead

  def _due_for_evaluation(self, step: int) -> list[int]:
    """Numbers of the folds to evaluate."""
    return [number for number, fold in enumerate(self.folds) if fold.evaluates(step)]

  def _saves(self, step: int) -> bool:
    """Whether a checkpoint is due."""
    every = self.folds[0].run.cadence.checkpoint
    return self._save_last if step >= self.total else every > 0 and step % every == 0

  def _save(self, state: State) -> None:
    diverged = [fold.run.name for fold in self.folds if fold.diverged]
    self._checkpoints.save(state, self._batches.position(diverged))

  def _evaluate(self, state: State, step: int) -> None:
    for number in self._due_for_evaluation(step):
      fold, fold_state = self.folds[number], self._program.fold_state(state, number)
      scores = dict(fold.run.evaluate(fold_state, step)) if fold.run.evaluate else {}
      if scores:
        fold.tracker.write(step, {"epoch": step / fold.run.cadence.epoch, **scores})
      if scores and self._alone:
        formatted = "  ".join(f"{k} {v:.4f}" for k, v in scores.items())
        self._progress.print_line(f"step {step}: {formatted}")

  def _log_pending(self) -> None:
    pending, self._pending = self._pending, None
    if pending is not None:
      self._log(pending)

  def _log(self, pending: tuple[int, np.ndarray, Metrics]) -> None:
    """Reads the metrics of a call of the program from the device and logs them.

    Raises:
      _RollBackNeeded: the last SKIPPED_IN_A_ROW steps of a fold alone were not applied.
    """
    first, counts, metrics = pending
    # Scalars of one fold, or [folds, steps].
    values = {name: np.atleast_2d(value) for name, value in jax.device_get(metrics).items()}
    self._stop_requested |= bool(np.any(values.pop("stop", False)))
    self._meter.count(int(counts.max()))
    seconds = self._meter.seconds_per_step()
    # Of all folds that train together.
    images = self._batches.batch_size * int(np.count_nonzero(counts))
    rate = images / seconds if seconds else 0.0
    if self._duration is not None:
      self._duration.check(self._meter, images, self._progress.print_line)
    if seconds:
      self._block = int(np.clip(BLOCK_SECONDS / seconds, 1, self._program.block))
    for number, fold in enumerate(self.folds):
      for index in range(counts[number]):
        if not fold.diverged:
          scalars = {name: float(value[number, index]) for name, value in values.items()}
          self._log_step(fold, first + index + 1, scalars, rate)
    losses = values["loss"][: len(counts), 0][counts > 0]
    losses = losses[np.isfinite(losses)]
    loss = f"{losses.mean() if losses.size else np.nan:.4f}"
    self._progress.advance(int(counts.max()), loss=loss, **{"images/s": f"{rate:.1f}"})

  def _log_step(self, fold: _Fold, step: int, values: dict[str, float], rate: float) -> None:
    cadence = fold.run.cadence
    epoch = step / cadence.epoch
    if values.pop("skipped"):
      fold.skipped += 1
      self._progress.print_line(
        f"{'' if self._alone else f'{fold.run.name}: '}step {step}: loss {values['loss']}, "
        f"gradient norm {values['grad_norm']}; the step was not applied ({fold.skipped} in a row)"
      )
      fold.tracker.write(step, {"epoch": epoch, "skipped": fold.skipped})
      if fold.skipped >= SKIPPED_IN_A_ROW:
        self._give_up(fold, step)
      return
    fold.skipped = 0
    if cadence.due(cadence.log, step):
      row = metrics_row(values, epoch, rate)
      fold.tracker.write(step, {**row, **self._utilisation.metrics(rate)})

  def _give_up(self, fold: _Fold, step: int) -> None:
    """Ends a fold among others after too many skipped steps; alone, it has to roll back."""
    if self._alone:
      raise _RollBackNeeded
    fold.skipped, fold.diverged = 0, True
    self._progress.print_line(
      f"{fold.run.name}: {SKIPPED_IN_A_ROW} steps in a row up to {step} were not finite; this fold "
      "will be trained alone, after the others"
    )

  def _roll_back(self) -> tuple[State, int]:
    """State and step of the last checkpoint. The data continues after the examples that failed.

    Raises:
      TrainingDiverged: there is no checkpoint, or rolling back did not help.
    """
    (fold,) = self.folds
    self._pending = None
    self._checkpoints.wait()
    latest = self._checkpoints.latest_step()
    self._rollbacks += 1
    if latest is None or self._rollbacks > ROLLBACKS:
      remedy = "Try a lower learning rate, optimizer.clip_norm, or precision=float32"
      if latest is None:
        raise TrainingDiverged(
          f"{fold.skipped} steps in a row were not finite, and there is no checkpoint to go back "
          f"to. {remedy}"
        )
      raise TrainingDiverged(
        f"{fold.skipped} steps in a row were not finite, again after going back "
        f"{ROLLBACKS} times. The last checkpoint is step {latest}. {remedy}"
      )
    self._progress.print_line(
      f"{fold.skipped} steps in a row were not finite: going back to the checkpoint of step "
      f"{latest} and continuing with the next examples"
    )
    fold.skipped = 0
    fold.tracker.rewind(latest)
    self._progress.go_to(latest)
    state, _ = self._checkpoints.restore(self._program.abstract_state())
    return self.with_run_parameters(state), latest
