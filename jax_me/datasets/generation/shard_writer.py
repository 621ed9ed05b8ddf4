"""Streams records into array_record shards, and says so plainly when the disk is full."""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from array_record.python import array_record_module

from jax_me.datasets.generation.progress_file import SplitProgress, open_cut

SHARD_BYTES = 128 * 2**20
# Photographs do not shrink further; group_size 1 is what random access needs.
WRITER_OPTIONS = "group_size:1,uncompressed"
# Before each record of a spool stands its length.
LENGTH_BYTES = 8


def shard_path(folder: pathlib.Path, name: str, number: int) -> pathlib.Path:
  """A shard of a split under its provisional name: how many there will be is not known yet."""
  return folder / f"{name}.shard{number:05d}.part"


class ShardWriter:
  """Writes records one after another into files of about SHARD_BYTES.

  An array_record file cannot be continued after a kill, so a shard's records first go to a plain
  file, the spool, which can be cut after any record. Where shards end depends on nothing but the
  records and where `seal` is called: an interrupted build gives the same shards as another.
  """

  def __init__(self, folder: pathlib.Path, name: str, progress: SplitProgress):
    """Goes on where `progress` ends.

    Args:
      folder: where the shards are to lie.
      name: the split.
      progress: what is written already; it is kept up to date here.

    Raises:
      ValueError: the files in the folder are not those that `progress` tells of.
    """
    self._folder, self._name, self._progress = folder, name, progress
    for number, size in enumerate(progress.shard_sizes):
      path = shard_path(self._folder, self._name, number)
      if not path.is_file() or path.stat().st_size != size:
        raise ValueError(f"its shard {path.name} is missing or damaged")
    self._spool = self._open_spool()

  def close(self) -> None:
    """Closes the spool as it is."""
    self._spool.close()

  @property
  def is_full(self) -> bool:
    """Whether the shard under way has reached its size."""
    return self._progress.open_bytes >= SHARD_BYTES

  def write(self, record: bytes) -> None:
    """Adds a record to the shard under way."""
    self._spool.write(len(record).to_bytes(LENGTH_BYTES, "little"))
    self._spool.write(record)
    self._progress.open_records += 1
    self._progress.open_bytes += len(record)

  def sync(self) -> None:
    """Brings everything written to the disk."""
    self._spool.flush()
    os.fsync(self._spool.fileno())

  def seal(self) -> None:
    """Ends the shard under way; without a record in it there is none.

    Its spool is deleted by `remove_spools` only, once the journal knows the shard.
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

  def _open_spool(self) -> Any:
    progress = self._progress
    return open_cut(self._spool_path(), progress.open_bytes + progress.open_records * LENGTH_BYTES)


@contextlib.contextmanager
def explain_full_disk(folder: pathlib.Path) -> Iterator[None]:
  """Turns whatever a full disk made fail into one OSError that names the disk and the remedy.

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
