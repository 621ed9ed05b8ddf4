"""Streams records into array_record shards, and says so plainly when the disk is full."""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from array_record.python import array_record_module

SHARD_BYTES = 256 * 2**20
# Photographs do not shrink further; group_size 1 is what random access needs.
WRITER_OPTIONS = "group_size:1,uncompressed"
LOW_DISK_BYTES = 16 * 2**20


class ShardWriter:
  """Writes records one after another into files of about SHARD_BYTES.

  Attributes:
    paths: the finished files, named provisionally; the caller renames them.
    lengths: number of records of each file.
    bytes_written: payload of all records.
  """

  def __init__(self, folder: pathlib.Path, name: str):
    self.paths: list[pathlib.Path] = []
    self.lengths: list[int] = []
    self.bytes_written = 0
    self._folder = folder
    self._name = name
    self._writer: Any = None
    self._shard_bytes = 0

  def __enter__(self) -> "ShardWriter":
    return self

  def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
    if kind is None:
      self._close()

  def write(self, record: bytes) -> None:
    if self._writer is None or self._shard_bytes >= SHARD_BYTES:
      self._close()
      path = self._folder / f"{self._name}.shard{len(self.paths):05d}.part"
      self._writer = array_record_module.ArrayRecordWriter(str(path), WRITER_OPTIONS)
      self.paths.append(path)
      self.lengths.append(0)
      self._shard_bytes = 0
    self._writer.write(record)
    self.lengths[-1] += 1
    self._shard_bytes += len(record)
    self.bytes_written += len(record)

  def _close(self) -> None:
    if self._writer is not None:
      self._writer.close()
      self._writer = None


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
        f"the disk is full ({free / 2**20:.0f} MiB free); free some space or choose another "
        "data_dir. Nothing of this build was kept",
        os.fspath(folder.parent),
      ) from error
    raise
