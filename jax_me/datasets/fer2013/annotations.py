"""Reader of fer2013.csv: 35,887 grey faces of 48 x 48 pixels as text, read row by row.

Runs in worker processes, so it must not import TFDS.
"""

import csv
import dataclasses
import pathlib
from typing import NamedTuple

import cv2
import numpy as np

from jax_me.datasets.generation.example import Example, ReportRow, TaskResult
from jax_me.datasets.generation.find_files import describe_missing, find_files
from jax_me.datasets.generation.process_images import CropOptions, LabeledImage, process_image

SIDE = 48
# In the order of the codes in the file, 0 to 6.
EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
USAGES = {"training": "train", "publictest": "validation", "privatetest": "test"}
# The first is the release's; the second has the same rows with reordered columns, named " Usage"
# and " pixels".
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
COLUMNS = ("emotion", "pixels", "usage")
ROWS_PER_TASK = 256
INSTRUCTIONS = """
FER2013 is available at https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge/data
(fer2013.tar.gz). Unpack it and pass the folder with fer2013.csv, or with icml_face_data.csv."""  # noqa: E501


class CsvRowLocation(NamedTuple):
  """Location and metadata of one csv row.

  Attributes:
    offset, size: byte offset and length of the row.
    emotion: stripped content of the emotion cell.
    split: "train", "validation" or "test"; "" if the usage is not in USAGES.
    problem: reason why the row is unusable, "" if none is known yet.
  """

  offset: int
  size: int
  emotion: str
  split: str
  problem: str


@dataclasses.dataclass(frozen=True)
class Fer2013Csv:
  """Result of `scan_csv`.

  Attributes:
    path: the csv.
    pixels_column: index of the column with the pixels.
    rows: the rows in order, including unusable ones but not blank ones.
  """

  path: pathlib.Path
  pixels_column: int
  rows: tuple[CsvRowLocation, ...]


@dataclasses.dataclass(frozen=True)
class CsvRowTask:
  """A batch of rows: (image metadata, byte offset, byte length) each."""

  path: str
  pixels_column: int
  rows: tuple[tuple[LabeledImage, int, int], ...]
  crop: CropOptions


def find_csv(folder: pathlib.Path) -> pathlib.Path:
  """The csv below a folder; fer2013.csv if both variants are present.

  Raises:
    ValueError: no csv, or several copies of one.
  """
  for name in CSV_NAMES:
    found = find_files(folder, [name])
    if len(found) > 1:
      raise ValueError(
        f"manual_dir {folder} has {name} more than once ({', '.join(map(str, found))}); give the "
        "folder of one copy."
      )
    if found:
      return found[0]
  missing = describe_missing(folder, " or ".join(CSV_NAMES), hint="fer2013")
  raise ValueError(missing + INSTRUCTIONS)


def scan_csv(path: pathlib.Path) -> Fer2013Csv:
  """Locates all rows of the csv in one pass, without decoding pixels.

  Raises:
    ValueError: the file is empty or lacks a column.
  """
  with path.open("rb") as file:
    header = [cell.strip().lower() for cell in _split_cells(file.readline())]
    if missing := [name for name in COLUMNS if name not in header]:
      raise ValueError(
        f"{path} has no column {', '.join(missing)}; its columns are: {', '.join(header) or 'none'}"
      )
    emotion, pixels, usage = (header.index(name) for name in COLUMNS)
    rows, offset = [], file.tell()
    for line in file:
      if line.strip():
        rows.append(_locate_row(line, offset, emotion, usage, len(header)))
      offset += len(line)
  return Fer2013Csv(path, pixels, tuple(rows))


def _locate_row(line: bytes, offset: int, emotion: int, usage: int, width: int) -> CsvRowLocation:
  cells = _split_cells(line)
  if len(cells) != width:
    problem = f"{len(cells)} cells instead of {width}"
    return CsvRowLocation(offset, len(line), "", "", problem)
  split = USAGES.get(cells[usage].strip().lower(), "")
  problem = "" if split else f"unknown usage {cells[usage].strip()[:20]!r}"
  return CsvRowLocation(offset, len(line), cells[emotion].strip(), split, problem)


def _split_cells(line: bytes) -> list[str]:
  try:
    return next(csv.reader([line.decode("utf-8-sig", "replace")]), [])
  except csv.Error:
    return []


def run_csv_rows(task: CsvRowTask) -> TaskResult:
  """Decodes the rows of a task into images; report digests are those of the encoded images.

  Raises:
    ValueError: no face in an image, and on_no_face is "error"; the message names the row.
  """
  examples: list[Example] = []
  rows = []
  with open(task.path, "rb") as file:
    for image, offset, size in task.rows:
      file.seek(offset)
      try:
        pixels = parse_pixels(_split_cells(file.read(size))[task.pixels_column])
      except ValueError as error:
        rows.append(ReportRow(image.file, "bad_row", {**image.details, "detail": str(error)}))
        continue
      stored, row = process_image(image, encode_grey(pixels), task.crop)
      rows.append(row)
      if stored is not None:
        examples.append(image.example(stored))
  return TaskResult(tuple(examples), tuple(rows), tuple(image.label for image, *_ in task.rows))


def parse_pixels(text: str) -> np.ndarray:
  """Parses space-separated numbers into uint8 [48, 48].

  Raises:
    ValueError: not exactly 48 * 48 whole numbers in [0, 255].
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
  """Encodes uint8 [H, W] as a grey PNG."""
  return cv2.imencode(".png", pixels)[1].tobytes()
