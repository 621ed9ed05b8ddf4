"""Reader of fer2013.csv: 35,887 grey faces of 48 x 48 pixels as text, read row by row.

Runs in worker processes, so it must not import TFDS.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from jax_me.datasets.generation.options import ImageOptions
from jax_me.datasets.generation.process_images import ImageProcessor, SourceImage
from jax_me.datasets.generation.source_files import describe_missing, find_files, single_path
from jax_me.datasets.generation.tables import column_positions
from jax_me.datasets.generation.tasks import Skipped, Split

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
(fer2013.tar.gz). Unpack it and pass the folder with fer2013.csv, or with icml_face_data.csv, or a
folder of class folders (angry, disgust, ...) with images named Training_*, PublicTest_* and
PrivateTest_*."""  # noqa: E501


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


@dataclasses.dataclass(frozen=True, slots=True)
class CsvImage(SourceImage):
  """An image in a csv row.

  Attributes:
    row_start, row_size: byte offset and length of the row.
  """

  row_start: int = 0
  row_size: int = 0


@dataclasses.dataclass(frozen=True)
class CsvProcessor(ImageProcessor[CsvImage, ImageOptions]):
  """Decodes rows of the csv, `folder`; report digests are those of the encoded images.

  Attributes:
    pixels_column: index of the column with the pixels.
  """

  pixels_column: int

  def read(self, image: CsvImage) -> bytes:
    with open(self.folder, "rb") as file:
      file.seek(image.row_start)
      cells = _split_cells(file.read(image.row_size))
    try:
      return encode_grey(parse_pixels(cells[self.pixels_column]))
    except ValueError as error:
      raise Skipped("bad_row", str(error)) from error


def csv_split(
  csv: Fer2013Csv, rows: Sequence[tuple[SourceImage, CsvRowLocation]], options: ImageOptions
) -> Split:
  """Divides csv rows into the tasks of a split, in their order.

  Args:
    csv: the scanned file.
    rows: image and location of each row.
    options: cropping and encoding of the images.

  Returns:
    the split.
  """
  images = [
    CsvImage(
      image.file, image.label, targets=image.targets, row_start=row.offset, row_size=row.size
    )
    for image, row in rows
  ]
  processor = CsvProcessor(str(csv.path), options.narrowed(ImageOptions), csv.pixels_column)
  return processor.split(images, ROWS_PER_TASK, 1 if options.align else 8)


def find_csv(folder: pathlib.Path) -> pathlib.Path:
  """The csv below a folder; fer2013.csv if both variants are present.

  Raises:
    ValueError: no csv, or several copies of one.
  """
  for name in CSV_NAMES:
    if path := single_path(folder, find_files(folder, [name]), name):
      return path
  missing = describe_missing(folder, " or ".join(CSV_NAMES), hint="fer2013")
  raise ValueError(missing + INSTRUCTIONS)


def scan_csv(path: pathlib.Path) -> Fer2013Csv:
  """Locates all rows of the csv in one pass, without decoding pixels.

  Raises:
    ValueError: the file is empty or lacks a column.
  """
  with path.open("rb") as file:
    header = _split_cells(file.readline())
    emotion, pixels, usage = column_positions(path, header, COLUMNS)
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
