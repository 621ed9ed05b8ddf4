"""What lies in an input folder: its files, the clips they form, the names of their results."""

import collections
import dataclasses
import os
import pathlib
import re
import stat
from collections.abc import Iterable, Iterator

from jax_me.faces import image_files

_DIGITS = re.compile(r"\d+")
# Of a second copy: "img46 (1)" on Windows and in browsers, "img46 copy 2" on macOS.
_COPY_SUFFIX = re.compile(r"\s*\(\d+\)$|\s+copy(\s+\d+)?$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class SourceFile:
  """One file of the input folder.

  Attributes:
    name: path relative to the input folder, with forward slashes.
    is_image: whether it is meant to be a picture (a regular file with a picture's ending).
    bytes: its size.
    modified: time of the last change, in nanoseconds.
  """

  name: str
  is_image: bool
  bytes: int
  modified: int


@dataclasses.dataclass(frozen=True)
class Task:
  """Pictures that are aligned together: one photograph, or the frames of a clip in their order.

  Attributes:
    names: the source files, relative to the input folder.
    outputs: the files to write, relative to the output folder; one for each name.
    is_clip: whether one transform is shared.
  """

  names: tuple[str, ...]
  outputs: tuple[str, ...]
  is_clip: bool


def list_files(folder: pathlib.Path, *, without: pathlib.Path) -> list[SourceFile]:
  """Lists all files below a folder, sorted by name; symbolic links are followed, loops are not.

  Args:
    folder: the input folder.
    without: a folder that is passed over with all its content (the output folder).

  Raises:
    OSError: a folder cannot be read.
  """
  files = list(_walk(folder, "", {without.resolve()}))
  return sorted(files, key=lambda file: file.name)


def _walk(folder: pathlib.Path, prefix: str, seen: set[pathlib.Path]) -> Iterator[SourceFile]:
  real = folder.resolve()
  if real in seen:
    return
  seen.add(real)
  with os.scandir(folder) as entries:
    for entry in sorted(entries, key=lambda entry: entry.name):
      if entry.is_dir():
        yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", seen)
        continue
      try:
        status = entry.stat()
      except OSError:  # a link to nowhere
        status = entry.stat(follow_symlinks=False)
      # Pipes and devices are never opened: reading them could wait for ever.
      readable = stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)
      is_image = readable and image_files.is_image_name(entry.name)
      yield SourceFile(prefix + entry.name, is_image, status.st_size, status.st_mtime_ns)


def frame_number(name: str) -> int | None:
  """The last integer in a file's name, without its ending: `006_1/006_05562.jpg` -> 5562.

  The suffix that operating systems add to the name of a copy is not part of the number:
  "img46 (1).jpg" is frame 46. Where it holds the only number, it counts: "frame (12).jpg" is 12.
  """
  stem = pathlib.PurePosixPath(name).stem
  digits = _DIGITS.findall(_COPY_SUFFIX.sub("", stem)) or _DIGITS.findall(stem)
  return int(digits[-1]) if digits else None


def _frame_order(name: str) -> tuple[int | None, int, str]:
  """Sorting key of frames; copies of one frame, "img46 (2).jpg", follow in the order of theirs."""
  match = _COPY_SUFFIX.search(pathlib.PurePosixPath(name).stem)
  copies = _DIGITS.findall(match[0]) if match else []
  return frame_number(name), int(copies[-1]) if copies else 0, name


def make_tasks(files: Iterable[SourceFile], *, clips: bool, image_format: str) -> list[Task]:
  """Groups the pictures into tasks.

  Args:
    files: as `list_files` gives them.
    clips: whether the numbered pictures of a folder are the frames of one clip; frames are in the
      order of their numbers, whether padded or not.
    image_format: ending of the results.
  """
  files = [file for file in files if file.is_image]
  outputs = output_names([file.name for file in files], image_format)
  groups: dict[str, list[str]] = collections.defaultdict(list)
  for file in files:
    parent = str(pathlib.PurePosixPath(file.name).parent)
    # A folder's name cannot be that of a picture in the mapping: it ends with a slash.
    is_frame = clips and frame_number(file.name) is not None
    groups[f"{parent}/" if is_frame else file.name].append(file.name)
  tasks = []
  for key, names in groups.items():
    is_clip = key.endswith("/")
    if is_clip:
      names.sort(key=_frame_order)
    tasks.append(Task(tuple(names), tuple(outputs[name] for name in names), is_clip))
  return tasks


def output_names(names: Iterable[str], image_format: str) -> dict[str, str]:
  """Names the result of each picture: `a.jpg` -> `a.png`, and where several pictures of a folder
  would share that name (a.jpg and a.png) all of them keep theirs: `a.jpg.png`, `a.png.png`.

  Names that differ by case only count as equal, since some file systems take them so. The result
  depends on the set of names alone, so that a second run names everything alike.
  """
  names = sorted(names)
  stems = collections.Counter(_without_ending(name).casefold() for name in names)
  taken = {
    str(parent).casefold() for name in names for parent in pathlib.PurePosixPath(name).parents
  }
  result = {}
  for name in names:
    stem = _without_ending(name)
    candidate = f"{stem if stems[stem.casefold()] == 1 else name}.{image_format}"
    number = 2
    while candidate.casefold() in taken:
      candidate = f"{name}.{number}.{image_format}"
      number += 1
    taken.add(candidate.casefold())
    result[name] = candidate
  return result


def _without_ending(name: str) -> str:
  return name[: -len(pathlib.PurePosixPath(name).suffix) or None]
