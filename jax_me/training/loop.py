"""The one training loop. Tasks differ by the step function and the evaluator that it is given."""

import collections
import contextlib
import dataclasses
import math
import pathlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from jax_me.training.checkpoint import Checkpoints
from jax_me.training.sharding import replicated, shard_batch, state_sharding
from jax_me.training.state import Constants, State, abstract_state, initial_key
from jax_me.training.steps import Metrics
from jax_me.training.tracking import Progress, Tracker


class TrainingDiverged(RuntimeError):
  """The loss or the gradient stopped being a finite number."""


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
    mesh: the devices.
  """

  build: Callable[[jax.Array], State]
  create: Callable[[jax.Array], State]
  step: Callable[[State, dict[str, jax.Array]], tuple[State, Metrics]]
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


class _StopSignal:
  """Notes the first SIGINT / SIGTERM, so that the step in flight finishes and is saved."""

  def __init__(self):
    self.received: int | None = None
    self._previous: dict[int, Any] = {}

  def __enter__(self):
    for number in (signal.SIGINT, signal.SIGTERM):
      try:
        self._previous[number] = signal.signal(number, self._note)
      except ValueError:  # Not the main thread: whoever runs us handles signals.
        break
    return self

  def _note(self, number, _frame):
    if self.received is not None:
      raise KeyboardInterrupt  # A second request does not wait.
    self.received = number

  def __exit__(self, *_):
    for number, handler in self._previous.items():
      signal.signal(number, handler)


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
  description: str = "training",
) -> Result:
  """Trains to `cadence.total` steps, from the newest checkpoint of `workdir` if there is one.

  Starting: own checkpoint, else fresh parameters, changed by `initialise` when it is given
  (weights of a pre-training). After each step comes evaluation, then the checkpoint, then the
  next batch: a checkpoint's data position is that of its step.

  Raises:
    TrainingDiverged: the loss or gradient norm is not finite; names the step and the checkpoint
      that is left.
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

  tracker = Tracker(workdir, resume_step=resume_step)
  progress = Progress(cadence.total, start=resume_step, description=description)
  if resume_step:
    progress.say(f"{description}: resumed at step {resume_step} of {cadence.total}")
  try:
    with _StopSignal() as stop:
      state, step = _steps(
        program, state, batches, cadence, checkpoints, tracker, progress, evaluator, stop
      )
      checkpoints.wait()
      interrupted = stop.received is not None and step < cadence.total
  finally:
    progress.close()
    tracker.close()
    checkpoints.close()
  return Result(state=state, step=step, interrupted=interrupted)


def _steps(
  program: Program,
  state: State,
  batches: ResumableIterator,
  cadence: Cadence,
  checkpoints: Checkpoints,
  tracker: Tracker,
  progress: Progress,
  evaluator: Evaluator | None,
  stop: _StopSignal,
) -> tuple[State, int]:
  step = int(state["step"])
  meter = _Meter()
  pending: tuple[int, Metrics] | None = None
  while step < cadence.total and stop.received is None:
    batch = next(batches)
    state, metrics = program.step(state, shard_batch(batch, program.mesh))
    step += 1
    # Metrics of the step before are read while this one runs: the device never waits for us.
    previous, pending = pending, (step, metrics)
    if previous is not None:
      _note(previous, meter, cadence, tracker, progress, checkpoints)
    meter.count(len(batch["image"]))
    judge = evaluator if cadence.evaluates(step) else None
    saving = cadence.due(cadence.checkpoint, step) or stop.received is not None
    if judge is not None or saving:
      # What is evaluated or saved must be known to be finite.
      _note(pending, meter, cadence, tracker, progress, checkpoints)
      pending = None
    if judge is not None:
      with meter.paused():
        scores = dict(judge(state, step))
      tracker.write(step, {"epoch": step / cadence.epoch, **scores})
      shown = "  ".join(f"{k} {v:.4f}" for k, v in scores.items())
      progress.say(f"step {step}: {shown}")
    if saving:
      with meter.paused():
        checkpoints.save(state, batches.get_state())
  if pending is not None:
    _note(pending, meter, cadence, tracker, progress, checkpoints)
  if stop.received is not None:
    checkpoints.save(state, batches.get_state())
  return state, step


def _note(
  pending: tuple[int, Metrics],
  meter: "_Meter",
  cadence: Cadence,
  tracker: Tracker,
  progress: Progress,
  checkpoints: Checkpoints,
) -> None:
  """Reads a step's metrics, refuses non-finite ones, shows and logs them."""
  step, metrics = pending
  values = {key: float(value) for key, value in jax.device_get(metrics).items()}
  if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
    raise TrainingDiverged(
      f"step {step}: loss {values['loss']}, gradient norm {values['grad_norm']}. The last "
      f"checkpoint is step {checkpoints.latest_step()}. Try a lower learning rate, "
      "optimizer.clip_norm, or precision=float32"
    )
  rate = meter.images_per_second()
  progress.advance({"loss": f"{values['loss']:.4f}", "images/s": f"{rate:.1f}"})
  if cadence.due(cadence.log, step):
    row = {
      "epoch": step / cadence.epoch,
      "learning_rate": values.pop("learning_rate"),
      "grad_norm": values.pop("grad_norm"),
      **{f"train/{key}": value for key, value in values.items()},
      "images_per_second": rate,
    }
    tracker.write(step, row)


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
