"""Where RAF-DB's files lie below a folder, and its list of labels -> one Picture an image."""

import collections
import pathlib
import re
from collections.abc import Iterable

from jax_me.datasets.generation.example import Row
from jax_me.datasets.generation.find_files import describe_missing, find_files, find_folders
from jax_me.datasets.generation.process_images import Picture
from jax_me.faces.image_files import is_image_name

SPLITS = ("train", "test")
# In the order of the codes in the files, 1 to 7; a stored label is one less.
EMOTIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
# The release spells the first so, its readme the second. The others are copies' own divisions of
# the same lines, which give nothing more.
LISTS = (
  ("list_patition_label.txt",),
  ("list_partition_label.txt",),
  ("train_label.txt", "test_label.txt"),
  ("train.txt", "test.txt"),
)
INSTRUCTIONS = """
RAF-DB is given to research groups on request: see http://www.whdeng.cn/RAF/model1.html. Unpack
what you receive, the zip files in it too, and give the folder "basic" or one above it:
  basic/EmoLabel/list_patition_label.txt
  basic/Image/aligned/train_00001_aligned.jpg    (aligned.zip)
  basic/Image/original/train_00001.jpg           (original.zip)
  basic/Annotation/manual/train_00001_manu_attri.txt    (manual.zip; may be left out)"""

_NAME = re.compile(r"(train|test)_(\d+)(?:_aligned)?\.(?:jpe?g|png)", re.IGNORECASE)
_ATTRIBUTES = re.compile(r"(train|test)_(\d+)_manu_attri\.txt", re.IGNORECASE)

# Which split and number an image is; copies pad the numbers differently.
Key = tuple[str, int]


def _key(pattern: re.Pattern[str], name: str) -> Key | None:
  match = pattern.fullmatch(name)
  return (match[1].lower(), int(match[2])) if match else None


def find_lists(folder: pathlib.Path) -> list[pathlib.Path]:
  """The file or files with the labels.

  Raises:
    ValueError: there are none, or they are there more than once.
  """
  for names in LISTS:
    found = find_files(folder, names)
    if len({path.name.casefold() for path in found}) < len(found):
      raise ValueError(
        f"manual_dir {folder} has the labels of RAF-DB more than once "
        f"({', '.join(map(str, found))}); give the folder of one copy."
      )
    if found:
      return found
  what = f"labels of RAF-DB (EmoLabel/{LISTS[0][0]})"
  raise ValueError(describe_missing(folder, what, hint="basic") + INSTRUCTIONS)


def find_images(folder: pathlib.Path, kind: str) -> pathlib.Path:
  """The folder with the images of a kind, "aligned" or "original".

  Raises:
    ValueError: there is none; the message names the archive to unpack.
  """
  found = [place for place in find_folders(folder, kind) if _holds(place, _NAME)]
  if len(found) > 1:
    raise ValueError(
      f"manual_dir {folder} has the {kind} images of RAF-DB more than once "
      f"({', '.join(map(str, found))}); give the folder of one copy."
    )
  if not found:
    what = f"{kind} images of RAF-DB (Image/{kind}/train_00001...jpg)"
    raise ValueError(describe_missing(folder, what, hint=f"{kind}.") + INSTRUCTIONS)
  return found[0]


def find_attributes(folder: pathlib.Path) -> pathlib.Path | None:
  """The folder with the manual attributes, if it is there."""
  found = [place for place in find_folders(folder, "manual") if _holds(place, _ATTRIBUTES)]
  return found[0] if found else None


def _holds(folder: pathlib.Path, pattern: re.Pattern[str]) -> bool:
  return any(pattern.fullmatch(path.name) for path in folder.iterdir())


def list_pictures(
  lists: Iterable[pathlib.Path], images: pathlib.Path
) -> tuple[dict[str, list[Picture]], list[Row]]:
  """The listed images of each split, in the order of their numbers, and what was left out.

  Args:
    lists: what `find_lists` gives.
    images: what `find_images` gives.
  """
  names: dict[Key, str] = {}
  rows = []
  for name in sorted(path.name for path in images.iterdir() if is_image_name(path.name)):
    key = _key(_NAME, name)
    if key is None:
      rows.append(Row(name, "unexpected_name", {"detail": "not like train_00001.jpg"}))
    elif key in names:
      rows.append(Row(name, "second_image", {"detail": names[key]}))
    else:
      names[key] = name
  labels, problems = _read_labels(lists)
  rows += problems
  splits: dict[str, list[Picture]] = {split: [] for split in SPLITS}
  for key, label in sorted(labels.items()):
    # A listed image that is not there stays listed: the task reports it as missing.
    file = names.pop(key, None) or f"{key[0]}_{key[1]:0{5 if key[0] == 'train' else 4}d}.jpg"
    splits[key[0]].append(Picture(file, label))
  rows += [Row(name, "not_listed", {"detail": "no label"}) for name in names.values()]
  return {split: pictures for split, pictures in splits.items() if pictures}, rows


def _read_labels(lists: Iterable[pathlib.Path]) -> tuple[dict[Key, str], list[Row]]:
  seen: dict[Key, list[tuple[str, int]]] = collections.defaultdict(list)
  rows = []
  for path in lists:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
      if not line.strip():
        continue
      place = f"{path.name}:{number}"
      cells = line.split()
      key = _key(_NAME, cells[0].replace("\\", "/").rpartition("/")[2])
      if len(cells) != 2 or key is None:
        rows.append(Row(place, "bad_row", {"detail": f"not like 'train_00001.jpg 5': {line[:60]}"}))
      elif cells[1] not in [str(code) for code in range(1, len(EMOTIONS) + 1)]:
        rows.append(Row(place, "bad_row", {"detail": f"{cells[1][:20]} is no code from 1 to 7"}))
      else:
        seen[key].append((place, int(cells[1])))
  labels = {}
  for key, lines in seen.items():
    if len({code for _, code in lines}) > 1:
      told = " and ".join(f"{place} says {code}" for place, code in lines)
      rows.append(Row(f"{key[0]}_{key[1]}", "contradictory", {"detail": told}))
      continue
    labels[key] = EMOTIONS[lines[0][1] - 1]
    rows += [Row(place, "duplicate", {"detail": f"as {lines[0][0]}"}) for place, _ in lines[1:]]
  return labels, rows
