"""Amount of work of a run before its first step, and a warning if its first steps are slow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from jax_me.training.utilisation import ThroughputMeter

HOURS = 1.0  # A warning is given for longer runs.
# Calls of the compiled program after the first, which includes compilation, or time of fewer calls.
MEASURED_CALLS = 3
MEASURED_SECONDS = 10.0


@dataclasses.dataclass
class DurationWarning:
  """Expected duration of a run; warns once if it is long.

  Attributes:
    remedy: sentence about the settings that shorten the run.
    steps: optimiser steps that the run still has to do, over all folds.
    given: whether the warning was given, or the run is short.
  """

  remedy: str = ""
  steps: int = 0
  given: bool = False

  def check(self, meter: ThroughputMeter, batch: int, print_line: Callable[[str], None]) -> None:
    """Warns if the remaining steps take more than `HOURS`, as soon as their time is known.

    Args:
      meter: of the first steps, without compilation, evaluation and checkpoints.
      batch: images per step, of all folds that train together.
      print_line: prints the warning.
    """
    seconds_per_step = meter.seconds_per_step()
    if self.given or not self.steps or not seconds_per_step:
      return
    if meter.calls < MEASURED_CALLS and meter.seconds < MEASURED_SECONDS:
      return
    self.given = True
    hours = self.steps * seconds_per_step / 3600
    if hours > HOURS:
      length = f"{hours:.1f} hours" if hours < 72 else f"{hours / 24:.1f} days"
      print_line(
        f"warning: this run takes about {length} and the time of its evaluations: {self.steps:,} "
        f"steps at {batch / seconds_per_step:.3g} images/s, as measured on the first ones. "
        f"{self.remedy}"
      )


def describe_work(steps: Sequence[int], batch: int, *, final: int = 0) -> str:
  """The amount of work of a training that begins.

  Args:
    steps: optimiser steps of each fold.
    batch: images per step.
    final: steps of the final model, 0 without.

  Returns:
    one line.
  """
  low, high = min(steps), max(steps)
  each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
  folds = "1 fold" if len(steps) == 1 else f"{len(steps)} folds, {each} steps each"
  after = f" and the final model with {final:,}" * bool(final)
  total = sum(steps) + final
  return (
    f"to train: {folds}{after}; {total:,} steps of {batch} images, {total * batch:,} images in "
    f"all. If this takes more than {HOURS:g} hour, a line after the first steps says how long, and "
    "which settings shorten it"
  )


def shortening_settings(config: ConfigDict, folds: int, platform: str) -> str:
  """Names the settings that shorten a run, with their values.

  Args:
    config: the recipe.
    folds: number of folds that are trained.
    platform: of the devices: "cpu", "gpu" or "tpu".

  Returns:
    one sentence.
  """
  length = "steps" if config.steps else "epochs"
  flag = "--config."
  found = [
    f"fewer {flag}{length} (now {config[length]:g})",
    f"a smaller {flag}model.image_size (now {config.model.image_size})",
    f"a smaller {flag}model.name (now {config.model.name}; `jax-me models` lists them)",
  ]
  if folds > 2 and config.data.split in ("kfold", "step"):
    found.append(f"fewer {flag}data.folds (now {folds})")
  elif folds > 5:
    found.append(f"{flag}data.split=kfold, which trains {config.data.folds} folds (now {folds})")
  if platform != "cpu" and config.precision != "bfloat16":
    found.append(f"{flag}precision=bfloat16")
  if config.remat:
    found.append(f"{flag}remat=False, if the memory suffices")
  return f"Shorter with {', '.join(found[:-1])} or {found[-1]}."
