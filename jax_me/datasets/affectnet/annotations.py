"""AffectNet's annotations -> one Entry a face, in a fixed order, and what was left out."""

import collections
import csv
import os
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jax_me.datasets.affectnet.layout import LABEL_ENDINGS, Part
from jax_me.datasets.labeled_folder.annotations import Problem
from jax_me.faces.image_files import is_image_name

Box = tuple[int, int, int, int]

COLUMNS = (
  "subDirectory_filePath",
  "face_x",
  "face_y",
  "face_width",
  "face_height",
  "facial_landmarks",
  "expression",
  "valence",
  "arousal",
)
_NEEDED = ("subdirectory_filepath", "face_x", "face_y", "face_width", "face_height", "expression")


class Entry(NamedTuple):
  """One annotated face.

  Attributes:
    file: unique name of the example.
    image: path of its picture, relative to the folder of images.
    code: AffectNet's number of the expression; -1 where `annotation` holds it.
    annotation: name of the file with the expression, "" for the csv release.
    box: left, top, width, height of the face in the picture; None when the picture is the face.
  """

  file: str
  image: str
  code: int = -1
  annotation: str = ""
  box: Box | None = None


def list_entries(part: Part, folder: pathlib.Path) -> tuple[list[Entry], list[Problem]]:
  """All annotated faces of a split; images are neither opened nor, for csv, looked for.

  Args:
    part: the split.
    folder: manual_dir; names are relative to it.
  """
  if part.release == "csv":
    return _from_table(part.labels, part.labels.relative_to(folder).as_posix())
  return _from_folders(part, folder)


def _from_folders(part: Part, folder: pathlib.Path) -> tuple[list[Entry], list[Problem]]:
  ending = LABEL_ENDINGS[part.release]
  (images,) = part.images
  prefix = images.relative_to(folder).as_posix()
  by_id: dict[str, list[str]] = collections.defaultdict(list)
  for name in _names(images):
    if is_image_name(name):
      by_id[os.path.splitext(name)[0]].append(name)
  entries, problems = [], []
  annotated = sorted((n for n in _names(part.labels) if n.lower().endswith(ending)), key=_numeric)
  for annotation in annotated:
    found = sorted(by_id.pop(annotation[: -len(ending)], []))
    if not found:
      name = (part.labels / annotation).relative_to(folder).as_posix()
      problems.append(Problem(name, "missing", "it has no image"))
      continue
    entries.append(Entry(f"{prefix}/{found[0]}", found[0], annotation=annotation))
    problems += [Problem(f"{prefix}/{name}", "second_image", found[0]) for name in found[1:]]
  unlisted = sorted((name for names in by_id.values() for name in names), key=_numeric)
  problems += [Problem(f"{prefix}/{name}", "not_listed", "no annotation") for name in unlisted]
  return entries, problems


def _names(folder: pathlib.Path) -> Iterator[str]:
  with os.scandir(folder) as entries:
    yield from (entry.name for entry in entries if not entry.name.startswith("."))


def _numeric(name: str) -> tuple[int, str]:
  """Ids are numbers and have gaps; 10 comes after 9."""
  number = re.match(r"\d+", name)
  return (int(number.group()) if number else -1, name)


def _from_table(table: pathlib.Path, name: str) -> tuple[list[Entry], list[Problem]]:
  by_file: dict[str, list[tuple[int, Entry]]] = {}
  problems = []
  with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
    for line, row in _rows(file, table):
      try:
        entry = _from_row(row)
      except ValueError as error:
        problems.append(Problem(f"{name}:{line}", "bad_row", str(error)))
      else:
        by_file.setdefault(entry.image, []).append((line, entry))
  entries = []
  for rows in by_file.values():
    kept, told = _resolve(rows)
    entries += kept
    problems += told
  return entries, problems


def _rows(lines: Iterable[str], table: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
  """(line number, column -> text) of every row; copies have a header, a "#header" or none."""
  reader = csv.reader(lines, skipinitialspace=True)
  columns = [column.lower() for column in COLUMNS]
  try:
    for number, row in enumerate(reader):
      if not any(row):
        continue
      if number == 0:
        header = [cell.strip().lstrip("#").strip().lower() for cell in row]
        if header[0] == columns[0]:
          if missing := [column for column in _NEEDED if column not in header]:
            raise ValueError(f"{table} has no column {', '.join(missing)}")
          columns = header
          continue
      yield reader.line_num, dict(zip(columns, row, strict=False))
  except csv.Error as error:
    raise ValueError(f"{table}, line {reader.line_num}: {error}") from error


def _from_row(row: dict[str, str]) -> Entry:
  if missing := [column for column in _NEEDED if not row.get(column, "").strip()]:
    raise ValueError(f"no {', '.join(missing)}")
  left, top, width, height, code = (_whole(column, row[column]) for column in _NEEDED[1:])
  image = re.sub(r"^(\./)+", "", row["subdirectory_filepath"].strip().replace("\\", "/"))
  if image.startswith("/") or ".." in image.split("/"):
    raise ValueError(f"{image} is no path inside the folder of images")
  return Entry(image, image, code=code, box=(left, top, width, height))


def _whole(column: str, text: str) -> int:
  try:
    return round(float(text))
  except (ValueError, OverflowError):  # not a number, or an infinite one
    raise ValueError(f"{column} {text.strip()!r} is not a number") from None


def _resolve(rows: list[tuple[int, Entry]]) -> tuple[list[Entry], list[Problem]]:
  """What the rows of one picture mean: the same again, a contradiction, or several faces in it."""
  if len(rows) == 1:
    return [rows[0][1]], []
  by_box: dict[Box | None, list[tuple[int, Entry]]] = collections.defaultdict(list)
  for line, entry in rows:
    by_box[entry.box].append((line, entry))
  entries: list[Entry] = []
  problems = []
  for same in by_box.values():
    first = same[0][1]
    lines = ", ".join(str(line) for line, _ in same)
    if len({entry.code for _, entry in same}) > 1:
      problems.append(Problem(first.image, "contradictory", f"lines {lines} differ"))
      continue
    # Further faces of a picture need names of their own.
    name = f"{first.image}#{len(entries) + 1}" if entries else first.image
    entries.append(first._replace(file=name))
    problems += [Problem(first.image, "duplicate", f"line {line}") for line, _ in same[1:]]
  return entries, problems
