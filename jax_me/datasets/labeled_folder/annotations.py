"""Labels of a folder of photographs or clips: from labels.csv, or from class folders."""

import collections
import dataclasses
import io
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from jax_me.bounded_reading import read_file
from jax_me.csv_files import csv_rows
from jax_me.data.labels import normalize_label
from jax_me.datasets.generation.process_images import SourceImage
from jax_me.datasets.generation.source_files import numeric_key, walk_files
from jax_me.datasets.generation.tasks import ReportRow, problem
from jax_me.faces.image_files import is_image_name
from jax_me.faces.input_files import frame_number
from jax_me.models.model_metadata import AFFECT

LABELS_FILE = "labels.csv"
# Images may be in this folder beside labels.csv.
IMAGES_FOLDER = "images"
SPLITS = {
  "train": "train",
  "training": "train",
  "val": "validation",
  "valid": "validation",
  "validation": "validation",
  "test": "test",
  "testing": "test",
}
COLUMNS = {
  "file": ("file", "filename", "file_name", "image", "path"),
  "label": ("label", "expression", "emotion", "class"),
  "subject": ("subject", "person"),
  "clip": ("clip", "video"),
  "frame": ("frame",),
  "onset": ("onset",),
  "apex": ("apex",),
  "offset": ("offset",),
  "database": ("database",),
  "split": ("split",),
  **{name: (name,) for name in AFFECT},
}
NUMBERS = ("frame", "onset", "apex", "offset")
UNLABELED = "unlabeled"  # Class of the images of a folder without labels.

LAYOUTS = (
  f"a {LABELS_FILE} with columns file and label (or expression), or folders <class>/<image>, "
  "<train|val|test>/<class>/<image> or <subject>/<class>/<clip>/<image>"
)


@dataclasses.dataclass(frozen=True, slots=True)
class FolderImage(SourceImage):
  """One labelled image of a folder.

  Attributes:
    split: "train", "validation" or "test".
  """

  split: str = "train"


# Images in a fixed, numeric order, and report rows of what is left out.
FolderListing = tuple[list[FolderImage], list[ReportRow]]


def has_labels(folder: pathlib.Path) -> bool:
  """Whether a folder has labels.csv or class folders; DIR/train/IMAGE has no classes."""
  return (folder / LABELS_FILE).is_file() or _have_class_folders(_image_files(folder))


def list_folder(folder: pathlib.Path, *, unlabeled: bool = False) -> FolderListing:
  """Lists the images of a folder from labels.csv if there is one, else from the class folders.

  Args:
    folder: the folder.
    unlabeled: take every image below it, of the class UNLABELED.

  Returns:
    the images, and report rows of what is left out.

  Raises:
    ValueError: the folder has neither, labels.csv lacks a column, or subjects are given for some
      images only.
  """
  files = _image_files(folder)
  table = folder / LABELS_FILE
  if unlabeled and files:
    sources = [FolderImage(file=file, label=UNLABELED) for file in files]
    problems: list[ReportRow] = []
  elif table.is_file():
    sources, problems = _from_table(table, files)
  else:
    sources, problems = _from_folders(folder, files)
  unknown = [source for source in sources if not source.subject]
  if 0 < len(unknown) < len(sources):
    raise ValueError(
      f"{folder}: {len(unknown)} of {len(sources)} images have no subject (first: "
      f"{unknown[0].file}); give every image one, or none; otherwise one person could be in "
      "several folds"
    )
  return sorted(sources, key=_sort_key), problems


def _image_files(folder: pathlib.Path) -> list[str]:
  return [name for name in walk_files(folder) if is_image_name(name)]


def is_folder_file(name: str) -> bool:
  """Whether a file of this name is read; others, or a data_dir inside manual_dir, are ignored."""
  return name == LABELS_FILE or is_image_name(name)


def _sort_key(source: FolderImage) -> tuple:
  names = (source.split, source.database, source.subject, source.clip)
  return (*map(numeric_key, names), source.frame, numeric_key(source.file))


