"""One split of a dataset, as a builder describes it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jax_me.datasets.generation.example import TaskResult


@dataclasses.dataclass(frozen=True)
class Split:
  """One split of a dataset: the tasks that produce its examples.

  Attributes:
    run: a module-level function; it may run in another process.
    tasks: arguments for `run`, which must pickle; the examples are stored in their order.
    total: number of examples expected, for the progress bar; None if unknown.
    tasks_per_worker: number of tasks that take as long as starting a worker process (about two
      seconds).
  """

  run: Callable[[Any], TaskResult]
  tasks: Sequence[Any]
  total: int | None = None
  tasks_per_worker: int = 2
