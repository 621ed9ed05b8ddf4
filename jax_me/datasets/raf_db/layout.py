"""File search for RAF-DB, and the reader of its label lists: one RafDbImage per image."""

import collections
import pathlib
import re
from collections.abc import Iterable

from jax_me.datasets.generation.source_files import (
  describe_missing,
  find_files,
  find_folders,
  single_path,
)
from jax_me.datasets.generation.tasks import ReportRow, problem
from jax_me.datasets.raf_db.manual_attributes import RafDbImage
from jax_me.faces.image_files import is_image_name

SPLITS = ("train", "test")
# In the order of the codes in the files, 1 to 7; a stored label is one less.
EMOTIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
# The first spelling is the release's, the second its readme's. Some copies have the same lines
# divided into one file per split.
LISTS = (
  ("list_patition_label.txt",),
  ("list_partition_label.txt",),
  ("train_label.txt", "test_label.txt"),
  ("train.txt", "test.txt"),
)
INSTRUCTIONS = """
RAF-DB is available to research groups on request: see http://www.whdeng.cn/RAF/model1.html. Unpack
all files, including the inner zip files, and pass the folder "basic" or one above it:
  basic/EmoLabel/list_patition_label.txt
  basic/Image/aligned/train_00001_aligned.jpg    (aligned.zip)
  basic/Image/original/train_00001.jpg           (original.zip)
  basic/Annotation/manual/train_00001_manu_attri.txt    (manual.zip; optional)"""

_NAME = re.compile(r"(train|test)_(\d+)(?:_aligned)?\.(?:jpe?g|png)", re.IGNORECASE)
_ATTRIBUTES = re.compile(r"(train|test)_(\d+)_manu_attri\.txt", re.IGNORECASE)

# (split, number) of an image; copies pad the numbers differently.
ImageKey = tuple[str, int]


def _parse_name(pattern: re.Pattern[str], name: str) -> ImageKey | None:
  match = pattern.fullmatch(name)
  return (match[1].lower(), int(match[2])) if match else None


def find_lists(folder: pathlib.Path) -> list[pathlib.Path]:
  """The file or files with the labels.

  Raises:
    ValueError: no label file is found, or several copies of one.
  """
  for names in LISTS:
    found = find_files(folder, names)
    if len({path.name.casefold() for path in found}) < len(found):
      single_path(folder, found, "the labels of RAF-DB")
    if found:
      return found
  what = f"labels of RAF-DB (EmoLabel/{LISTS[0][0]})"
  raise ValueError(describe_missing(folder, what, hint="basic") + INSTRUCTIONS)


def find_images(folder: pathlib.Path, kind: str) -> pathlib.Path:
  """The folder with the images of a kind, "aligned" or "original".

  Raises:
    ValueError: no such folder, or several; the message names the archive to unpack.
  """
  found = [path for path in find_folders(folder, kind) if _contains_name(path, _NAME)]
  if path := single_path(folder, found, f"the {kind} images of RAF-DB"):
    return path
  what = f"{kind} images of RAF-DB (Image/{kind}/train_00001...jpg)"
  raise ValueError(describe_missing(folder, what, hint=f"{kind}.") + INSTRUCTIONS)


def find_attributes(folder: pathlib.Path) -> pathlib.Path | None:
  """The folder with the manual attributes; None if there is none."""
  found = [path for path in find_folders(folder, "manual") if _contains_name(path, _ATTRIBUTES)]
  return found[0] if found else None


def _contains_name(folder: pathlib.Path, pattern: re.Pattern[str]) -> bool:
  return any(pattern.fullmatch(path.name) for path in folder.iterdir())


def list_images(
  lists: Iterable[pathlib.Path], images: pathlib.Path
) -> tuple[dict[str, list[RafDbImage]], list[ReportRow]]:
  """The listed images of each split, ordered by number, and report rows of what is left out.

  Args:
    lists: label files from `find_lists`.
    images: image folder from `find_images`.
  """
  names: dict[ImageKey, str] = {}
  rows = []
  for name in sorted(path.name for path in images.iterdir() if is_image_name(path.name)):
    key = _parse_name(_NAME, name)
    if key is None:
      rows.append(problem(name, "unexpected_name", "unlike train_00001.jpg"))
    elif key in names:
      rows.append(problem(name, "second_image", names[key]))
    else:
      names[key] = name
  labels, problems = _read_labels(lists)
  rows += problems
  splits: dict[str, list[RafDbImage]] = {split: [] for split in SPLITS}
  for key, label in sorted(labels.items()):
    # A listed image without a file is kept: the task reports it as missing.
    file = names.pop(key, None) or f"{key[0]}_{key[1]:0{5 if key[0] == 'train' else 4}d}.jpg"
    splits[key[0]].append(RafDbImage(file, label))
  rows += [problem(name, "not_listed", "no label") for name in names.values()]
  return {split: listed for split, listed in splits.items() if listed}, rows


def _read_labels(lists: Iterable[pathlib.Path]) -> tuple[dict[ImageKey, str], list[ReportRow]]:
  seen: dict[ImageKey, list[tuple[str, int]]] = collections.defaultdict(list)
  rows = []
  for path in lists:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
      if not line.strip():
        continue
      location = f"{path.name}:{number}"
      cells = line.split()
      key = _parse_name(_NAME, cells[0].replace("\\", "/").rpartition("/")[2])
      if len(cells) != 2 or key is None:
        detail = f"expected a line like 'train_00001.jpg 5': {line[:60]}"
        rows.append(problem(location, "bad_row", detail))
      elif cells[1] not in [str(code) for code in range(1, len(EMOTIONS) + 1)]:
        detail = f"{cells[1][:20]} is not a code from 1 to 7"
        rows.append(problem(location, "bad_row", detail))
      else:
        seen[key].append((location, int(cells[1])))
  labels = {}
  for key, lines in seen.items():
    if len({code for _, code in lines}) > 1:
      detail = " and ".join(f"{location} has {code}" for location, code in lines)
      rows.append(problem(f"{key[0]}_{key[1]}", "contradictory", detail))
      continue
    labels[key] = EMOTIONS[lines[0][1] - 1]
    first = lines[0][0]
    rows += [problem(line, "duplicate", f"same as {first}") for line, _ in lines[1:]]
  return labels, rows
