"""Warning about a run of hours, from the time of its first steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ml_collections import ConfigDict

HOURS = 1.0  # A warning is given for longer runs.
MEASURED_CALLS = 3  # Calls of the compiled program after the first, which includes compilation.


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

  def check(self, seconds_per_step: float, rate: float, print_line: Callable[[str], None]) -> None:
    """Warns if the remaining steps take more than `HOURS`.

    Args:
      seconds_per_step: measured on the first steps, without compilation, evaluation, checkpoints.
      rate: images per second.
      print_line: prints the warning.
    """
    if self.given or not self.steps:
      return
    self.given = True
    hours = self.steps * seconds_per_step / 3600
    if hours > HOURS:
      length = f"{hours:.1f} hours" if hours < 72 else f"{hours / 24:.1f} days"
      print_line(
        f"warning: this run takes about {length} and the time of its evaluations: {self.steps:,} "
        f"steps at {rate:.3g} images/s, as measured on the first ones. {self.remedy}"
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
