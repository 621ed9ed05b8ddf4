"""Bounds-checked reading of a binary file whose stated lengths are not trusted."""

import hashlib
import pathlib
from typing import IO

from .errors import ConversionError


class BinaryFile:
  """An open file; every read is exactly as long as asked, or a ConversionError."""

  def __init__(self, path: pathlib.Path, stream: IO[bytes], size: int | None = None):
    self.path, self.stream = path, stream
    self.size = path.stat().st_size if size is None else size

  def sha256(self) -> str:
    self.stream.seek(0)
    digest = hashlib.sha256()
    while block := self.stream.read(2**20):
      digest.update(block)
    return digest.hexdigest()

  def head(self, count: int) -> bytes:
    self.stream.seek(0)
    return self.stream.read(count)

  def check_left(self, count: int) -> None:
    """Raises ConversionError unless `count` more bytes follow the current position."""
    left = self.size - self.stream.tell()
    if count > left:
      raise ConversionError(
        f"the file ends too early: {count} bytes are announced where {max(left, 0)} are left",
        remedy="the download is incomplete or damaged: fetch the file again",
      )

  def skip(self, count: int) -> None:
    self.check_left(count)
    self.stream.seek(count, 1)

  def read(self, count: int) -> bytes:
    """The next `count` bytes."""
    self.check_left(count)  # first: reading would allocate whatever the file claims
    data = self.stream.read(count)
    if len(data) != count:
      raise ConversionError("the file ends too early", remedy="fetch the file again")
    return data

  def readline(self) -> bytes:
    line = self.stream.readline(1000)
    if not line.endswith(b"\n"):
      raise ConversionError("the pickle is damaged (a name without an end)")
    return line[:-1]
