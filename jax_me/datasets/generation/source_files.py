"""The user's files as they lie on the disk: which there are, and whether they have changed."""

import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator


def walk_files(folder: pathlib.Path) -> Iterator[str]:
  """Relative names, with forward slashes, of all files under a folder, in a fixed order.

  Hidden files and folders (names starting with a dot) are passed over; links are followed, but
  not round in circles.
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
  folder: pathlib.Path, matters: Callable[[str], bool] = lambda name: True
) -> str:
  """Hash of the relative names, sizes and modification times of the files under a folder.

  Contents are not read: that would cost minutes at every start for a hundred gigabytes.

  Args:
    folder: where to look.
    matters: tells by its relative name whether a file counts.
  """
  digest = hashlib.sha256()
  for name in walk_files(folder):
    if not matters(name):
      continue
    try:
      status = (folder / name).stat()
    except FileNotFoundError:  # a link to nowhere: its name alone counts
      line = f"{name}\0gone\n"
    else:
      line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
    digest.update(line.encode("utf-8", "surrogateescape"))
  return digest.hexdigest()
