"""Reader of annotation tables (xlsx, csv): rows with known column names and plain cells.

Published tables have notes above the header, blank columns, numbers stored as text and text stored
as numbers, and copies were saved by various programs. Nothing in a file is executed: no macro, no
formula (the result that Excel stored is read), no link.
"""

import contextlib
import io
import pathlib
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jax_me.bounded_reading import read_file
from jax_me.csv_files import TableError, csv_rows

ROW = "row"
ENDINGS = (".xlsx", ".xlsm", ".csv", ".tsv", ".txt")

Cell = str | int | float | None

# Far above any table of annotations (the largest has 5,000 rows of 12 cells).
MAX_BYTES = 64 * 2**20
MAX_ROWS = 200_000
MAX_CELLS = 4_000_000
_HEADER_WITHIN_ROWS = 100
_DELIMITERS = ",;\t"
_MAX_LISTED_NAMES = 20

_ZIP = b"PK\x03\x04"
# Excel's format before 2007, and the container of an xlsx with a password.
_COMPOUND = b"\xd0\xcf\x11\xe0"
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?")


def read_table(
  path: pathlib.Path, *, header: Sequence[str], optional: Sequence[str] = ()
) -> list[dict[str, Cell]]:
  """Reads the rows below the header of a table.

  The header is the first of the top 100 rows that has all required names, in the first sheet with
  such a row; letter case, spaces and punctuation are ignored. Rows in which all wanted columns are
  blank are dropped.

  Args:
    path: .xlsx or .xlsm, or text (.csv, .tsv, .txt) separated by comma, semicolon or tab.
    header: required columns.
    optional: columns that are None in every row if the table lacks them.

  Returns:
    One dict per row, in the file's order: every name of `header` and `optional` as given, and
    `ROW`, the 1-based row of the file. Cells are stripped str, int, float, or None if blank; whole
    floats and numbers written as text without leading zeros are converted to numbers, dates to ISO
    text.

  Raises:
    TableError: no such file, unsupported format, damaged, too large, or no header row.
  """
  closest: tuple[list[str], str, list[Cell]] = (list(header), "", [])
  for source, rows in _read_tables(path):
    for number, cells in rows:
      if number > _HEADER_WITHIN_ROWS:
        break
      positions = _find_columns(cells, (*header, *optional))
      missing = [name for name in header if name not in positions]
      if not missing:
        return _rows_below(rows, positions, (*header, *optional))
      if len(missing) < len(closest[0]):
        closest = (missing, source, cells)
  start = f"{path}: no header row with the columns {', '.join(header)}"
  missing, source, cells = closest
  if not source:
    raise TableError(f"{start} in its first {_HEADER_WITHIN_ROWS} rows; is it the right table?")
  found = [str(cell) for cell in cells if cell is not None][:_MAX_LISTED_NAMES]
  raise TableError(
    f"{start}. The closest row, in {source}, lacks {', '.join(missing)}; it has {', '.join(found)}"
  )


def _find_columns(cells: Sequence[Cell], wanted: Sequence[str]) -> dict[str, int]:
  """Name -> position of the first cell with this name."""
  normalized = [_normalize(cell) if cell is not None else "" for cell in cells]
  return {name: normalized.index(n) for name in wanted if (n := _normalize(name)) in normalized}


def _rows_below(
  rows: Iterable[tuple[int, list[Cell]]], positions: Mapping[str, int], names: Sequence[str]
) -> list[dict[str, Cell]]:
  table = []
  for number, cells in rows:
    row: dict[str, Cell] = {name: None for name in names}
    row |= {name: cells[at] for name, at in positions.items() if at < len(cells)}
    if any(cell is not None for cell in row.values()):
      table.append({**row, ROW: number})
  return table


def parse_integer(cell: Cell) -> int | None:
  """Reads a cell with a frame number; None for blank, "/", "-", "?", "NaN" and the like.

  Raises:
    ValueError: the cell holds something else.
  """
  if cell is None or isinstance(cell, int):
    return cell
  if isinstance(cell, str):
    if cell.casefold() in ("", "/", "\\", "-", "--", "?", "nan", "none", "null", "na", "n/a"):
      return None
    cell = _parse_cell(cell)
  if isinstance(cell, int):
    return cell
  raise ValueError(f"{cell!r} is not an integer")


def _normalize(name: object) -> str:
  return re.sub(r"[\W_]+", "", str(name)).casefold()


