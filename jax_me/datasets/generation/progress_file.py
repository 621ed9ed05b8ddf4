"""Progress file of a build, from which it resumes after it was killed or crashed.

The progress file is never ahead of the data files: they are synced to disk first, and whatever they
contain beyond the recorded progress is truncated before the build resumes.
"""

import dataclasses
import json
import pathlib
from typing import Any, BinaryIO

from jax_me.files import write_atomically

PROGRESS_FILE = "journal.json"
# Increase it whenever older progress files cannot be resumed.
FORMAT = 1


@dataclasses.dataclass
class SplitProgress:
  """Progress of one split.

  Attributes:
    tasks: number of finished tasks.
    shard_records, shard_bytes, shard_sizes: number of records of every finished shard, bytes of
      their contents, bytes of the file.
    open_records, open_bytes: records of the open shard, and bytes of their contents.
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
  """Progress of the build report.

  Attributes:
    size: bytes of the file.
    statuses: status -> number of rows.
    first: descriptions of the first few problems.
    same_content: split -> split of the earlier file with the same content -> number of files.
  """

  size: int = 0
  statuses: dict[str, int] = dataclasses.field(default_factory=dict)
  first: list[str] = dataclasses.field(default_factory=list)
  same_content: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class BuildProgress:
  """Progress of a whole build.

  Attributes:
    plan: what is being built, as JSON values; progress of another plan cannot be resumed.
    report: see ReportProgress.
    splits: name -> see SplitProgress.
  """

  plan: dict[str, Any]
  report: ReportProgress
  splits: dict[str, SplitProgress]

  @property
  def tasks(self) -> int:
    """Number of finished tasks of all splits."""
    return sum(split.tasks for split in self.splits.values())


def new_progress(plan: dict[str, Any], splits: tuple[str, ...]) -> BuildProgress:
  """Returns the progress of a build before its first task."""
  return BuildProgress(plan, ReportProgress(), {name: SplitProgress() for name in splits})


def write_progress(folder: pathlib.Path, progress: BuildProgress) -> None:
  """Replaces the progress file in `folder` atomically."""
  record = {"format": FORMAT, **dataclasses.asdict(progress)}
  write_atomically(folder / PROGRESS_FILE, json.dumps(record, ensure_ascii=False).encode())


def read_progress(folder: pathlib.Path, plan: dict[str, Any]) -> BuildProgress | None:
  """Reads the progress file in `folder`; None when there is none.

  Raises:
    ValueError: it is damaged, or belongs to another plan.
  """
  path = folder / PROGRESS_FILE
  if not path.is_file():
    return None
  try:
    record = json.loads(path.read_bytes())
    if record["format"] != FORMAT or record["plan"] != plan:
      raise ValueError("it was started by another version of the program, or from other files")
    return BuildProgress(
      plan,
      ReportProgress(**record["report"]),
      {name: SplitProgress(**split) for name, split in record["splits"].items()},
    )
  except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(f"its progress file is damaged ({error!r})") from error


def open_truncated(path: pathlib.Path, size: int) -> BinaryIO:
  """Opens a file for appending, truncated to its first `size` bytes.

  Raises:
    ValueError: it is shorter.
  """
  if size and (not path.is_file() or path.stat().st_size < size):
    raise ValueError(f"{path.name} is shorter than recorded in the progress file")
  file = path.open("ab")
  file.truncate(size)
  return file
