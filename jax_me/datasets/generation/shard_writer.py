"""Writer of array_record shards that can resume, and a clear error for full disks."""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import BinaryIO

from array_record.python import array_record_module

from jax_me.datasets.generation.progress_file import SplitProgress, open_truncated

SHARD_BYTES = 128 * 2**20
# Encoded images do not compress further; random access needs group_size 1.
WRITER_OPTIONS = "group_size:1,uncompressed"
# Each record of a spool is preceded by its length.
LENGTH_BYTES = 8


def shard_path(folder: pathlib.Path, name: str, number: int) -> pathlib.Path:
  """Provisional path of a shard, used until the number of shards is known.

  Args:
    folder: folder of the dataset.
    name: the split.
    number: the shard, from 0.

  Returns:
    The path.
  """
  return folder / f"{name}.shard{number:05d}.part"


class ShardWriter:
  """Writes records one after another into files of about SHARD_BYTES.

  An array_record file cannot be continued after a crash, so a shard's records first go to a plain
  file, the spool, which can be truncated after any record. Shard boundaries depend only on the
  records and on the calls of `finish_shard`: an interrupted build gives the same shards as another.
  """

  def __init__(self, folder: pathlib.Path, name: str, progress: SplitProgress):
    """Continues where `progress` ends.

    Args:
      folder: folder of the shards.
      name: the split.
      progress: what is written already; it is updated by the writer.

    Raises:
      ValueError: the files in the folder do not match `progress`.
    """
    self._folder, self._name, self._progress = folder, name, progress
    for number, size in enumerate(progress.shard_sizes):
      path = shard_path(self._folder, self._name, number)
      if not path.is_file() or path.stat().st_size != size:
        raise ValueError(f"its shard {path.name} is missing or damaged")
    self._spool = self._open_spool()

  def close(self) -> None:
    """Closes the spool."""
    self._spool.close()

  @property
  def is_full(self) -> bool:
    """Whether the open shard has reached its size."""
    return self._progress.open_bytes >= SHARD_BYTES

  def write(self, record: bytes) -> None:
    """Adds a record to the open shard."""
    self._spool.write(len(record).to_bytes(LENGTH_BYTES, "little"))
    self._spool.write(record)
    self._progress.open_records += 1
    self._progress.open_bytes += len(record)

  def sync(self) -> None:
    """Flushes everything to disk."""
    self._spool.flush()
    os.fsync(self._spool.fileno())

  def finish_shard(self) -> None:
    """Writes the open shard, if it has any record.

    Its spool is deleted by `remove_spools`, after the progress file records the shard.
    """
    progress = self._progress
    if not progress.open_records:
      return
    self._spool.close()
    path = shard_path(self._folder, self._name, len(progress.shard_records))
    path.unlink(missing_ok=True)
    writer = array_record_module.ArrayRecordWriter(str(path), WRITER_OPTIONS)
    with self._spool_path().open("rb") as spool:
      for _ in range(progress.open_records):
        length = int.from_bytes(spool.read(LENGTH_BYTES), "little")
        writer.write(spool.read(length))
    writer.close()
    with path.open("rb") as shard:
      os.fsync(shard.fileno())
    progress.shard_records.append(progress.open_records)
    progress.shard_bytes.append(progress.open_bytes)
    progress.shard_sizes.append(path.stat().st_size)
    progress.open_records = progress.open_bytes = 0
    self._spool = self._open_spool()

  def remove_spools(self) -> None:
    """Deletes the spools of the finished shards."""
    for path in self._folder.glob(f"{self._name}.shard*.spool"):
      if path != self._spool_path() or self._spool.closed:
        path.unlink()

  def _spool_path(self) -> pathlib.Path:
    return shard_path(self._folder, self._name, len(self._progress.shard_records)).with_suffix(
      ".spool"
    )

  def _open_spool(self) -> BinaryIO:
    progress = self._progress
    return open_truncated(
      self._spool_path(), progress.open_bytes + progress.open_records * LENGTH_BYTES
    )


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
