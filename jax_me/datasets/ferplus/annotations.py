"""FER+'s two tables of votes, and where they, and the faces they are about, lie below a folder."""

import csv
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jax_me.datasets.fer2013 import annotations
from jax_me.datasets.ferplus.votes import COLUMNS
from jax_me.datasets.generation.find_files import describe_missing, find_files, find_folders
from jax_me.faces.image_files import is_image_name

VOTES = ("label.csv", "fer2013new")
SPLITS = {"train": "FER2013Train", "validation": "FER2013Valid", "test": "FER2013Test"}
TABLE = "fer2013new.csv"
INSTRUCTIONS = """
FER+ adds votes to the faces of FER2013. Put both below one folder and give that folder:
  fer2013new.csv, data/FER2013Train/label.csv, data/FER2013Valid/..., data/FER2013Test/...
                  from https://github.com/microsoft/FERPlus
  fer2013.csv     of FER2013, see https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge/data
Instead of fer2013.csv the three folders may hold the faces as fer0000000.png and so on."""  # noqa: E501


class Voted(NamedTuple):
  """One face of a table.

  Attributes:
    place: where it stands, "fer2013new.csv:2".
    name: of its picture, "fer0000000.png"; "" where there is none.
    split: "train", "validation" or "test"; "" where the usage is not known.
    votes: 10 counts; () where they are broken.
  """

  place: str
  name: str
  split: str
  votes: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Files:
  """What a folder has of FER+ and FER2013.

  Attributes:
    table: fer2013new.csv.
    labels: split -> its label.csv.
    faces: fer2013.csv.
    folders: split -> its folder, if pictures lie in it.
  """

  table: pathlib.Path | None
  labels: dict[str, pathlib.Path]
  faces: pathlib.Path | None
  folders: dict[str, pathlib.Path]


def find(folder: pathlib.Path, votes: str) -> Files:
  """Looks for all files.

  Args:
    folder: where to look.
    votes: one of VOTES, the table that the labels are to be made from.

  Raises:
    ValueError: that table, or the faces, are not there, or something is there twice.
  """
  splits = {name: _only(folder, find_folders(folder, SPLITS[name])) for name in SPLITS}
  labels = {
    split: place / "label.csv"
    for split, place in splits.items()
    if place is not None and (place / "label.csv").is_file()
  }
  folders = {
    split: place
    for split, place in splits.items()
    if place is not None and any(is_image_name(path.name) for path in place.iterdir())
  }
  table = _only(folder, find_files(folder, [TABLE]))
  has_faces = any(find_files(folder, [name]) for name in annotations.NAMES)
  faces = annotations.find_table(folder) if has_faces else None
  if votes == "label.csv" and not labels:
    what = "label.csv in FER2013Train, FER2013Valid and FER2013Test"
    raise ValueError(describe_missing(folder, what) + INSTRUCTIONS)
  if votes == "fer2013new" and table is None:
    raise ValueError(describe_missing(folder, TABLE) + INSTRUCTIONS)
  if faces is not None and table is None and not folders:
    raise ValueError(
      f"manual_dir {folder} has {faces.name} and label.csv, but not {TABLE}, which tells what row "
      f"of {faces.name} is which picture." + INSTRUCTIONS
    )
  if faces is None and not folders:
    what = f"faces: neither {annotations.NAMES[0]} nor pictures in FER2013Train"
    raise ValueError(describe_missing(folder, what, hint="fer2013") + INSTRUCTIONS)
  return Files(table, labels, faces if table is not None else None, folders)


def _only(folder: pathlib.Path, found: Sequence[pathlib.Path]) -> pathlib.Path | None:
  if len(found) > 1:
    raise ValueError(
      f"manual_dir {folder} has {found[0].name} more than once ({', '.join(map(str, found))}); "
      "give the folder of one copy."
    )
  return found[0] if found else None


def read_table(path: pathlib.Path) -> list[Voted]:
  """All rows of fer2013new.csv, one for each of fer2013.csv.

  Raises:
    ValueError: it is empty, or lacks a column.
  """
  wanted = ("usage", "image name", *(column.lower() for column in COLUMNS))
  rows = _rows(path)
  _, header = next(rows, (0, []))
  names = [cell.strip().lower() for cell in header]
  if missing := [name for name in wanted if name not in names]:
    raise ValueError(
      f"{path} has no column {', '.join(missing)}; its columns are: {', '.join(names) or 'none'}"
    )
  usage, name, *votes = (names.index(column) for column in wanted)
  voted = []
  for line, cells in rows:
    whole = [*cells, *[""] * (len(names) - len(cells))]
    voted.append(
      Voted(
        f"{path.name}:{line}",
        whole[name].strip(),
        annotations.USAGES.get(whole[usage].strip().lower(), ""),
        _votes([whole[column] for column in votes]),
      )
    )
  return voted


def read_labels(path: pathlib.Path, split: str) -> list[Voted]:
  """All rows of a label.csv, which has no header: name, box, votes."""
  return [
    Voted(f"{path.parent.name}/{path.name}:{line}", cells[0].strip(), split, _votes(cells[2:]))
    for line, cells in _rows(path)
  ]


def _rows(path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
  with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
    reader = csv.reader(file)
    try:
      for cells in reader:
        if any(cell.strip() for cell in cells):
          yield reader.line_num, cells
    except csv.Error as error:
      raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def _votes(cells: Sequence[str]) -> tuple[int, ...]:
  if len(cells) != len(COLUMNS) or not all(cell.strip().isdecimal() for cell in cells):
    return ()
  return tuple(int(cell) for cell in cells)


def rows_by_name(voted: Sequence[Voted]) -> dict[str, int]:
  """Name of a picture -> row of fer2013.csv, counted from 0.

  Four names stand twice in the table. The first is meant: in the one case in which their votes
  differ (fer0033120.png) label.csv has those of the first.
  """
  rows: dict[str, int] = {}
  for row, face in enumerate(voted):
    if face.name:
      rows.setdefault(face.name, row)
  return rows


def check_rows(voted: Sequence[Voted], table: pathlib.Path, faces: annotations.Table) -> None:
  """Refuses a fer2013.csv that is not the one the votes are about.

  Raises:
    ValueError: another number of rows, or a row of another usage; naming it.
  """
  if len(voted) != len(faces.places):
    raise ValueError(
      f"{table} has {len(voted)} rows and {faces.path} has {len(faces.places)}: they belong "
      "together row by row, so one of them is not complete"
    )
  for row, (face, place) in enumerate(zip(voted, faces.places, strict=True)):
    if face.split and place.split and face.split != place.split:
      raise ValueError(
        f"row {row} is {face.split} in {table} and {place.split} in {faces.path}: they belong "
        "together row by row, so one of them is in another order"
      )
