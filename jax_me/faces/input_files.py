"""Files of an input folder, their grouping into clips, and the names of their results."""

import collections
import dataclasses
import os
import pathlib
import re
import stat
from collections.abc import Iterable

from jax_me.bounded_reading import leaves_folder
from jax_me.faces import image_files

_DIGITS = re.compile(r"\d+")
# Suffix of a copied file: "img46 (1)" on Windows and in browsers, "img46 copy 2" on macOS.
_COPY_SUFFIX = re.compile(r"\s*\(\d+\)$|\s+copy(\s+\d+)?$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class SourceFile:
  """One file of the input folder.

  Attributes:
    name: path relative to the input folder, with forward slashes.
    is_image: whether it should be an image (a regular file with an image suffix).
    bytes: file size.
    modified: time of the last change, in nanoseconds since the epoch.
    leaves: whether it is a link to a place outside the input folder, which is not followed.
  """

  name: str
  is_image: bool
  bytes: int
  modified: int
  leaves: bool = False


@dataclasses.dataclass(frozen=True)
class AlignmentTask:
  """Images that are aligned as a unit: one photograph, or the ordered frames of a clip.

  Attributes:
    names: the source files, relative to the input folder.
    outputs: the files to write, relative to the output folder; one for each name.
    is_clip: whether all images share one transform.
  """

  names: tuple[str, ...]
  outputs: tuple[str, ...]
  is_clip: bool


def list_files(
  folder: pathlib.Path, *, without: pathlib.Path, follow_links: bool = False
) -> list[SourceFile]:
  """Lists all files below a folder, sorted by name; follows symbolic links but not loops.

  Args:
    folder: the input folder.
    without: a folder to skip with all its content (the output folder).
    follow_links: whether links that leave the folder are followed; else they are no images.

  Returns:
    the files.

  Raises:
    OSError: a folder cannot be read.
  """

  def fail(error: OSError) -> None:
    raise error

  files = []
  seen = {os.path.realpath(without)}
  for parent, folders, names in os.walk(folder, onerror=fail, followlinks=True):
    real = os.path.realpath(parent)
    if real in seen:
      folders.clear()
      continue
    seen.add(real)
    links = [] if follow_links else [n for n in folders if leaves_folder(f"{parent}/{n}", folder)]
    folders[:] = sorted(set(folders) - set(links))
    above = os.path.relpath(parent, folder).replace(os.sep, "/")
    prefix = "" if above == "." else f"{above}/"
    for name in names + links:
      path = os.path.join(parent, name)
      try:
        status = os.stat(path)
      except OSError:  # a broken link
        status = os.lstat(path)
      # Pipes and devices are never opened: reading them could block forever.
      readable = stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)
      leaves = not follow_links and leaves_folder(path, folder)
      is_image = readable and not leaves and image_files.is_image_name(name)
      files.append(SourceFile(prefix + name, is_image, status.st_size, status.st_mtime_ns, leaves))
  return sorted(files, key=lambda file: file.name)


def frame_number(name: str) -> int | None:
  """The last integer in a file name without suffix: `006_1/006_05562.jpg` -> 5562.

  The suffix that operating systems add to the name of a copy is not part of the number:
  "img46 (1).jpg" is frame 46. If it holds the only number, it counts: "frame (12).jpg" is 12.
  """
  stem = pathlib.PurePosixPath(name).stem
  digits = _DIGITS.findall(_COPY_SUFFIX.sub("", stem)) or _DIGITS.findall(stem)
  return int(digits[-1]) if digits else None


def _frame_sort_key(name: str) -> tuple[int | None, int, str]:
  """Sort key of frames: frame number, then copy number ("img46 (2).jpg"), then name."""
  match = _COPY_SUFFIX.search(pathlib.PurePosixPath(name).stem)
  copies = _DIGITS.findall(match[0]) if match else []
  return frame_number(name), int(copies[-1]) if copies else 0, name


def make_tasks(
  files: Iterable[SourceFile], *, clips: bool, image_format: str
) -> list[AlignmentTask]:
  """Groups the images into tasks.

  Args:
    files: result of `list_files`.
    clips: whether the numbered images of a folder are the frames of one clip, sorted by number
      (zero-padded or not).
    image_format: suffix of the results, without the dot.

  Returns:
    One task per photograph or clip, in the order of their first files.
  """
  files = [file for file in files if file.is_image]
  outputs = output_names([file.name for file in files], image_format)
  groups: dict[str, list[str]] = collections.defaultdict(list)
  for file in files:
    parent = str(pathlib.PurePosixPath(file.name).parent)
    # The trailing slash keeps folder keys distinct from image keys.
    is_frame = clips and frame_number(file.name) is not None
    groups[f"{parent}/" if is_frame else file.name].append(file.name)
  tasks = []
  for key, names in groups.items():
    is_clip = key.endswith("/")
    if is_clip:
      names.sort(key=_frame_sort_key)
    tasks.append(AlignmentTask(tuple(names), tuple(outputs[name] for name in names), is_clip))
  return tasks


def output_names(names: Iterable[str], image_format: str) -> dict[str, str]:
  """Output file name of each image: `a.jpg` -> `a.png`.

  Where several images of a folder would share a name (a.jpg and a.png), all keep their suffix:
  `a.jpg.png`, `a.png.png`. Names that differ only in case count as equal, as on some file systems.
  The result depends only on the set of names, so a second run gives the same names.
  """
  names = sorted(names)
  stems = collections.Counter(_without_suffix(name).casefold() for name in names)
  taken = {
    str(parent).casefold() for name in names for parent in pathlib.PurePosixPath(name).parents
  }
  result = {}
  for name in names:
    stem = _without_suffix(name)
    candidate = f"{stem if stems[stem.casefold()] == 1 else name}.{image_format}"
    number = 2
    while candidate.casefold() in taken:
      candidate = f"{name}.{number}.{image_format}"
      number += 1
    taken.add(candidate.casefold())
    result[name] = candidate
  return result


def _without_suffix(name: str) -> str:
  return name[: -len(pathlib.PurePosixPath(name).suffix) or None]
