"""File search for FER+ and FER2013, and readers of FER+'s two vote tables."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jax_me.csv_files import csv_rows
from jax_me.datasets.fer2013.annotations import CSV_NAMES, USAGES, Fer2013Csv, find_csv
from jax_me.datasets.ferplus.votes import COLUMNS
from jax_me.datasets.generation.source_files import (
  describe_missing,
  find_files,
  find_folders,
  single_path,
)
from jax_me.datasets.generation.tables import column_positions
from jax_me.faces.image_files import is_image_name

VOTE_TABLES = ("label.csv", "fer2013new")
SPLIT_FOLDERS = {"train": "FER2013Train", "validation": "FER2013Valid", "test": "FER2013Test"}
FER2013NEW = "fer2013new.csv"
INSTRUCTIONS = """
FER+ adds votes to the faces of FER2013. Put both below one folder and pass that folder:
  fer2013new.csv, data/FER2013Train/label.csv, data/FER2013Valid/..., data/FER2013Test/...
                  from https://github.com/microsoft/FERPlus
  fer2013.csv     of FER2013, see https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge/data
Instead of fer2013.csv, the three folders may hold the faces as fer0000000.png and so on."""  # noqa: E501


class VotedFace(NamedTuple):
  """One row of a vote table.

  Attributes:
    location: file and line of the row, "fer2013new.csv:2".
    image: name of the image, "fer0000000.png"; "" if there is none.
    split: "train", "validation" or "test"; "" if the usage is unknown.
    votes: 10 counts; () if they cannot be parsed.
  """

  location: str
  image: str
  split: str
  votes: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class FerPlusFiles:
  """The files of FER+ and FER2013 below a folder.

  Attributes:
    fer2013new: fer2013new.csv.
    labels: split -> its label.csv.
    fer2013: fer2013.csv.
    image_folders: split -> its folder, if it contains images.
  """

  fer2013new: pathlib.Path | None
  labels: dict[str, pathlib.Path]
  fer2013: pathlib.Path | None
  image_folders: dict[str, pathlib.Path]


def find_release(folder: pathlib.Path, votes: str) -> FerPlusFiles:
  """Finds all files of FER+ and FER2013.

  Args:
    folder: where to look.
    votes: one of VOTE_TABLES, the table that labels are made from.

  Raises:
    ValueError: the table or the faces are missing, or a file is found more than once.
  """
  splits = {
    split: single_path(folder, find_folders(folder, name), name)
    for split, name in SPLIT_FOLDERS.items()
  }
  labels = {
    split: path / "label.csv"
    for split, path in splits.items()
    if path is not None and (path / "label.csv").is_file()
  }
  image_folders = {
    split: path
    for split, path in splits.items()
    if path is not None and any(is_image_name(file.name) for file in path.iterdir())
  }
  fer2013new = single_path(folder, find_files(folder, [FER2013NEW]), FER2013NEW)
  has_csv = any(find_files(folder, [name]) for name in CSV_NAMES)
  fer2013 = find_csv(folder) if has_csv else None
  if votes == "label.csv" and not labels:
    what = "label.csv in FER2013Train, FER2013Valid and FER2013Test"
    raise ValueError(describe_missing(folder, what) + INSTRUCTIONS)
  if votes == "fer2013new" and fer2013new is None:
    raise ValueError(describe_missing(folder, FER2013NEW) + INSTRUCTIONS)
  if fer2013 is not None and fer2013new is None and not image_folders:
    raise ValueError(
      f"manual_dir {folder} has {fer2013.name} and label.csv, but not {FER2013NEW}, which maps "
      f"the rows of {fer2013.name} to image names." + INSTRUCTIONS
    )
  if fer2013 is None and not image_folders:
    what = f"faces: neither {CSV_NAMES[0]} nor images in FER2013Train"
    raise ValueError(describe_missing(folder, what, hint="fer2013") + INSTRUCTIONS)
  return FerPlusFiles(fer2013new, labels, None if fer2013new is None else fer2013, image_folders)


def read_fer2013new(path: pathlib.Path) -> list[VotedFace]:
  """Reads all rows of fer2013new.csv; row i belongs to row i of fer2013.csv.

  Raises:
    ValueError: the file is empty or lacks a column.
  """
  wanted = ("usage", "image name", *(column.lower() for column in COLUMNS))
  rows = _read_rows(path)
  _, header = next(rows, (0, []))
  usage, image, *votes = column_positions(path, header, wanted)
  faces = []
  for line, cells in rows:
    padded = [*cells, *[""] * (len(header) - len(cells))]
    faces.append(
      VotedFace(
        f"{path.name}:{line}",
        padded[image].strip(),
        USAGES.get(padded[usage].strip().lower(), ""),
        _parse_votes([padded[column] for column in votes]),
      )
    )
  return faces


def read_label_csv(path: pathlib.Path, split: str) -> list[VotedFace]:
  """Reads all rows of a label.csv, which has no header: image name, box, votes."""
  prefix = f"{path.parent.name}/{path.name}"
  return [
    VotedFace(f"{prefix}:{line}", cells[0].strip(), split, _parse_votes(cells[2:]))
    for line, cells in _read_rows(path)
  ]


def _read_rows(path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
  with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
    yield from csv_rows(path, file)


def _parse_votes(cells: Sequence[str]) -> tuple[int, ...]:
  if len(cells) != len(COLUMNS) or not all(cell.strip().isdecimal() for cell in cells):
    return ()
  return tuple(int(cell) for cell in cells)


def row_of_image(faces: Sequence[VotedFace]) -> dict[str, int]:
  """Image name -> row of fer2013.csv, counted from 0.

  Four names occur twice in fer2013new.csv; the first occurrence is used. For the only pair whose
  votes differ (fer0033120.png), label.csv has those of the first.
  """
  rows: dict[str, int] = {}
  for row, face in enumerate(faces):
    if face.image:
      rows.setdefault(face.image, row)
  return rows


def check_matching_rows(
  faces: Sequence[VotedFace], fer2013new: pathlib.Path, fer2013: Fer2013Csv
) -> None:
  """Checks that fer2013.csv has the rows that the votes refer to.

  Args:
    faces: the rows of fer2013new.csv.
    fer2013new: its path, for messages.
    fer2013: the scanned fer2013.csv.

  Raises:
    ValueError: the number of rows, or the usage of a row, differs.
  """
  if len(faces) != len(fer2013.rows):
    raise ValueError(
      f"{fer2013new} has {len(faces)} rows and {fer2013.path} has {len(fer2013.rows)}: they must "
      "match row by row, so one of them is incomplete"
    )
  for number, (face, row) in enumerate(zip(faces, fer2013.rows, strict=True)):
    if face.split and row.split and face.split != row.split:
      raise ValueError(
        f"row {number} is {face.split} in {fer2013new} and {row.split} in {fer2013.path}: they "
        "must match row by row, so one of them is in another order"
      )
