"""Search for a release's files below the user's folder, and fingerprints of these files."""

import contextlib
import contextvars
import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from jax_me.bounded_reading import leaves_folder

# Whether links to places outside the folder are followed; see `following_links`.
_FOLLOW_LINKS = contextvars.ContextVar("follow_links", default=False)

ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz")
_MAX_LISTED_NAMES = 5


@contextlib.contextmanager
def following_links(follow: bool) -> Iterator[None]:
  """Sets whether the walks in the body follow links that leave the folder."""
  token = _FOLLOW_LINKS.set(follow)
  try:
    yield
  finally:
    _FOLLOW_LINKS.reset(token)


def ignored_links(folder: pathlib.Path) -> list[str]:
  """Relative names of the links below a folder that leave it and are not followed."""
  if _FOLLOW_LINKS.get():
    return []
  return [
    os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, "/")
    for parent, folders, names in os.walk(folder)
    for name in sorted(folders + names)
    if not name.startswith(".") and leaves_folder(os.path.join(parent, name), folder)
  ]


def _is_walked(path: str | os.PathLike[str], top: pathlib.Path) -> bool:
  """Whether a walk from `top` visits a path, which may be a link."""
  return _FOLLOW_LINKS.get() or not leaves_folder(path, top)


def walk_folders(
  folder: pathlib.Path, *, depth: int = 4, enter: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[pathlib.Path, list[str], list[str]]]:
  """Walks folders level by level; hidden files and folders are skipped.

  Args:
    folder: the top folder.
    depth: number of levels below it that are searched.
    enter: whether a folder is searched, given its name.

  Yields:
    (folder, names of its files, names of its folders), names sorted.
  """
  seen: set[str] = set()
  level = [folder]
  for _ in range(depth + 1):
    below: list[pathlib.Path] = []
    for current in level:
      real = os.path.realpath(current)
      if real in seen:  # a link to a folder above
        continue
      seen.add(real)
      files: list[str] = []
      folders: list[str] = []
      try:
        with os.scandir(current) as entries:
          for entry in entries:
            if not entry.name.startswith(".") and _is_walked(entry.path, folder):
              (folders if os.path.isdir(entry.path) else files).append(entry.name)
      except OSError:  # no permission: the release cannot be in there
        continue
      yield current, sorted(files), sorted(folders)
      below += [current / name for name in sorted(folders) if enter(name)]
    level = below


def find_files(folder: pathlib.Path, names: Iterable[str]) -> list[pathlib.Path]:
  """Finds all files with one of the names, ignoring case; upper folders first."""
  wanted = {name.casefold() for name in names}
  return [
    parent / name
    for parent, files, _ in walk_folders(folder)
    for name in files
    if name.casefold() in wanted
  ]


def find_folders(
  folder: pathlib.Path, name: str, *, enter: Callable[[str], bool] = lambda name: True
) -> list[pathlib.Path]:
  """Finds all folders of a name, ignoring case; upper folders first.

  Args:
    folder: the top folder, which may have the name itself.
    name: the name.
    enter: whether a folder is searched, given its name.

  Returns:
    Paths of the folders.
  """
  wanted = name.casefold()
  found = [folder] if folder.name.casefold() == wanted else []
  for parent, _, folders in walk_folders(folder, enter=enter):
    found += [parent / name for name in folders if name.casefold() == wanted]
  return found


def numeric_key(text: str) -> list[tuple[int, int, str]]:
  """Sorting key that compares digits as numbers: "img9" before "img10"."""
  parts = re.split(r"(\d+)", text)
  return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def single_path(
  folder: pathlib.Path, found: Sequence[pathlib.Path], what: str
) -> pathlib.Path | None:
  """Returns the only path that was found.

  Args:
    folder: the folder that was searched.
    found: the paths.
    what: what was searched for.

  Returns:
    The path; None if there is none.

  Raises:
    ValueError: there are several copies.
  """
  if len(found) > 1:
    raise ValueError(
      f"manual_dir {folder} has {what} more than once ({', '.join(map(str, found))}); give the "
      "folder of one copy."
    )
  return found[0] if found else None


def describe_missing(folder: pathlib.Path, what: str, *, hint: str = "") -> str:
  """Returns the error message for files that were not found.

  Args:
    folder: the folder that was searched.
    what: what was searched for.
    hint: part of an archive's name; archives without it are named only if none has it.

  Returns:
    A sentence that names the content of the folder, or the archives to unpack first.
  """
  walked = list(walk_folders(folder))
  archives = [
    (parent / name).relative_to(folder).as_posix()
    for parent, files, _ in walked
    for name in files
    if name.lower().endswith(ARCHIVES)
  ]
  archives = [name for name in archives if hint and hint.casefold() in name.casefold()] or archives
  if archives:
    found = f"unpack {_join_names(archives)} first"
  else:
    names = [name for names in walked[0][1:] for name in names] if walked else []
    found = f"it holds {_join_names(sorted(names))}" if names else "it is empty"
  return f"manual_dir {folder} has no {what} ({found})."


def fingerprint_files(files: Iterable[pathlib.Path], folders: Iterable[pathlib.Path] = ()) -> str:
  """Hash of the files' names, sizes and times, and of the names of all files in the folders.

  Sizes and times of images are not read: on a network disk that takes minutes at every start.
  """
  digest = hashlib.sha256()
  for path in files:
    status = path.stat()
    digest.update(_line(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}"))
  for folder in folders:
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    digest.update(_line("\n".join([folder.name, *names])))
  return digest.hexdigest()


def _line(text: str) -> bytes:
  return f"{text}\n".encode("utf-8", "surrogateescape")


def _join_names(names: list[str]) -> str:
  return ", ".join(names[:_MAX_LISTED_NAMES]) + (", ..." if len(names) > _MAX_LISTED_NAMES else "")


def walk_files(folder: pathlib.Path) -> Iterator[str]:
  """Yields the relative names, with forward slashes, of all files below a folder in a fixed order.

  Hidden files and folders (names starting with a dot) are skipped, and links that leave the folder
  unless `following_links`; other links are followed, but no folder is visited twice.
  """
  seen = set()
  for parent, folders, names in os.walk(folder, followlinks=True):
    real = os.path.realpath(parent)
    if real in seen:
      folders.clear()
      continue
    seen.add(real)
    folders[:] = sorted(
      name
      for name in folders
      if not name.startswith(".") and _is_walked(os.path.join(parent, name), folder)
    )
    for name in sorted(names):
      if not name.startswith(".") and _is_walked(os.path.join(parent, name), folder):
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
    except OSError:  # a broken link, or a loop of links: only its name is included
      line = f"{name}\0gone\n"
    else:
      line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
    digest.update(line.encode("utf-8", "surrogateescape"))
  return digest.hexdigest()
