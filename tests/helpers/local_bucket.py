"""A bucket of Apache Beam's file systems, `local://NAME/...`, kept in a folder, for tests."""

import fnmatch
import os
import pathlib

from apache_beam.io.filesystem import FileMetadata, MatchResult
from apache_beam.io.localfilesystem import LocalFileSystem

# The folder that holds the buckets; set by a test.
ROOT: list[pathlib.Path] = []
SCHEME = "local"


def _path(address: str) -> str:
  return str(ROOT[-1] / address.removeprefix(f"{SCHEME}://"))


class LocalBuckets(LocalFileSystem):
  """Like an object store, it needs no folders to be created."""

  @classmethod
  def scheme(cls):
    return SCHEME

  def create(self, path, *arguments):
    return super().create(_path(path), *arguments)

  def open(self, path, *arguments):
    return super().open(_path(path), *arguments)

  def exists(self, path):
    return super().exists(_path(path))

  def rename(self, sources, destinations):
    super().rename([_path(path) for path in sources], [_path(path) for path in destinations])

  def delete(self, paths):
    super().delete([_path(path) for path in paths])

  def match(self, patterns, limits=None):
    found = []
    for pattern in patterns:
      folder, _, names = pattern.rpartition("/")
      there = sorted(os.listdir(_path(folder))) if os.path.isdir(_path(folder)) else []
      listed = [f"{folder}/{name}" for name in fnmatch.filter(there, names)]
      metadata = [FileMetadata(name, os.path.getsize(_path(name))) for name in listed]
      found.append(MatchResult(pattern, metadata))
    return found
