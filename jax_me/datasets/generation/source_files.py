"""Listing and fingerprint of the files below the user's folder."""

import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator


def walk_files(folder: pathlib.Path) -> Iterator[str]:
  """Yields the relative names, with forward slashes, of all files below a folder in a fixed order.

  Hidden files and folders (names starting with a dot) are skipped; links are followed, but no
  folder is visited twice.
  """
  seen = set()
  for parent, folders, names in os.walk(folder, followlinks=True):
    real = os.path.realpath(parent)
    if real in seen:
      folders.clear()
      continue
    seen.add(real)
    folders[:] = sorted(name for name in folders if not name.startswith("."))
    for name in sorted(names):
      if not name.startswith("."):
        yield os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, "/")


def fingerprint_folder(
  folder: pathlib.Path, include: Callable[[str], bool] = lambda name: True
) -> str:
  """Hash of the relative names, sizes and modification times of the files below a folder.

  Contents are not read: that would take minutes at every start for a hundred gigabytes.

  Args:
    folder: the folder.
    include: whether a file is included, given its relative name.
  """
  digest = hashlib.sha256()
  for name in walk_files(folder):
    if not include(name):
      continue
    try:
      status = (folder / name).stat()
    except FileNotFoundError:  # a broken link: only its name is included
      line = f"{name}\0gone\n"
    else:
      line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
    digest.update(line.encode("utf-8", "surrogateescape"))
  return digest.hexdigest()
