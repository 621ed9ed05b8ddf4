"""One fold to train: folder, run parameters, number of steps, and intervals."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

from jax_me.training.logging.metrics_log import Writer
from jax_me.training.state import RunParameters, State


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
    return step <= self.total and self.due(self.evaluate, step) and not near_the_end


@dataclasses.dataclass(frozen=True)
class FoldRun:
  """One fold to train.

  Attributes:
    name: of the fold.
    workdir: folder of its log.
    run_parameters: statistics and learning-rate schedule, from its training examples.
    cadence: number of steps, and intervals. The folds of one program have the same interval of
      checkpoints.
    evaluate: (state of the fold, step) -> scalars for its log, with names such as "test/uf1";
      called when an evaluation is due.
    open_writers: step to resume from -> writers of learning curves; called in one process only.
  """

  name: str
  workdir: pathlib.Path
  run_parameters: RunParameters
  cadence: Cadence
  evaluate: Callable[[State, int], Mapping[str, float]] | None = None
  open_writers: Callable[[int], Sequence[Writer]] = lambda step: ()
