"""How far a build has come, kept beside its files, so that it can go on after a kill or a crash.

The journal never runs ahead of the files: they reach the disk first, and everything in them that
the journal does not know is cut off before the build goes on.
"""

import dataclasses
import json
import pathlib
from typing import Any

from jax_me.files import write_atomically

JOURNAL_FILE = "journal.json"
# To be raised when a journal of today could not be continued by tomorrow's program.
FORMAT = 1


@dataclasses.dataclass
class SplitProgress:
  """What of a split is done.

  Attributes:
    tasks: number of tasks finished.
    shard_records, shard_bytes, shard_sizes: of every finished shard: number of records, bytes of
      their contents, bytes of the file.
    open_records, open_bytes: records of the shard under way, and bytes of their contents.
    index_bytes: size of the index.
    stored: label -> number of examples.
    found: label -> number of annotations.
  """

  tasks: int = 0
  shard_records: list[int] = dataclasses.field(default_factory=list)
  shard_bytes: list[int] = dataclasses.field(default_factory=list)
  shard_sizes: list[int] = dataclasses.field(default_factory=list)
  open_records: int = 0
  open_bytes: int = 0
  index_bytes: int = 0
  stored: dict[str, int] = dataclasses.field(default_factory=dict)
  found: dict[str, int] = dataclasses.field(default_factory=dict)

  @property
  def examples(self) -> int:
    """Number of examples stored so far."""
    return sum(self.shard_records) + self.open_records


@dataclasses.dataclass
class ReportProgress:
  """What of the report is written.

  Attributes:
    size: its bytes.
    statuses: status -> number of rows.
    first: the first few problems, in words.
    same_content: split -> split of the earlier file with the same bytes -> number of files.
  """

  size: int = 0
  statuses: dict[str, int] = dataclasses.field(default_factory=dict)
  first: list[str] = dataclasses.field(default_factory=list)
  same_content: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Journal:
  """All of it.

  Attributes:
    plan: what is being built, as JSON values; a journal of another plan is of no use.
    report: see ReportProgress.
    splits: name -> see SplitProgress.
  """

  plan: dict[str, Any]
  report: ReportProgress
  splits: dict[str, SplitProgress]

  @property
  def tasks(self) -> int:
    """Number of tasks finished, of all splits."""
    return sum(split.tasks for split in self.splits.values())


def new_journal(plan: dict[str, Any], splits: tuple[str, ...]) -> Journal:
  """A journal of nothing done yet."""
  return Journal(plan, ReportProgress(), {name: SplitProgress() for name in splits})


def write_journal(folder: pathlib.Path, journal: Journal) -> None:
  """Replaces the journal in `folder`, whole or not at all."""
  record = {"format": FORMAT, **dataclasses.asdict(journal)}
  write_atomically(folder / JOURNAL_FILE, json.dumps(record, ensure_ascii=False).encode())


def read_journal(folder: pathlib.Path, plan: dict[str, Any]) -> Journal | None:
  """The journal in `folder`; None when there is none.

  Raises:
    ValueError: it is damaged, or it is of another plan.
  """
  path = folder / JOURNAL_FILE
  if not path.is_file():
    return None
  try:
    record = json.loads(path.read_bytes())
    if record["format"] != FORMAT or record["plan"] != plan:
      raise ValueError("it was begun by another version of the program, or from other files")
    journal = Journal(
      plan,
      ReportProgress(**record["report"]),
      {name: SplitProgress(**split) for name, split in record["splits"].items()},
    )
  except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(f"its journal is damaged ({error!r})") from error
  return journal


def open_cut(path: pathlib.Path, size: int) -> Any:
  """Opens a file for appending, cut to its first `size` bytes.

  Raises:
    ValueError: it has fewer.
  """
  if size and (not path.is_file() or path.stat().st_size < size):
    raise ValueError(f"{path.name} is shorter than its journal says")
  file = path.open("ab")
  file.truncate(size)
  return file