def _read_tables(path: pathlib.Path) -> Iterator[tuple[str, Iterator[tuple[int, list[Cell]]]]]:
  """Yields (source, numbered rows) of every sheet, or of a text with every delimiter."""
  if path.suffix.lower() not in (*ENDINGS, ".xls"):
    raise TableError(f"{path} is not a table: its extension must be one of {', '.join(ENDINGS)}")
  try:
    size = path.stat().st_size
    if size > MAX_BYTES:
      raise TableError(_size_message(path, f"{size} bytes"))
    data = read_file(path, MAX_BYTES)
  except OSError as error:
    raise TableError(f"{path} cannot be read: {error.strerror or error}") from error
  if data.startswith(_COMPOUND) or path.suffix.lower() == ".xls":
    raise TableError(
      f"{path} is in the old .xls format of Excel or protected by a password; open it in Excel or "
      "LibreOffice and save it as .xlsx without a password"
    )
  if data.startswith(_ZIP):
    yield from _read_sheets(path, data)
  elif path.suffix.lower().startswith(".xls"):
    raise TableError(f"{path} is not an Excel file, or is damaged; copy it again")
  else:
    text = _decode(data)
    for delimiter in _DELIMITERS:
      rows = csv_rows(path, io.StringIO(text, newline=""), delimiter)
      yield str(path), _parse_rows(path, path.name, rows)


def _read_sheets(
  path: pathlib.Path, data: bytes
) -> Iterator[tuple[str, Iterator[tuple[int, list[Cell]]]]]:
  # Imported here, so that importing the builders stays cheap.
  import openpyxl

  try:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
      # zipfile never unpacks more of a member than this size.
      unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MAX_BYTES:
      raise TableError(_size_message(path, f"{unpacked} bytes unpacked"))
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # about styles and validations, which are not read
      book = openpyxl.load_workbook(
        io.BytesIO(data), read_only=True, data_only=True, keep_links=False
      )
  except TableError:
    raise
  except Exception as error:  # openpyxl raises many types for damaged files
    raise _damaged_error(path, error) from error
  with contextlib.closing(book):
    for page in book.worksheets:
      # Some programs store a wrong size; rows beyond it would be lost.
      page.reset_dimensions()
      source = f"sheet {page.title}"
      yield source, _parse_rows(path, source, _sheet_rows(path, page))


def _sheet_rows(path: pathlib.Path, page: Any) -> Iterator[tuple[int, Sequence[Any]]]:
  rows = enumerate(page.iter_rows(values_only=True), 1)
  while True:
    try:
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        row = next(rows, None)
    except Exception as error:
      raise _damaged_error(path, error) from error
    if row is None:
      return
    yield row


def _parse_rows(
  path: pathlib.Path, source: str, rows: Iterable[tuple[int, Sequence[Any]]]
) -> Iterator[tuple[int, list[Cell]]]:
  """Parses the cells of numbered rows, up to the largest size of a table."""
  total = 0
  for number, cells in rows:
    total += len(cells)
    if number > MAX_ROWS or total > MAX_CELLS:
      raise TableError(_size_message(path, f"{source}: {number} rows, {total} cells"))
    yield number, [_parse_cell(cell) for cell in cells]


def _decode(data: bytes) -> str:
  if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # Excel's "Unicode text"
    return data.decode("utf-16", errors="replace")
  return data.decode("utf-8-sig", errors="replace")


def column_positions(path: pathlib.Path, header: Sequence[str], wanted: Sequence[str]) -> list[int]:
  """Finds columns by their names, ignoring letter case and spaces around them.

  Args:
    path: the file, for messages.
    header: cells of its header.
    wanted: names in lower case.

  Returns:
    The position of each wanted column.

  Raises:
    TableError: a column is missing.
  """
  names = [cell.strip().lower() for cell in header]
  if missing := [name for name in wanted if name not in names]:
    raise TableError(
      f"{path} has no column {', '.join(missing)}; its columns are: {', '.join(names) or 'none'}"
    )
  return [names.index(name) for name in wanted]


def _parse_cell(cell: Any) -> Cell:
  if cell is None or isinstance(cell, int) and not isinstance(cell, bool):
    return cell
  if isinstance(cell, float):
    return int(cell) if cell.is_integer() else cell
  if hasattr(cell, "isoformat"):
    return cell.isoformat()
  text = str(cell).strip()
  if not _NUMBER.fullmatch(text):  # "013" and "006_1_2" are names
    return text or None
  number = float(text)
  return int(number) if number.is_integer() else number


def _damaged_error(path: pathlib.Path, error: Exception) -> TableError:
  return TableError(
    f"{path} is damaged or not an Excel workbook ({type(error).__name__}: {error}); copy it again, "
    "or open it in Excel or LibreOffice and save it as .xlsx"
  )


def _size_message(path: pathlib.Path, size: str) -> str:
  return (
    f"{path} is too large for an annotation table ({size}; at most {MAX_BYTES} bytes, "
    f"{MAX_ROWS} rows, {MAX_CELLS} cells)"
  )
