"""Looking for a release's files below the user's folder: copies are nested in every way."""

import hashlib
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz")
_SHOWN_NAMES = 5


def walk_folders(
  folder: pathlib.Path, *, depth: int = 4, enter: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[pathlib.Path, list[str], list[str]]]:
  """(folder, its files, its folders) from the top down, names sorted, hidden ones left out.

  Args:
    folder: where to begin.
    depth: how many folders below it are still looked into.
    enter: tells by its name whether a folder is looked into.
  """
  seen: set[str] = set()
  level = [folder]
  for _ in range(depth + 1):
    below: list[pathlib.Path] = []
    for place in level:
      real = os.path.realpath(place)
      if real in seen:  # a link that leads back
        continue
      seen.add(real)
      files: list[str] = []
      folders: list[str] = []
      try:
        with os.scandir(place) as entries:
          for entry in entries:
            if not entry.name.startswith("."):
              (folders if entry.is_dir() else files).append(entry.name)
      except OSError:  # not ours to read: then the release is not in there
        continue
      yield place, sorted(files), sorted(folders)
      below += [place / name for name in sorted(folders) if enter(name)]
    level = below


def find_files(folder: pathlib.Path, names: Iterable[str], *, depth: int = 4) -> list[pathlib.Path]:
  """All files with one of these names, whatever their case; upper folders first."""
  wanted = {name.casefold() for name in names}
  return [
    place / name
    for place, files, _ in walk_folders(folder, depth=depth)
    for name in files
    if name.casefold() in wanted
  ]


def find_folders(
  folder: pathlib.Path,
  name: str,
  *,
  depth: int = 4,
  enter: Callable[[str], bool] = lambda name: True,
) -> list[pathlib.Path]:
  """All folders of this name, whatever their case, the given one included; upper ones first."""
  wanted = name.casefold()
  found = [folder] if folder.name.casefold() == wanted else []
  for place, _, folders in walk_folders(folder, depth=depth, enter=enter):
    found += [place / name for name in folders if name.casefold() == wanted]
  return found


def describe_missing(folder: pathlib.Path, what: str, *, hint: str = "") -> str:
  """The message for files that are not below a folder: what is there, and what to unpack first.

  Args:
    folder: where they were looked for.
    what: what was looked for.
    hint: part of an archive's name; archives without it are only named where none has it.
  """
  places = list(walk_folders(folder))
  archives = [
    (place / name).relative_to(folder).as_posix()
    for place, files, _ in places
    for name in files
    if name.lower().endswith(ARCHIVES)
  ]
  archives = [name for name in archives if hint and hint.casefold() in name.casefold()] or archives
  if archives:
    told = f"unpack {_listed(archives)} first"
  else:
    names = [name for names in places[0][1:] for name in names] if places else []
    told = f"it holds {_listed(sorted(names))}" if names else "it is empty"
  return f"manual_dir {folder} has no {what} ({told})."


def fingerprint(files: Iterable[pathlib.Path], folders: Iterable[pathlib.Path] = ()) -> str:
  """Hash of the files' names, sizes and times, and of the names of all files in the folders.

  Pictures are not asked for size and time: on a network disk that takes minutes at every start.
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


def _listed(names: list[str]) -> str:
  return ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
