"""Tables that others wrote, as texts, with the line that each row stands on for error messages."""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Sequence
from typing import NamedTuple


class InvalidTable(ValueError):
  """A file that is not the table it should be; the message names file, line and column."""


class Row(NamedTuple):
  """One row of a table.

  Attributes:
    line: of the file, from 1; of a row with line breaks in a cell, the last.
    cells: column name -> text.
  """

  line: int
  cells: dict[str, str]


def read_rows(
  path: str | os.PathLike[str], *, known: Sequence[str], needed: Sequence[str]
) -> tuple[list[str], list[Row]]:
  """Reads a table with a header line, separated by commas, semicolons or tabs.

  Args:
    path: the file; UTF-8, with or without a byte order mark.
    known: column names that are found whatever their case and the spaces around them, and come
      back as given here. Others come back as they are written.
    needed: those of them that must be there.

  Returns:
    the column names in their order, and the rows; lines without any text are left out.

  Raises:
    InvalidTable: no such table; the message names the file, and line or column.
    OSError: the file cannot be read.
  """
  with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
    first = file.readline()
    file.seek(0)
    marks = [mark for mark in ",;\t" if mark in first] or [","]
    reader = csv.reader(file, strict=True, delimiter=max(marks, key=first.count))
    try:
      lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
      raise InvalidTable(f"{path}, line {reader.line_num}: {error}") from error
  header = _header(path, lines[0][1] if lines else [], known, needed)
  for line, cells in lines[1:]:
    if len(cells) != len(header):
      raise InvalidTable(f"{path}, line {line}: {len(cells)} cells, the header has {len(header)}")
  return header, [Row(line, dict(zip(header, cells, strict=True))) for line, cells in lines[1:]]


def _header(
  path: str | os.PathLike[str], cells: Sequence[str], known: Sequence[str], needed: Sequence[str]
) -> list[str]:
  spelt = {name.casefold(): name for name in known}
  header = [spelt.get(cell.strip().casefold(), cell.strip()) for cell in cells]
  missing = [name for name in needed if name not in header]
  if missing:
    near = {name: difflib.get_close_matches(name, header, n=1, cutoff=0.4) for name in missing}
    hints = [f"rename {found[0]!r} to {name!r}?" for name, found in near.items() if found]
    raise InvalidTable(
      f"{path} has no column {' and no column '.join(missing)}; its first line reads "
      f"{', '.join(header)!r}" + (f" ({' '.join(hints)})" if hints else "")
    )
  for name in header:
    if name and header.count(name) > 1:
      raise InvalidTable(f"{path}, line 1: column {name!r} stands there twice")
  return header
