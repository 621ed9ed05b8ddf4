"""Writer of the shards of a build; every finished shard is a checkpoint of the build.

The shards of a split hold the records of consecutive tasks. A shard is finished when its
description lies beside it: index rows, report rows and counts of its tasks. A build that was
stopped continues after the last finished shard, so at most one shard's work is lost. Boundaries
depend on the records only: an interrupted build gives the same shards as another.
"""

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
from array_record.python import array_record_module

from jax_me.datasets.generation.record_encoder import EncodedTask, RecordEncoder
from jax_me.datasets.generation.tasks import TaskResult
from jax_me.files import write_atomically

# Folder of the shards and their descriptions, inside that of the unfinished build.
SHARDS_FOLDER = "shards"
# Work that a kill may lose: some 500 aligned faces as PNG, or 3,000 as JPEG.
SHARD_BYTES = 32 * 2**20
# Encoded images do not compress further; random access needs group_size 1.
WRITER_OPTIONS = "group_size:1,uncompressed"


@dataclasses.dataclass
class Shard:
  """Description of a finished shard.

  Attributes:
    tasks: number of tasks whose results it holds.
    num_bytes: bytes of the records.
    file_size: bytes of the shard's file; 0 if there is none, because no task gave an example.
    index: one row for every record.
    report: rows of the build report.
    found: label -> number of annotations.
  """

  tasks: int
  num_bytes: int
  file_size: int
  index: list[dict[str, Any]]
  report: list[dict[str, Any]]
  found: dict[str, int]

  @classmethod
  def empty(cls) -> "Shard":
    """A shard before its first task."""
    return cls(0, 0, 0, [], [], {})


class OpenShard:
  """A shard that is being written.

  Attributes:
    shard: description of what was added so far.
  """

  def __init__(self, path: pathlib.Path):
    """Starts an empty shard; its file is created with the first record."""
    self.shard = Shard.empty()
    self._path = path
    self._writer: array_record_module.ArrayRecordWriter | None = None

  @property
  def is_full(self) -> bool:
    """Whether the shard has reached its size."""
    return self.shard.num_bytes >= SHARD_BYTES

  def add(self, task: EncodedTask) -> None:
    """Stores the records of a task, and adds its rows to the description."""
    shard = self.shard
    for record in task.records:
      if self._writer is None:
        self._writer = array_record_module.ArrayRecordWriter(str(self._path), WRITER_OPTIONS)
      self._writer.write(record)
      shard.num_bytes += len(record)
    shard.index += task.index
    shard.report += task.report
    for label in task.found:
      shard.found[label] = shard.found.get(label, 0) + 1
    shard.tasks += 1

  def close(self) -> Shard:
    """Closes the file, flushes it to disk and returns the description of the shard."""
    if self._writer is not None:
      self._writer.close()
      with self._path.open("rb") as file:
        os.fsync(file.fileno())
        self.shard.file_size = file.seek(0, os.SEEK_END)
    return self.shard


