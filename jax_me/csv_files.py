"""CSV files: a reader for tables from any program, and a writer.

A spreadsheet runs a cell like "=1+1" as a formula. Such text is written with an apostrophe before
it, which the reader removes; numbers are written as they are.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

_FORMULA = re.compile(r"'*[=+\-@\t\r]")


class TableError(ValueError):
  """A table that cannot be read, or lacks columns; the message names the file and the place."""


class CsvRow(NamedTuple):
  """One row of a CSV file.

  Attributes:
    line: line number from 1; the last line of a row whose cells contain line breaks.
    cells: column name -> text.
  """

  line: int
  cells: dict[str, str]


def read_rows(
  path: str | os.PathLike[str], *, known: Sequence[str], required: Sequence[str]
) -> tuple[list[str], list[CsvRow]]:
  """Reads a table with a header line, separated by commas, semicolons or tabs.

  Args:
    path: a UTF-8 file, with or without a byte order mark.
    known: column names that are matched ignoring case and surrounding spaces, and returned as
      spelt here. Other column names are returned as they are in the file.
    required: known columns that must be present.

  Returns:
    The column names in file order, and the rows; empty lines are skipped.

  Raises:
    TableError: not a valid table; the message names the file, and the line or column.
    OSError: the file cannot be read.
  """
  with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
    first = file.readline()
    file.seek(0)
    delimiters = [delimiter for delimiter in ",;\t" if delimiter in first] or [","]
    lines = list(csv_rows(path, file, max(delimiters, key=first.count), strict=True))
  header = _parse_header(path, lines[0][1] if lines else [], known, required)
  for line, cells in lines[1:]:
    if len(cells) != len(header):
      raise TableError(f"{path}, line {line}: {len(cells)} cells, the header has {len(header)}")
  return header, [CsvRow(line, dict(zip(header, cells, strict=True))) for line, cells in lines[1:]]


def csv_rows(
  path: str | os.PathLike[str], lines: Iterable[str], delimiter: str = ",", *, strict: bool = False
) -> Iterator[tuple[int, list[str]]]:
  """Reads the rows of a CSV file that are not blank.

  Args:
    path: the file, for messages.
    lines: its lines with their line breaks, which may be part of a quoted cell.
    delimiter: character between cells.
    strict: wrong quoting is an error, and cells keep the spaces after a delimiter.

  Yields:
    Line number from 1 (the last line of a row of several lines) and cells of each row.

  Raises:
    TableError: a line that is not CSV.
  """
  reader = csv.reader(lines, delimiter=delimiter, strict=strict, skipinitialspace=not strict)
  try:
    for cells in reader:
      if any(cell.strip() for cell in cells):
        yield reader.line_num, [_unescape(cell) for cell in cells]
  except csv.Error as error:
    raise TableError(f"{path}, line {reader.line_num}: {error}") from error


def _parse_header(
  path: str | os.PathLike[str], cells: Sequence[str], known: Sequence[str], required: Sequence[str]
) -> list[str]:
  spelling = {name.casefold(): name for name in known}
  header = [spelling.get(cell.strip().casefold(), cell.strip()) for cell in cells]
  missing = [name for name in required if name not in header]
  if missing:
    near = {name: difflib.get_close_matches(name, header, n=1, cutoff=0.4) for name in missing}
    hints = [f"rename {found[0]!r} to {name!r}?" for name, found in near.items() if found]
    raise TableError(
      f"{path} has no column {' and no column '.join(missing)}; its first line is "
      f"{', '.join(header)!r}" + (f" ({' '.join(hints)})" if hints else "")
    )
  for name in header:
    if name and header.count(name) > 1:
      raise TableError(f"{path}, line 1: column {name!r} appears twice")
  return header


def csv_bytes(rows: Iterable[Iterable[object]]) -> bytes:
  """Formats rows as CSV; None becomes an empty cell.

  POSIX file names may contain bytes that are not UTF-8, which Python decodes as surrogates; they
  are written as these bytes.
  """
  text = io.StringIO()
  csv.writer(text, lineterminator="\n").writerows(map(_escape, row) for row in rows)
  return text.getvalue().encode("utf-8", "surrogateescape")


def _escape(cell: object) -> object:
  if not isinstance(cell, str) or not _FORMULA.match(cell) or _is_number(cell):
    return cell
  return f"'{cell}"


def _unescape(cell: str) -> str:
  return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return not text.startswith(("\t", "\r"))
