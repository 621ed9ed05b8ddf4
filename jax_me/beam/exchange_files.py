"""Files that the launching process and the workers of a Beam runner share, in a folder or bucket.

A result is written under a temporary name and renamed, so that it exists as a whole or not at all.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

from jax_me.files import write_atomically

_DESCRIPTION, _CONTENT = ".json", ".bin"


@dataclasses.dataclass(frozen=True)
class StoredResult:
  """Files of the result of a call.

  Attributes:
    stem: their common path, without suffix.
  """

  stem: str

  @property
  def name(self) -> str:
    """File name of the description; the result is complete when it exists."""
    return self.stem.rpartition("/")[2] + _DESCRIPTION

  def is_complete(self) -> bool:
    """Whether both values are written."""
    return exists(self.stem + _DESCRIPTION)

  def write(self, description: bytes, content: bytes) -> None:
    """Stores the two values of a call, the description last."""
    if content:
      write_whole(self.stem + _CONTENT, content)
    write_whole(self.stem + _DESCRIPTION, description)

  def description(self) -> bytes:
    """The first of the two values that the call returned."""
    return read_whole(self.stem + _DESCRIPTION)

  @contextlib.contextmanager
  def content(self) -> Iterator[Any]:
    """Opens the second value, which must not be empty, as a binary file."""
    with open_file(self.stem + _CONTENT) as file:
      yield file

  def move_content(self, path: pathlib.Path) -> None:
    """Moves the second value to a file; from a bucket, through this process."""
    if not is_remote(self.stem):
      os.replace(self.stem + _CONTENT, path)
      return
    with self.content() as source:
      write_atomically(path, source.read())


def is_remote(path: str) -> bool:
  """Whether a path is an address in a bucket, such as gs://bucket/folder."""
  return "://" in path


def _systems() -> Any:
  """Beam's access to buckets."""
  from apache_beam.io.filesystems import FileSystems

  return FileSystems


def open_file(path: str) -> Any:
  """Opens a file for reading bytes."""
  return _systems().open(path) if is_remote(path) else open(path, "rb")


def create_file(path: str) -> Any:
  """Opens a new file for writing bytes."""
  return _systems().create(path) if is_remote(path) else open(path, "wb")


def read_whole(path: str) -> bytes:
  """Content of a file."""
  with open_file(path) as file:
    return file.read()


def write_whole(path: str, data: bytes) -> None:
  """Writes a file as a whole. Its folder is not created: a late worker may find it finished."""
  partial = f"{path}.{uuid.uuid4().hex}.partial"
  with create_file(partial) as file:
    file.write(data)
    if not is_remote(path):
      file.flush()
      os.fsync(file.fileno())
  if is_remote(path):
    _systems().rename([partial], [path])
  else:
    os.replace(partial, path)


def exists(path: str) -> bool:
  """Whether there is a file."""
  return _systems().exists(path) if is_remote(path) else os.path.exists(path)


def file_names(folder: str) -> set[str]:
  """Names of the files in a folder."""
  if not is_remote(folder):
    return set(os.listdir(folder))
  (found,) = _systems().match([f"{folder}/*"])
  return {metadata.path.rpartition("/")[2] for metadata in found.metadata_list}


def remove_folder(folder: str) -> None:
  """Removes a folder with its files; it may not exist."""
  if not is_remote(folder):
    shutil.rmtree(folder, ignore_errors=True)
  elif names := file_names(folder):
    _systems().delete([f"{folder}/{name}" for name in sorted(names)])