class SplitWriter:
  """Validates and stores the examples of one split.

  Attributes:
    name: the split.
    tasks: number of tasks in the finished shards.
    finished: number of finished shards.
    encoder: makes the records of the examples.
  """

  def __init__(self, folder: pathlib.Path, builder: tfds.core.DatasetBuilder, name: str):
    """Continues after the finished shards.

    Args:
      folder: folder of the unfinished build.
      builder: defines the features and the label names.
      name: the split.

    Raises:
      ValueError: a finished shard is missing or damaged.
    """
    self.name, self.tasks = name, 0
    self._folder = folder
    self.encoder = RecordEncoder(name, tuple(builder.info.features["label"].names))
    self._template = builder._get_filename_template(split_name=name)
    self._seen: set[str] = set()
    self.finished = 0
    self._restore_provisional_names()
    for shard in self.shards():
      path = self.path(self.finished)
      if shard.file_size and not (path.is_file() and path.stat().st_size == shard.file_size):
        raise ValueError(f"its shard {path.name} is missing or damaged")
      self._count(shard)
    self._open: OpenShard | None = None

  @property
  def examples(self) -> int:
    """Number of examples stored so far."""
    return len(self._seen)

  @property
  def is_full(self) -> bool:
    """Whether the open shard has reached its size."""
    return self._open is not None and self._open.is_full

  def shards(self) -> Iterator[Shard]:
    """Reads the descriptions of the finished shards, one by one: all together may be large.

    Raises:
      ValueError: a description is damaged.
    """
    number = 0
    while (path := self.path(number, ".json")).is_file():
      try:
        shard = Shard(**json.loads(path.read_bytes()))
      except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name} is damaged ({error!r})") from error
      yield shard
      number += 1

  def add(self, result: TaskResult) -> None:
    """Stores the result of the next task.

    Raises:
      ValueError: unknown label, duplicate name, neither JPEG nor PNG, targets that are not one
        per class, or valence or arousal outside [-1, 1].
    """
    task = self.encoder.encode(result)
    self.add_names(task)
    if self._open is None:
      self._open = OpenShard(self.path(self.finished))
    self._open.add(task)

  def add_names(self, task: EncodedTask) -> None:
    """Counts the examples of the next task.

    Raises:
      ValueError: another example has the name of one of them.
    """
    for row in task.index:
      if row["file"] in self._seen:
        raise ValueError(f"{row['file']}: two examples of split {self.name} have this name")
      self._seen.add(row["file"])

  def finish_shard(self) -> None:
    """Closes the open shard and writes its description; does nothing without a task in it."""
    if self._open is None:
      return
    shard = self._open.close()
    self._open = None
    write_atomically(self.path(self.finished, ".json"), json.dumps(vars(shard)).encode())
    self._count(shard)

  def give_final_names(self, shard_lengths: list[int], num_bytes: int) -> tfds.core.SplitInfo:
    """Moves the shards to their places in the dataset.

    Args:
      shard_lengths: number of records of each shard.
      num_bytes: bytes of all records.

    Returns:
      The split's description.
    """
    for number in range(len(shard_lengths)):
      self.path(number).rename(self._final_path(number, len(shard_lengths)))
    return tfds.core.SplitInfo(
      name=self.name,
      shard_lengths=shard_lengths,
      num_bytes=num_bytes,
      filename_template=self._template,
    )

  def _count(self, shard: Shard) -> None:
    self._seen.update(row["file"] for row in shard.index)
    self.tasks += shard.tasks
    self.finished += 1

  def path(self, number: int, suffix: str = ".array_record") -> pathlib.Path:
    """Path of a shard in the unfinished build, or with the suffix ".json" of its description."""
    return self._folder / SHARDS_FOLDER / f"{self.name}-{number:05d}{suffix}"

  def _final_path(self, number: int, count: int) -> pathlib.Path:
    name = self._template.relative_filepath(shard_index=number, num_shards=count)
    return self._folder / str(name)

  def _restore_provisional_names(self) -> None:
    """Reverts `give_final_names` by a build that was killed soon after."""
    count = sum(shard.file_size > 0 for shard in self.shards())
    for number in range(count):
      with contextlib.suppress(FileNotFoundError):
        self._final_path(number, count).rename(self.path(number))


@contextlib.contextmanager
def explain_full_disk(folder: pathlib.Path) -> Iterator[None]:
  """Converts errors caused by a full disk into one OSError that says what to do.

  array_record reports a failed write as a RuntimeError or ValueError without an errno.
  """
  try:
    yield
  except (OSError, RuntimeError, ValueError) as error:
    free = shutil.disk_usage(folder).free
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left" in str(error):
      raise OSError(
        errno.ENOSPC,
        f"the disk is full ({free / 2**20:.0f} MiB free); free some space and run the same "
        "command again: it continues where it stopped. Or choose another data_dir",
        os.fspath(folder),
      ) from error
    raise
