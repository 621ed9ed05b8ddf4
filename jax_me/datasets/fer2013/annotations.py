"""fer2013.csv: 35,887 faces of 48 x 48 grey pixels as text, read row by row, never held whole.

Worker processes import this, so it imports nothing of TFDS.
"""

import csv
import dataclasses
import pathlib
from typing import NamedTuple

import cv2
import numpy as np

from jax_me.datasets.generation.example import Example, Outcome, Row
from jax_me.datasets.generation.find_files import describe_missing, find_files
from jax_me.datasets.generation.process_images import Cut, Picture, handle_picture

SIDE = 48
# In the order of the codes in the file, 0 to 6.
EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
USAGES = {"training": "train", "publictest": "validation", "privatetest": "test"}
# The first is the release's; the second has the same rows, its columns in another order and named
# " Usage" and " pixels".
NAMES = ("fer2013.csv", "icml_face_data.csv")
COLUMNS = ("emotion", "pixels", "usage")
ROWS_PER_TASK = 256
INSTRUCTIONS = """
FER2013 is given at https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge/data
(fer2013.tar.gz). Unpack it and give the folder with fer2013.csv, or with icml_face_data.csv."""  # noqa: E501


class Place(NamedTuple):
  """A row of the csv.

  Attributes:
    offset, size: where its bytes are.
    emotion: content of its cell, without spaces.
    split: "train", "validation" or "test"; "" when its usage is none of USAGES.
    problem: why it gives no face, "" when it may.
  """

  offset: int
  size: int
  emotion: str
  split: str
  problem: str


@dataclasses.dataclass(frozen=True)
class Table:
  """What `read_places` finds.

  Attributes:
    path: the csv.
    pixels: number of the column with the pixels.
    places: its rows in order, bad ones too, blank ones not.
  """

  path: pathlib.Path
  pixels: int
  places: tuple[Place, ...]


@dataclasses.dataclass(frozen=True)
class Task:
  """Some rows: (what they show, offset and size of their bytes in `path`)."""

  path: str
  pixels: int
  rows: tuple[tuple[Picture, int, int], ...]
  cut: Cut


def find_table(folder: pathlib.Path) -> pathlib.Path:
  """The csv below a folder; fer2013.csv where both forms are there.

  Raises:
    ValueError: there is none, or one twice.
  """
  for name in NAMES:
    found = find_files(folder, [name])
    if len(found) > 1:
      raise ValueError(
        f"manual_dir {folder} has {name} more than once ({', '.join(map(str, found))}); give the "
        "folder of one copy."
      )
    if found:
      return found[0]
  missing = describe_missing(folder, f"{' or '.join(NAMES)}", hint="fer2013")
  raise ValueError(missing + INSTRUCTIONS)


def read_places(path: pathlib.Path) -> Table:
  """Reads the csv once, without its pixels.

  Raises:
    ValueError: it is empty, or lacks a column.
  """
  with path.open("rb") as file:
    header = [cell.strip().lower() for cell in _cells(file.readline())]
    if missing := [name for name in COLUMNS if name not in header]:
      raise ValueError(
        f"{path} has no column {', '.join(missing)}; its columns are: {', '.join(header) or 'none'}"
      )
    emotion, pixels, usage = (header.index(name) for name in COLUMNS)
    places, offset = [], file.tell()
    for line in file:
      if line.strip():
        places.append(_place(line, offset, emotion, usage, len(header)))
      offset += len(line)
  return Table(path, pixels, tuple(places))


def _place(line: bytes, offset: int, emotion: int, usage: int, width: int) -> Place:
  cells = _cells(line)
  if len(cells) != width:
    return Place(offset, len(line), "", "", f"{len(cells)} cells instead of {width}")
  split = USAGES.get(cells[usage].strip().lower(), "")
  problem = "" if split else f"usage {cells[usage].strip()[:20]!r} is none that is known"
  return Place(offset, len(line), cells[emotion].strip(), split, problem)


def _cells(line: bytes) -> list[str]:
  try:
    return next(csv.reader([line.decode("utf-8-sig", "replace")]), [])
  except csv.Error:
    return []


def run_rows(task: Task) -> Outcome:
  """Makes pictures of some rows; their digests are those of the pictures.

  Raises:
    ValueError: no face in a picture, and on_no_face is "error"; the message names the row.
  """
  examples: list[Example] = []
  rows = []
  with open(task.path, "rb") as file:
    for picture, offset, size in task.rows:
      file.seek(offset)
      try:
        pixels = read_pixels(_cells(file.read(size))[task.pixels])
      except ValueError as error:
        rows.append(Row(picture.file, "bad_row", {**picture.details, "detail": str(error)}))
        continue
      stored, row = handle_picture(picture, encode_grey(pixels), task.cut)
      rows.append(row)
      if stored is not None:
        examples.append(picture.example(stored))
  return Outcome(tuple(examples), tuple(rows), tuple(picture.label for picture, *_ in task.rows))


def read_pixels(text: str) -> np.ndarray:
  """uint8 [48, 48] from numbers separated by spaces.

  Raises:
    ValueError: another count of numbers, or one outside [0, 255].
  """
  words = text.split()
  if len(words) != SIDE * SIDE:
    raise ValueError(f"{len(words)} pixels instead of {SIDE * SIDE}")
  try:
    values = np.array(words).astype(int)
  except (ValueError, OverflowError):
    raise ValueError("a pixel is not a whole number") from None
  if values.min() < 0 or values.max() > 255:
    raise ValueError("a pixel is outside [0, 255]")
  return values.astype(np.uint8).reshape(SIDE, SIDE)


def encode_grey(pixels: np.ndarray) -> bytes:
  """uint8 [H, W] -> the bytes of a grey PNG."""
  return cv2.imencode(".png", pixels)[1].tobytes()