def _from_folders(folder: pathlib.Path, files: list[str]) -> FolderListing:
  by_layout: dict[tuple[str, ...], list[str]] = collections.defaultdict(list)
  for file in files:
    by_layout[_path_layout(file)].append(file)
  known = {layout: names for layout, names in by_layout.items() if layout}
  if not known:
    found = f"it has images like {files[0]}" if files else "it has no images"
    raise ValueError(f"manual_dir {folder} must hold {LAYOUTS}; {found}")
  chosen = max(known, key=lambda layout: (len(known[layout]), layout))
  sources = []
  problems = []
  for file in known[chosen]:
    try:
      sources.append(_from_path(file, chosen))
    except ValueError as error:  # the folder's name is "_" or the like
      problems.append(problem(file, "unexpected_place", str(error)))
  other = [file for layout, names in by_layout.items() if layout != chosen for file in names]
  detail = f"the other images are in {'/'.join(f'<{part}>' for part in chosen)}"
  problems += [problem(file, "unexpected_place", detail) for file in sorted(other)]
  return sources, problems


def _have_class_folders(files: list[str]) -> bool:
  """Whether all images are in one layout of class folders."""
  folders = {file.split("/")[0].casefold() for file in files}
  layouts = {_path_layout(file) for file in files}
  return (
    len(layouts) == 1
    and layouts != {()}
    and not (layouts == {("class", "image")} and folders <= set(SPLITS))
  )


def _path_layout(file: str) -> tuple[str, ...]:
  """Meaning of the parts of a path; empty for an unknown depth."""
  parts = file.split("/")
  in_split = parts[0].casefold() in SPLITS
  match len(parts):
    case 2:
      return ("class", "image")
    case 3 if in_split:
      return ("split", "class", "image")
    case 4 if in_split:
      return ("split", "class", "clip", "image")
    case 4:
      return ("subject", "class", "clip", "image")
    case _:
      return ()


def _from_path(file: str, layout: tuple[str, ...]) -> FolderImage:
  part = dict(zip(layout, file.split("/"), strict=True))
  number = frame_number(file) if "clip" in part else None
  return FolderImage(
    file=file,
    label=normalize_label(part["class"]),
    subject=part.get("subject", ""),
    # Clips of the same name in two classes are different recordings.
    clip=f"{part['class']}/{part['clip']}" if "clip" in part else "",
    frame=-1 if number is None else number,
    split=SPLITS[part["split"].casefold()] if "split" in part else "train",
  )


def _from_table(table: pathlib.Path, files: list[str]) -> FolderListing:
  header, lines = _read_table(table)
  columns, problems = _match_columns(table, header)
  finder = _FileFinder(files)
  rows: dict[str, list[tuple[int, FolderImage]]] = collections.defaultdict(list)
  for number, values in lines:
    name = f"{LABELS_FILE}:{number}"
    if len(values) != len(header):
      detail = f"{len(values)} values for {len(header)} columns"
      problems.append(problem(name, "bad_row", detail))
      continue
    row = {field: values[position].strip() for field, position in columns.items()}
    if broken := [field for field, text in row.items() if len(text.splitlines()) > 1]:
      raise ValueError(
        f"{table}, line {number}: the {broken[0]} contains a line break; is a quotation mark "
        "missing?"
      )
    file = finder.find(row["file"])
    if file is None:
      problems.append(problem(row["file"] or name, "missing", f"listed in line {number}"))
      continue
    try:
      source = _from_row(file, row)
    except ValueError as error:
      problems.append(problem(file, "bad_row", f"line {number}: {error}"))
    else:
      rows[file].append((number, source))
  sources = []
  for file, found in rows.items():
    distinct = {source for _, source in found}
    if len(distinct) == 1:
      sources.append(found[0][1])
      problems += [problem(file, "duplicate", f"line {number}") for number, _ in found[1:]]
    else:
      where = ", ".join(str(number) for number, _ in found)
      problems.append(problem(file, "contradictory", f"lines {where} differ"))
  reported = {row.file for row in problems}
  unlisted = [file for file in files if file not in rows and file not in reported]
  problems += [problem(file, "not_listed") for file in unlisted]
  return sources, problems


