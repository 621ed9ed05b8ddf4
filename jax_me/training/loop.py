"""The one training loop. Tasks differ by the step function and the evaluator that it is given."""

import collections
import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from jax_me.training.checkpoint import Checkpoints
from jax_me.training.graceful_shutdown import StopSignal
from jax_me.training.logging.metrics_log import Progress, Silent, Tracker, Writer
from jax_me.training.processes import is_writer
from jax_me.training.sharding import replicated, shard_batch, state_sharding
from jax_me.training.state import Constants, State, abstract_state, initial_key
from jax_me.training.steps import Metrics
from jax_me.training.utilisation import Utilisation

# A single bad step happens (an overflow in bfloat16); this many in a row do not pass by themselves.
SKIPPED_IN_A_ROW = 5
# Times that a run goes back to its last checkpoint before it gives up.
ROLLBACKS = 3


class TrainingDiverged(RuntimeError):
  """The loss or the gradient stopped being a finite number, and did not recover."""


class ResumableIterator(Protocol):
  """Endless batches of NumPy arrays whose position can be stored as JSON."""

  def __next__(self) -> dict[str, np.ndarray]: ...
  def get_state(self) -> Any: ...
  def set_state(self, state: Any) -> None: ...


# (state, step) -> scalars for the log, named like "test/uf1"
Evaluator = Callable[[State, int], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Program:
  """The compiled parts of a run, shared by runs that differ only in data and constants (folds).

  Attributes:
    build: PRNG key -> state without constants (`state_builder`).
    create: `build`, jitted to make sharded arrays.
    step: (state, batch) -> (state, metrics), jitted, donating the state.
    pure_step: `step` before it was jitted, for programs that hold more than one fold.
    mesh: the devices.
  """

  build: Callable[[jax.Array], State]
  create: Callable[[jax.Array], State]
  step: Callable[[State, dict[str, jax.Array]], tuple[State, Metrics]]
  pure_step: Callable[[State, dict[str, jax.Array]], tuple[State, Metrics]]
  mesh: Mesh

  @classmethod
  def compile(
    cls,
    build: Callable[[jax.Array], State],
    step: Callable[[State, dict[str, jax.Array]], tuple[State, Metrics]],
    mesh: Mesh,
  ) -> "Program":
    """Jits both. The state keeps its shardings from step to step, so the step compiles once."""
    shardings = state_sharding(jax.eval_shape(build, jax.random.key(0)), mesh)
    whole = replicated(mesh)
    return cls(
      build=build,
      create=jax.jit(build, out_shardings=shardings),
      step=jax.jit(
        step, donate_argnums=0, out_shardings=({**shardings, "constants": whole}, whole)
      ),
      pure_step=step,
      mesh=mesh,
    )

  def place(self, constants: Constants) -> dict[str, jax.Array]:
    """The constants of a run, on every device."""
    return jax.device_put(constants.arrays(), replicated(self.mesh))


@dataclasses.dataclass(frozen=True)
class Cadence:
  """How often things happen, in steps. Each also happens at the last step.

  Attributes:
    total: steps of the whole run.
    log: between rows of metrics.
    evaluate: between evaluations; 0 = at the end only.
    checkpoint: between checkpoints.
    epoch: steps of one pass over the training examples (may be fractional; for display).
  """

  total: int
  log: int
  evaluate: int
  checkpoint: int
  epoch: float

  def due(self, every: int, step: int) -> bool:
    return step == self.total or (every > 0 and step % every == 0)

  def evaluates(self, step: int) -> bool:
    """As `due`, but not when the evaluation at the end follows at once."""
    near_the_end = 0 < self.total - step < self.evaluate / 2
    return self.due(self.evaluate, step) and not near_the_end


@dataclasses.dataclass
class Result:
  """Where training ended: the state, its step, and whether a signal stopped it early."""

  state: State
  step: int
  interrupted: bool


def train(
  program: Program,
  *,
  batches: ResumableIterator,
  constants: Constants,
  cadence: Cadence,
  workdir: pathlib.Path,
  evaluator: Evaluator | None = None,
  initialise: Callable[[State], State] | None = None,
  keep_checkpoints: int = 2,
  make_writers: Callable[[int], Sequence[Writer]] | None = None,
  description: str = "training",
) -> Result:
  """Trains to `cadence.total` steps, from the newest checkpoint of `workdir` if there is one.

  Starting: own checkpoint, else fresh parameters, changed by `initialise` when it is given
  (weights of a pre-training). After each step comes evaluation, then the checkpoint, then the
  next batch: a checkpoint's data position is that of its step.

  A step that is not finite is not applied; after SKIPPED_IN_A_ROW of them the run goes back to
  its last checkpoint.

  Raises:
    TrainingDiverged: there is no checkpoint to go back to, or going back did not help.
    CheckpointError: a checkpoint cannot be written or read.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  checkpoints = Checkpoints(workdir, keep=keep_checkpoints)
  resume_step = checkpoints.latest_step() or 0
  if checkpoints.latest_step() is not None:
    state, position = checkpoints.restore(abstract_state(program.build, program.mesh))
    batches.set_state(position)
  else:
    state = program.create(initial_key(constants.seed))
    if initialise is not None:
      state = initialise(state)
  state["constants"] = program.place(constants)

  tracker: Tracker | Silent = Silent()
  progress: Progress | Silent = Silent()
  if is_writer():
    writers = make_writers(resume_step) if make_writers else ()
    tracker = Tracker(workdir, resume_step=resume_step, writers=writers)
    progress = Progress(cadence.total, start=resume_step, description=description)
  if resume_step:
    progress.say(f"{description}: resumed at step {resume_step} of {cadence.total}")
  try:
    with StopSignal() as stop:
      run = _Run(program, constants, batches, cadence, checkpoints, tracker, progress, stop)
      state, step = run.finish(state, evaluator)
      checkpoints.wait()
  finally:
    progress.close()
    tracker.close()
    checkpoints.close()
  return Result(state=state, step=step, interrupted=run.stopping and step < cadence.total)


def metrics_row(values: Mapping[str, float], epoch: float, rate: float) -> dict[str, float]:
  """A step's row of metrics.jsonl, from what the step function gave, without `skipped`."""
  rest = dict(values)
  return {
    "epoch": epoch,
    "learning_rate": rest.pop("learning_rate"),
    "grad_norm": rest.pop("grad_norm"),
    **{f"train/{key}": value for key, value in rest.items()},
    "images_per_second": rate,
  }


class _RollBack(Exception):
  """Too many steps in a row were not finite."""


class _Run:
  """The steps of one call of `train`."""

  def __init__(
    self,
    program: Program,
    constants: Constants,
    batches: ResumableIterator,
    cadence: Cadence,
    checkpoints: Checkpoints,
    tracker: Tracker | Silent,
    progress: Progress | Silent,
    stop: StopSignal,
  ):
    self._program, self._constants = program, constants
    self._batches, self._cadence, self._checkpoints = batches, cadence, checkpoints
    self._tracker, self._progress, self._stop = tracker, progress, stop
    self._meter = _Meter()
    self._utilisation = Utilisation(program.mesh)
    self._pending: tuple[int, Metrics] | None = None
    self._skipped = 0  # In a row, up to the last step that was read.
    self._rollbacks = 0
    self._asked = False

  @property
  def stopping(self) -> bool:
    """Whether the run is to end early; several processes must agree, so they ask the step."""
    if jax.process_count() > 1:
      return self._asked
    return self._stop.received is not None

  def finish(self, state: State, evaluator: Evaluator | None) -> tuple[State, int]:
    """Steps to the end, going back to a checkpoint when the numbers stop being finite."""
    while True:
      try:
        return self._steps(state, evaluator)
      except _RollBack:
        state = self._roll_back()

  def _steps(self, state: State, evaluator: Evaluator | None) -> tuple[State, int]:
    cadence, step = self._cadence, int(state["step"])
    while step < cadence.total and not self.stopping:
      batch = next(self._batches)
      placed = self._placed(batch)
      self._utilisation.look_at(self._program.step, state, placed)
      state, metrics = self._program.step(state, placed)
      step += 1
      # Metrics of the step before are read while this one runs: the device never waits for us.
      previous, self._pending = self._pending, (step, metrics)
      if previous is not None:
        self._note(previous)
      self._meter.count(len(placed["image"]))  # of all processes
      judge = evaluator if cadence.evaluates(step) else None
      saving = cadence.due(cadence.checkpoint, step)
      if judge is not None or saving:
        # What is evaluated or saved must be known to be finite.
        self._note_pending()
      if judge is not None:
        with self._meter.paused():
          scores = dict(judge(state, step))
        if scores:
          self._tracker.write(step, {"epoch": step / cadence.epoch, **scores})
          shown = "  ".join(f"{k} {v:.4f}" for k, v in scores.items())
          self._progress.say(f"step {step}: {shown}")
      # In a bad stretch the checkpoint before it must stay the newest.
      if saving and not (self._skipped and step < cadence.total):
        self._save(state)
    self._note_pending()
    if self.stopping:
      self._save(state)
    return state, step

  def _placed(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    if jax.process_count() > 1:
      wish = self._stop.received is not None
      batch = {**batch, "stop": np.full(len(batch["image"]), wish)}
    return shard_batch(batch, self._program.mesh)

  def _save(self, state: State) -> None:
    with self._meter.paused():
      self._checkpoints.save(state, self._batches.get_state())

  def _note_pending(self) -> None:
    pending, self._pending = self._pending, None
    if pending is not None:
      self._note(pending)

  def _note(self, pending: tuple[int, Metrics]) -> None:
    """Reads a step's metrics, shows and logs them.

    Raises:
      _RollBack: this was the last of SKIPPED_IN_A_ROW steps that were not applied.
    """
    step, metrics = pending
    values = {key: float(value) for key, value in jax.device_get(metrics).items()}
    self._asked |= bool(values.pop("stop", False))
    step_of_epochs = step / self._cadence.epoch
    if values.pop("skipped"):
      self._skipped += 1
      self._progress.say(
        f"step {step}: loss {values['loss']}, gradient norm {values['grad_norm']}; the step was "
        f"not applied ({self._skipped} in a row)"
      )
      self._tracker.write(step, {"epoch": step_of_epochs, "skipped": self._skipped})
      if self._skipped >= SKIPPED_IN_A_ROW:
        raise _RollBack
      self._progress.advance({})
      return
    self._skipped = 0
    rate = self._meter.images_per_second()
    self._progress.advance({"loss": f"{values['loss']:.4f}", "images/s": f"{rate:.1f}"})
    if self._cadence.due(self._cadence.log, step):
      row = metrics_row(values, step_of_epochs, rate)
      self._tracker.write(step, {**row, **self._utilisation.row(rate)})

  def _roll_back(self) -> State:
    """The state of the last checkpoint; the data goes on behind the examples that failed.

    Raises:
      TrainingDiverged: there is no checkpoint, or going back did not help.
    """
    self._pending = None
    self._checkpoints.wait()
    latest = self._checkpoints.latest_step()
    self._rollbacks += 1
    if latest is None or self._rollbacks > ROLLBACKS:
      remedy = "Try a lower learning rate, optimizer.clip_norm, or precision=float32"
      if latest is None:
        raise TrainingDiverged(
          f"{self._skipped} steps in a row were not finite, and no checkpoint is there to go back "
          f"to. {remedy}"
        )
      raise TrainingDiverged(
        f"{self._skipped} steps in a row were not finite, again after going back "
        f"{ROLLBACKS} times. The last checkpoint is step {latest}. {remedy}"
      )
    self._progress.say(
      f"{self._skipped} steps in a row were not finite: going back to the checkpoint of step "
      f"{latest}, and on with the examples that follow"
    )
    self._skipped = 0
    self._tracker.rewind(latest)
    self._progress.rewind(latest)
    state, _ = self._checkpoints.restore(abstract_state(self._program.build, self._program.mesh))
    state["constants"] = self._program.place(self._constants)
    return state


class _Meter:
  """Images per second of training alone, over the last steps; pauses are left out."""

  def __init__(self, steps: int = 20):
    self._steps: collections.deque[tuple[float, int]] = collections.deque(maxlen=steps)
    self._mark: float | None = None

  def count(self, images: int) -> None:
    """Called once a step; the time of the first, which compiles, is not counted."""
    now = time.monotonic()
    if self._mark is not None:
      self._steps.append((now - self._mark, images))
    self._mark = now

  def images_per_second(self) -> float:
    seconds = sum(duration for duration, _ in self._steps)
    return sum(images for _, images in self._steps) / seconds if seconds > 0 else 0.0

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """What happens inside (evaluation, saving) does not count."""
    entered = time.monotonic()
    yield
    if self._mark is not None:
      self._mark += time.monotonic() - entered
