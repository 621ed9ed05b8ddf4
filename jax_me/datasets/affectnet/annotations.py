"""Readers of AffectNet's annotations: one AnnotatedFace per face, and the rows left out."""

import collections
import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Iterator

from jax_me.csv_files import csv_rows
from jax_me.datasets.affectnet.layout import LABEL_SUFFIXES, ReleaseSplit
from jax_me.datasets.generation.process_images import SourceImage
from jax_me.datasets.generation.source_files import numeric_key
from jax_me.datasets.generation.tasks import ReportRow, problem
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
_REQUIRED = (
  "subdirectory_filepath",
  "face_x",
  "face_y",
  "face_width",
  "face_height",
  "expression",
)


@dataclasses.dataclass(frozen=True, slots=True)
class AnnotatedFace(SourceImage):
  """One annotated face, whose label is read by a task; `path` is relative to the image folders.

  Attributes:
    code: AffectNet's expression code; -1 where it is read from `annotation`.
    annotation: name of the file with the expression, "" for the csv release.
    box: left, top, width, height of the face in the image; None when the image is the face crop.
  """

  code: int = -1
  annotation: str = ""
  box: Box | None = None


def list_faces(
  split: ReleaseSplit, folder: pathlib.Path
) -> tuple[list[AnnotatedFace], list[ReportRow]]:
  """Lists all annotated faces of a split in a fixed order, without opening any image.

  Args:
    split: the split.
    folder: manual_dir; names in the result are relative to it.
  """
  if split.release == "csv":
    return _read_csv(split.labels, split.labels.relative_to(folder).as_posix())
  return _match_annotation_files(split, folder)


def _match_annotation_files(
  split: ReleaseSplit, folder: pathlib.Path
) -> tuple[list[AnnotatedFace], list[ReportRow]]:
  """Pairs annotation files with images of the same id (npy and plus releases)."""
  suffix = LABEL_SUFFIXES[split.release]
  (images,) = split.images
  prefix = images.relative_to(folder).as_posix()
  by_id: dict[str, list[str]] = collections.defaultdict(list)
  for name in _visible_names(images):
    if is_image_name(name):
      by_id[os.path.splitext(name)[0]].append(name)
  faces, problems = [], []
  annotations = sorted(
    (name for name in _visible_names(split.labels) if name.lower().endswith(suffix)),
    key=numeric_key,
  )
  for annotation in annotations:
    found = sorted(by_id.pop(annotation[: -len(suffix)], []))
    if not found:
      name = (split.labels / annotation).relative_to(folder).as_posix()
      problems.append(problem(name, "missing", "no image"))
      continue
    faces.append(AnnotatedFace(f"{prefix}/{found[0]}", "", found[0], annotation=annotation))
    problems += [problem(f"{prefix}/{name}", "second_image", found[0]) for name in found[1:]]
  unlisted = sorted((name for names in by_id.values() for name in names), key=numeric_key)
  problems += [problem(f"{prefix}/{name}", "not_listed", "no annotation") for name in unlisted]
  return faces, problems


def _visible_names(folder: pathlib.Path) -> Iterator[str]:
  with os.scandir(folder) as entries:
    yield from (entry.name for entry in entries if not entry.name.startswith("."))


def _read_csv(path: pathlib.Path, name: str) -> tuple[list[AnnotatedFace], list[ReportRow]]:
  by_image: dict[str, list[tuple[int, AnnotatedFace]]] = {}
  problems = []
  with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
    for line, row in _read_rows(file, path):
      try:
        face = _parse_row(row)
      except ValueError as error:
        problems.append(problem(f"{name}:{line}", "bad_row", str(error)))
      else:
        by_image.setdefault(face.path, []).append((line, face))
  faces = []
  for rows in by_image.values():
    kept, rejected = _merge_rows_of_image(rows)
    faces += kept
    problems += rejected
  return faces, problems


def _read_rows(lines: Iterable[str], path: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
  """Yields (line number, column -> text); the header may be plain, start with "#" or be absent."""
  columns = [column.lower() for column in COLUMNS]
  for position, (line, row) in enumerate(csv_rows(path, lines)):
    if position == 0:
      header = [cell.strip().lstrip("#").strip().lower() for cell in row]
      if header[0] == columns[0]:
        if missing := [column for column in _REQUIRED if column not in header]:
          raise ValueError(f"{path} has no column {', '.join(missing)}")
        columns = header
        continue
    yield line, dict(zip(columns, row, strict=False))


def _parse_row(row: dict[str, str]) -> AnnotatedFace:
  if missing := [column for column in _REQUIRED if not row.get(column, "").strip()]:
    raise ValueError(f"no {', '.join(missing)}")
  left, top, width, height, code = (_parse_number(column, row[column]) for column in _REQUIRED[1:])
  image = re.sub(r"^(\./)+", "", row["subdirectory_filepath"].strip().replace("\\", "/"))
  if image.startswith("/") or ".." in image.split("/"):
    raise ValueError(f"{image} is not a path inside the image folder")
  affect = affect_values(row.get("valence", ""), row.get("arousal", ""))
  return AnnotatedFace(image, "", image, code=code, box=(left, top, width, height), affect=affect)


def affect_values(valence: object, arousal: object) -> tuple[float, ...]:
  """Valence and arousal; empty where AffectNet has none (-2) or they are no values in [-1, 1]."""
  try:
    values = tuple(float(str(value)) for value in (valence, arousal))
  except ValueError:
    return ()
  return values if all(-1 <= value <= 1 for value in values) else ()


def _parse_number(column: str, text: str) -> int:
  try:
    return round(float(text))
  except (ValueError, OverflowError):  # not a number, or infinite
    raise ValueError(f"{column} {text.strip()!r} is not a number") from None


def _merge_rows_of_image(
  rows: list[tuple[int, AnnotatedFace]],
) -> tuple[list[AnnotatedFace], list[ReportRow]]:
  """Distinct faces of one image: drops duplicate rows and rows that contradict each other."""
  if len(rows) == 1:
    return [rows[0][1]], []
  by_box: dict[Box | None, list[tuple[int, AnnotatedFace]]] = collections.defaultdict(list)
  for line, face in rows:
    by_box[face.box].append((line, face))
  faces: list[AnnotatedFace] = []
  problems = []
  for same in by_box.values():
    first = same[0][1]
    lines = ", ".join(str(line) for line, _ in same)
    if len({face.code for _, face in same}) > 1:
      problems.append(problem(first.path, "contradictory", f"lines {lines} differ"))
      continue
    # Further faces of an image get names of their own.
    name = f"{first.path}#{len(faces) + 1}" if faces else first.path
    faces.append(dataclasses.replace(first, file=name))
    problems += [problem(first.path, "duplicate", f"line {line}") for line, _ in same[1:]]
  return faces, problems
