"""Reader of annotation tables (xlsx, csv): rows with known column names and plain cells.

Published tables have notes above the header, blank columns, numbers stored as text and text stored
as numbers, and copies were saved by various programs. Nothing in a file is executed: no macro, no
formula (the result that Excel stored is read), no link.
"""

import contextlib
import csv
import io
import pathlib
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

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


class TableError(ValueError):
  """A table that cannot be read, or lacks columns; the message names the file and the remedy."""


class _Columns(NamedTuple):
  """Positions of the wanted columns in a header row."""

  positions: dict[str, int]
  missing: list[str]
  found: list[str]


def read_table(
  path: pathlib.Path,
  *,
  header: Sequence[str],
  optional: Sequence[str] = (),
  aliases: Mapping[str, Sequence[str]] | None = None,
  sheet: str | None = None,
) -> list[dict[str, Cell]]:
  """Reads the rows below the header of a table.

  The header is the first of the top 100 rows that has all required names; letter case, spaces and
  punctuation are ignored. Rows in which all wanted columns are blank are dropped.

  Args:
    path: .xlsx or .xlsm, or text (.csv, .tsv, .txt) separated by comma, semicolon or tab.
    header: required columns.
    optional: columns that are None in every row if the table lacks them.
    aliases: column -> its other names in some copies.
    sheet: a sheet of a workbook; None for the first with such a header.

  Returns:
    One dict per row, in the file's order: every name of `header` and `optional` as given, and
    `ROW`, the 1-based row of the file. Cells are stripped str, int, float, or None if blank; whole
    floats and numbers written as text without leading zeros are converted to numbers, dates to ISO
    text.

  Raises:
    TableError: no such file or sheet, unsupported format, damaged, too large, or no header row.
  """
  wanted = {
    name: [_normalize(spelling) for spelling in (name, *(aliases or {}).get(name, ()))]
    for name in (*header, *optional)
  }
  best: tuple[str, _Columns] | None = None
  for source, rows in _read_tables(path, sheet):
    searching = True
    positions: dict[str, int] = {}
    table: list[dict[str, Cell]] = []
    for number, cells in rows:
      if not searching:
        row: dict[str, Cell] = {name: None for name in wanted}
        row |= {name: cells[at] for name, at in positions.items() if at < len(cells)}
        if any(cell is not None for cell in row.values()):
          table.append({**row, ROW: number})
      elif number > _HEADER_WITHIN_ROWS:
        break
      else:
        columns = _match_columns(cells, wanted, header)
        if not columns.missing:
          searching, positions = False, columns.positions
        elif best is None or len(columns.missing) < len(best[1].missing):
          best = (source, columns)
    if not searching:
      return table
  raise TableError(_describe_missing_header(path, sheet, header, best))


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


def _match_columns(
  cells: list[Cell], wanted: Mapping[str, list[str]], header: Sequence[str]
) -> _Columns:
  first: dict[str, int] = {}
  for at, cell in enumerate(cells):
    if cell is not None and (name := _normalize(cell)):
      first.setdefault(name, at)
  positions = {
    name: first[spelling]
    for name, spellings in wanted.items()
    # Reversed, so that the first of several spellings takes precedence.
    for spelling in reversed(spellings)
    if spelling in first
  }
  missing = [name for name in header if name not in positions]
  return _Columns(positions, missing, [str(cell) for cell in cells if cell is not None])


def _describe_missing_header(
  path: pathlib.Path,
  sheet: str | None,
  header: Sequence[str],
  best: tuple[str, _Columns] | None,
) -> str:
  where = f"{path}" + (f", sheet {sheet}" if sheet is not None else "")
  start = f"{where}: no header row with the columns {', '.join(header)}"
  if best is None or len(best[1].missing) == len(header):
    return f"{start} in its first {_HEADER_WITHIN_ROWS} rows; is it the right table?"
  source, columns = best
  found = columns.found[:_MAX_LISTED_NAMES]
  return (
    f"{start}. The closest row, in {source}, lacks {', '.join(columns.missing)}; "
    f"it has {', '.join(found)}"
  )


def _read_tables(
  path: pathlib.Path, sheet: str | None
) -> Iterator[tuple[str, Iterator[tuple[int, list[Cell]]]]]:
  """Yields (source, numbered rows) of every sheet, or of a text with every delimiter."""
  if path.suffix.lower() not in (*ENDINGS, ".xls"):
    raise TableError(f"{path} is not a table: its extension must be one of {', '.join(ENDINGS)}")
  try:
    size = path.stat().st_size
    if size > MAX_BYTES:
      raise TableError(_size_message(path, f"{size} bytes"))
    data = path.read_bytes()
  except OSError as error:
    raise TableError(f"{path} cannot be read: {error.strerror or error}") from error
  if data.startswith(_COMPOUND) or path.suffix.lower() == ".xls":
    raise TableError(
      f"{path} is in the old .xls format of Excel or protected by a password; open it in Excel or "
      "LibreOffice and save it as .xlsx without a password"
    )
  if data.startswith(_ZIP):
    yield from _read_sheets(path, data, sheet)
  elif path.suffix.lower().startswith(".xls"):
    raise TableError(f"{path} is not an Excel file, or is damaged; copy it again")
  else:
    text = _decode(data)
    for delimiter in _DELIMITERS:
      yield str(path), _text_rows(path, text, delimiter)


def _read_sheets(
  path: pathlib.Path, data: bytes, sheet: str | None
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
    chosen = [
      page
      for page in book.worksheets
      if sheet is None or page.title.strip().casefold() == sheet.strip().casefold()
    ]
    if not chosen:
      names = ", ".join(page.title for page in book.worksheets)
      raise TableError(f"{path} has no sheet {sheet!r}; it has {names}")
    for page in chosen:
      # Some programs store a wrong size; rows beyond it would be lost.
      page.reset_dimensions()
      yield f"sheet {page.title}", _sheet_rows(path, page)


def _sheet_rows(path: pathlib.Path, page: Any) -> Iterator[tuple[int, list[Cell]]]:
  cells = 0
  rows = enumerate(page.iter_rows(values_only=True), 1)
  while True:
    try:
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        number, row = next(rows)
    except StopIteration:
      return
    except Exception as error:
      raise _damaged_error(path, error) from error
    cells += len(row)
    if number > MAX_ROWS or cells > MAX_CELLS:
      raise TableError(_size_message(path, f"sheet {page.title}: {number} rows, {cells} cells"))
    yield number, [_parse_cell(cell) for cell in row]


def _decode(data: bytes) -> str:
  if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # Excel's "Unicode text"
    return data.decode("utf-16", errors="replace")
  return data.decode("utf-8-sig", errors="replace")


def _text_rows(path: pathlib.Path, text: str, delimiter: str) -> Iterator[tuple[int, list[Cell]]]:
  reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
  cells = 0
  try:
    for number, row in enumerate(reader, 1):
      cells += len(row)
      if number > MAX_ROWS or cells > MAX_CELLS:
        raise TableError(_size_message(path, f"{number} rows, {cells} cells"))
      yield number, [_parse_cell(cell) for cell in row]
  except csv.Error as error:
    raise TableError(f"{path}, line {reader.line_num}: {error}") from error


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
