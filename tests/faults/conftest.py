"""The fault suite: seeded faults, and a table of what became of them.

A tenth of the faults by default; `JAX_ME_FAULTS=1` tries all (`nox -s faults`). A fault is survived
if it was reported or changed nothing, and silent if a result is wrong and nothing was said.
"""

import dataclasses
import os
import pathlib
import time

import numpy as np
import pytest

SEED = 17
SHARE = float(os.environ.get("JAX_ME_FAULTS", "0.1"))


def pytest_collection_modifyitems(items):
  for item in items:
    if pathlib.Path(__file__).parent in item.path.parents:
      item.add_marker(pytest.mark.slow)


@dataclasses.dataclass
class Fault:
  """A row of the table: faults of one kind."""

  name: str
  tried: int = 0
  silent: list[str] = dataclasses.field(default_factory=list)
  seconds: float = 0.0

  def record(self, what: str, problem: str = "") -> None:
    """Counts a fault; `problem` says what went wrong without a word, "" if it was survived."""
    self.tried += 1
    if problem:
      self.silent.append(f"{what}: {problem}")


FAULTS: list[Fault] = []


@pytest.fixture
def fault(request):
  """The row of the table of a test, which fails if a fault of it was silent."""
  row = Fault(request.node.name.removeprefix("test_").replace("_", " "))
  FAULTS.append(row)
  start = time.monotonic()
  yield row
  row.seconds = time.monotonic() - start
  assert row.tried, "no fault was tried"
  assert not row.silent, "\n".join(row.silent)


@pytest.fixture
def random(request):
  """Random numbers that are the same in every call of a test."""
  return np.random.default_rng([SEED, *request.node.name.encode()])


def count(whole: int) -> int:
  """The number of faults of this call: a share of the whole, at least one."""
  return max(1, int(SHARE * whole))


def pytest_terminal_summary(terminalreporter):
  if not FAULTS:
    return
  terminalreporter.section(f"faults, share {SHARE:g}, seed {SEED}")
  width = max(len(row.name) for row in FAULTS)
  terminalreporter.line(f"{'fault':{width}}  {'tried':>5}  survived  silent  seconds")
  for row in FAULTS:
    silent = len(row.silent)
    terminalreporter.line(
      f"{row.name:{width}}  {row.tried:5}  {row.tried - silent:8}  {silent:6}  {row.seconds:7.0f}"
    )
