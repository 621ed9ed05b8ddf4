"""Writer of the shards of a build; every finished shard is a checkpoint of the build.

The shards of a split hold the records of consecutive tasks. A shard is finished when its
description lies beside it: index rows, report rows and counts of its tasks. A build that was
stopped continues after the last finished shard, so at most one shard's work is lost. Boundaries
depend on the records only: an interrupted build gives the same shards as another.
"""

import contextlib
import dataclasses
import errno
import io
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
from array_record.python import array_record_module

from jax_me.datasets.generation.build_report import report_record
from jax_me.datasets.generation.tasks import Example, TaskResult
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


class SplitWriter:
  """Validates and stores the examples of one split.

  Attributes:
    name: the split.
    tasks: number of tasks in the finished shards.
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
    self._folder, self._builder = folder, builder
    self._features = builder.info.features
    self._labels: list[str] = self._features["label"].names
    self._serializer = tfds.core.example_serializer.ExampleSerializer(
      self._features.get_serialized_info()
    )
    self._template = builder._get_filename_template(split_name=name)
    self._seen: set[str] = set()
    self._finished = 0
    self._restore_provisional_names()
    for shard in self.shards():
      path = self._path(self._finished)
      if shard.file_size and not (path.is_file() and path.stat().st_size == shard.file_size):
        raise ValueError(f"its shard {path.name} is missing or damaged")
      self._count(shard)
    self._open = Shard.empty()
    self._writer: array_record_module.ArrayRecordWriter | None = None

  @property
  def examples(self) -> int:
    """Number of examples stored so far."""
    return len(self._seen)

  @property
  def is_full(self) -> bool:
    """Whether the open shard has reached its size."""
    return self._open.num_bytes >= SHARD_BYTES

  def shards(self) -> Iterator[Shard]:
    """Reads the descriptions of the finished shards, one by one: all together may be large.

    Raises:
      ValueError: a description is damaged.
    """
    number = 0
    while (path := self._path(number, ".json")).is_file():
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
    shard = self._open
    shard.report += [report_record(row, self.name) for row in result.rows]
    for label in result.found:
      shard.found[label] = shard.found.get(label, 0) + 1
    for example in result.examples:
      self._write(example)
    shard.tasks += 1

  def finish_shard(self) -> None:
    """Closes the open shard and writes its description; does nothing without a task in it."""
    shard = self._open
    if not shard.tasks:
      return
    if self._writer is not None:
      self._writer.close()
      self._writer = None
      with self._path(self._finished).open("rb") as file:
        os.fsync(file.fileno())
        shard.file_size = file.seek(0, os.SEEK_END)
    write_atomically(self._path(self._finished, ".json"), json.dumps(vars(shard)).encode())
    self._count(shard)
    self._open = Shard.empty()

  def give_final_names(self, shard_lengths: list[int], num_bytes: int) -> tfds.core.SplitInfo:
    """Moves the shards to their places in the dataset.

    Args:
      shard_lengths: number of records of each shard.
      num_bytes: bytes of all records.

    Returns:
      The split's description.
    """
    for number in range(len(shard_lengths)):
      self._path(number).rename(self._final_path(number, len(shard_lengths)))
    return tfds.core.SplitInfo(
      name=self.name,
      shard_lengths=shard_lengths,
      num_bytes=num_bytes,
      filename_template=self._template,
    )

  def _write(self, example: Example) -> None:
    file = example.file
    if example.label not in self._labels:
      raise ValueError(f"{file}: label {example.label!r} is not one of {', '.join(self._labels)}")
    if file in self._seen:
      raise ValueError(f"{file}: two examples of split {self.name} have this name")
    if not example.image.startswith((b"\xff\xd8\xff", b"\x89PNG")):
      raise ValueError(f"{file}: the image is neither JPEG nor PNG")
    if len(example.targets) not in (0, len(self._labels)):
      raise ValueError(f"{file}: {len(example.targets)} targets for {len(self._labels)} classes")
    if len(example.affect) not in (0, 2) or any(not -1 <= value <= 1 for value in example.affect):
      raise ValueError(f"{file}: valence and arousal must be in [-1, 1], got {example.affect}")
    self._seen.add(file)
    row = dict(vars(example))
    image = io.BytesIO(row.pop("image"))
    in_index = {name: row.pop(name) for name in ("targets", "affect")}
    stored = {**row, "image": image}
    record = self._serializer.get_tf_example(self._features.encode_example(stored))
    # Otherwise the order of the fields would differ between processes.
    data = record.SerializeToString(deterministic=True)
    if self._writer is None:
      path = self._path(self._finished)
      self._writer = array_record_module.ArrayRecordWriter(str(path), WRITER_OPTIONS)
    self._writer.write(data)
    self._open.num_bytes += len(data)
    row["label"] = self._labels.index(example.label)
    row |= {name: values for name, values in in_index.items() if values}
    self._open.index.append(row)

  def _count(self, shard: Shard) -> None:
    self._seen.update(row["file"] for row in shard.index)
    self.tasks += shard.tasks
    self._finished += 1

  def _path(self, number: int, suffix: str = ".array_record") -> pathlib.Path:
    return self._folder / SHARDS_FOLDER / f"{self.name}-{number:05d}{suffix}"

  def _final_path(self, number: int, count: int) -> pathlib.Path:
    name = self._template.relative_filepath(shard_index=number, num_shards=count)
    return self._folder / str(name)

  def _restore_provisional_names(self) -> None:
    """Reverts `give_final_names` by a build that was killed soon after."""
    count = sum(shard.file_size > 0 for shard in self.shards())
    for number in range(count):
      with contextlib.suppress(FileNotFoundError):
        self._final_path(number, count).rename(self._path(number))


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