def _read_table(table: pathlib.Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
  """Returns the header, and (line number, values) of every row that is not blank."""
  try:
    text = read_file(table).decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(f"{table} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
  first = text.lstrip().partition("\n")[0]
  # In many locales, spreadsheet programs write semicolons.
  delimiter = max(",;\t", key=first.count)
  rows = list(csv_rows(table, io.StringIO(text, newline=""), delimiter))
  if not rows:
    raise ValueError(f"{table} is empty; it needs a header with the columns file and label")
  return rows[0][1], rows[1:]


def _match_columns(
  table: pathlib.Path, header: list[str]
) -> tuple[dict[str, int], list[ReportRow]]:
  names = [re.sub(r"[\s\-]+", "_", name.strip()).casefold() for name in header]
  columns = {}
  for field, spellings in COLUMNS.items():
    present = [spelling for spelling in spellings if spelling in names]
    if present:
      if names.count(present[0]) > 1:
        raise ValueError(f"{table}: column {present[0]!r} appears twice in the header")
      columns[field] = names.index(present[0])
  missing = [field for field in ("file", "label") if field not in columns]
  if missing:
    wanted = " and ".join("label (or expression)" if f == "label" else f for f in missing)
    found = ", ".join(name.strip() or "(no name)" for name in header)
    raise ValueError(f"{table} has no column {wanted}; its columns are: {found}")
  unknown = [name for position, name in enumerate(header) if position not in columns.values()]
  return columns, [problem(LABELS_FILE, "unknown_column", name) for name in unknown]


def _from_row(file: str, row: dict[str, str]) -> FolderImage:
  numbers: dict[str, Any] = {
    field: _number(field, row[field]) for field in NUMBERS if row.get(field)
  }
  label = normalize_label(row["label"])
  split = row.get("split", "").casefold() or "train"
  if split not in SPLITS:
    raise ValueError(f"split {row['split']!r} is none of {', '.join(sorted(SPLITS))}")
  if row.get("clip") and "frame" not in numbers:
    number = frame_number(file)
    numbers["frame"] = -1 if number is None else number
  return FolderImage(
    file=file,
    label=label,
    subject=row.get("subject", ""),
    clip=row.get("clip", ""),
    database=row.get("database", ""),
    split=SPLITS[split],
    affect=_affect(row),
    **numbers,
  )


def _affect(row: dict[str, str]) -> tuple[float, ...]:
  """Valence and arousal of a row; empty where neither is given."""
  texts = [row.get(name, "") for name in AFFECT]
  if not any(texts):
    return ()
  try:
    values = tuple(map(float, texts))
  except ValueError:
    values = ()
  if not values or not all(-1 <= value <= 1 for value in values):
    raise ValueError(f"valence and arousal must both be in [-1, 1], got {', '.join(texts)}")
  return values


def _number(field: str, text: str) -> int:
  """Parses a whole number; spreadsheet programs may write 12 as 12.0."""
  try:
    value = float(text)
  except ValueError:
    value = -1.0
  if value < 0 or value != int(value):
    raise ValueError(f"{field} {text!r} is not a whole number")
  return int(value)


class _FileFinder:
  """Finds the file of a row: as written, in images/, or in another letter case."""

  def __init__(self, files: Iterable[str]):
    self._files = set(files)
    self._folded: dict[str, list[str]] = collections.defaultdict(list)
    for file in self._files:
      self._folded[file.casefold()].append(file)

  def find(self, name: str) -> str | None:
    plain = re.sub(r"^(\./)+", "", name.replace("\\", "/"))
    candidates = (plain, f"{IMAGES_FOLDER}/{plain}")
    for candidate in candidates:
      if candidate in self._files:
        return candidate
    for candidate in candidates:
      same = self._folded.get(candidate.casefold(), [])
      if len(same) == 1:
        return same[0]
    return None
