"""One of the programs that are compared, ready to run."""

import dataclasses
from collections.abc import Callable


class UnavailableError(Exception):
  """A peer that cannot be measured here, with the reason."""


@dataclasses.dataclass(frozen=True)
class Side:
  """A compiled program with its inputs.

  Attributes:
    run: executes it a number of times and waits for the results.
    parameters: number of trained values, which must be equal on all sides.
    compile_seconds: until the first call could return; None without compilation.
    program: facts about the compiled program.
    text: gives the compiled program (HLO); only of ours.
  """

  run: Callable[[int], None]
  parameters: int
  compile_seconds: float | None = None
  program: dict[str, float] = dataclasses.field(default_factory=dict)
  text: Callable[[], str] = str
