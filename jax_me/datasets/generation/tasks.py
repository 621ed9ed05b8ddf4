"""Tasks of a build and their results: images to store, report row of every source file.

Worker processes import this module, so it imports nothing of TFDS.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Example:
  """One image of a dataset, ready to store.

  Attributes:
    image: encoded bytes, JPEG or PNG.
    label: class name, one of the builder's label names.
    file: relative name of the source, unique in the split.
    subject: the person, "" if unknown.
    clip: the recording, "" for a single photograph.
    frame: frame number in the clip, -1 if unknown.
    onset, apex, offset: frame numbers of the expression in its clip, -1 if unknown.
    database: source dataset, "" when there is only one.
    targets: probability of every class where the dataset has vote distributions, else empty.
      Stored in the index only.
    affect: valence and arousal in [-1, 1], empty where unknown. Stored in the index only.
  """

  image: bytes
  label: str
  file: str
  subject: str = ""
  clip: str = ""
  frame: int = -1
  onset: int = -1
  apex: int = -1
  offset: int = -1
  database: str = ""
  targets: tuple[float, ...] = ()
  affect: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class ReportRow:
  """Row of the build report: the result for one source file.

  Attributes:
    file: its relative name; "name#2" for a second example from one file.
    status: "ok" when it is stored unchanged or as intended, else the kind of problem.
    details: further JSON values of the row.
    digest: SHA-256 of the source's bytes in hex, "" when it was not read. Duplicates within and
      across splits are detected by it and marked with `same_content_as`.
  """

  file: str
  status: str
  details: Mapping[str, object] = dataclasses.field(default_factory=dict)
  digest: str = ""


@dataclasses.dataclass(frozen=True)
class TaskResult:
  """Result of one task.

  Attributes:
    examples: the images to store, in order.
    rows: report rows of the source files, in order.
    found: labels of the annotations that the task processed, whether or not their images could be
      stored; compared with the published counts.
  """

  examples: tuple[Example, ...] = ()
  rows: tuple[ReportRow, ...] = ()
  found: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Split:
  """One split of a dataset: the tasks that produce its examples.

  Attributes:
    run: a function or callable object that pickles; it may run in another process.
    tasks: arguments for `run`, which must pickle; the examples are stored in their order.
    total: number of examples expected, for the progress bar; None if unknown.
    tasks_per_worker: number of tasks that take as long as starting a worker process (about two
      seconds).
  """

  run: Callable[[Any], TaskResult]
  tasks: Sequence[Any]
  total: int | None = None
  tasks_per_worker: int = 2


class Skipped(Exception):
  """A source that is not stored, with the status and detail of its report row."""

  def __init__(self, status: str, detail: str):
    super().__init__(status, detail)
    self.status, self.detail = status, detail


def problem(file: str, status: str, detail: str = "") -> ReportRow:
  """The report row of a file or row that is left out before any task runs.

  Args:
    file: relative name of the source file.
    status: kind of problem.
    detail: one line of text, "" for none.

  Returns:
    The row.
  """
  return ReportRow(file, status, {"detail": detail} if detail else {})


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
  """Divides items into tasks of `size` items; the last may have fewer."""
  return (items[start : start + size] for start in range(0, len(items), size))
