"""One split of a dataset, as a builder describes it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jax_me.datasets.generation.example import Outcome


@dataclasses.dataclass(frozen=True)
class Split:
  """One split of a dataset: the work that gives its examples.

  Attributes:
    run: a module-level function; it may run in another process.
    tasks: arguments for `run`, which must pickle; the examples are stored in their order.
    total: number of examples expected, for the progress bar; None unknown.
    tasks_per_worker: so many tasks take as long as starting a worker process, about two seconds.
  """

  run: Callable[[Any], Outcome]
  tasks: Sequence[Any]
  total: int | None = None
  tasks_per_worker: int = 2
