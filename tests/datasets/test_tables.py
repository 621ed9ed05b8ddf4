"""Annotation tables in the formats in which copies of the datasets have them."""

import datetime
import io
import zipfile

import openpyxl
import pytest

from jax_me.csv_files import TableError
from jax_me.datasets.generation import tables
from jax_me.datasets.generation.tables import ROW, parse_integer, read_table

HEADER = ("Subject", "Filename", "OnsetFrame", "ApexFrame")


def save(path, rows, sheet="Sheet1", **more):
  book = openpyxl.Workbook()
  book.active.title = sheet
  for row in rows:
    book.active.append(row)
  for title, others in more.items():
    page = book.create_sheet(title)
    for row in others:
      page.append(row)
  book.save(path)
  return path


def without_rows(table):
  return [{name: cell for name, cell in row.items() if name != ROW} for row in table]


def test_blank_columns_numbers_and_texts(tmp_path):
  path = save(
    tmp_path / "coding.xlsx",
    [
      ["Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None, "AU"],
      [1, "EP02_01f ", None, 46.0, 59, 86, None, 4],
      ["01", "EP03_02", "note", " 20 ", "/", 1.5, None, "4+L10"],
      [None] * 8,
      [None, None, "a note in a column without a name", None],
      [2, "006_1_2", None, "046", None, True, None, datetime.date(2020, 4, 10)],
      ["", "  ", None],
    ],
  )
  table = read_table(path, header=HEADER, optional=("OffsetFrame", "AU", "Remarks"))
  names = (*HEADER, "OffsetFrame", "AU", "Remarks")
  assert without_rows(table) == [
    dict(zip(names, (1, "EP02_01f", 46, 59, 86, 4, None), strict=True)),
    dict(zip(names, ("01", "EP03_02", 20, "/", 1.5, "4+L10", None), strict=True)),
    dict(zip(names, (2, "006_1_2", "046", None, "True", "2020-04-10T00:00:00", None), strict=True)),
  ]
  assert [type(row["OnsetFrame"]) for row in table] == [int, int, str]
  assert [row[ROW] for row in table] == [2, 3, 6]


@pytest.mark.parametrize("notes", [0, 13])
def test_header_row_is_searched_for(tmp_path, notes):
  rows = [["Subject", "numbers are those of the first release"]] * notes
  rows += [['"Subject"', "File name", "Onset_Frame", "APEX FRAME"], ["006", "006_1_2", 7, 9]]
  (row,) = read_table(save(tmp_path / "a.xlsx", rows), header=HEADER)
  assert row == dict(zip((*HEADER, ROW), ("006", "006_1_2", 7, 9, notes + 2), strict=True))


def test_sheets(tmp_path):
  path = save(
    tmp_path / "a.xlsx", [], sheet="empty", label=[["Sub", "Onset", "OnsetF"], ["s1", 3, 4]]
  )
  assert without_rows(read_table(path, header=("Sub", "OnsetF"))) == [{"Sub": "s1", "OnsetF": 4}]
  with pytest.raises(TableError, match=r"sheet label, lacks Apex; it has Sub, Onset, OnsetF"):
    read_table(path, header=("Sub", "Apex"))
  with pytest.raises(TableError, match=r"a.xlsx: no header row .* Filename .*right table"):
    read_table(path, header=("Filename",))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_text(tmp_path, encoding, delimiter):
  rows = [HEADER, ("01", '"EP02,01f;x"', "46.0", " /"), ("", "", "", ""), ("2", "é", "5", "")]
  path = tmp_path / "a.csv"
  path.write_bytes("\r\n".join(delimiter.join(row) for row in rows).encode(encoding))
  assert without_rows(read_table(path, header=HEADER)) == [
    dict(zip(HEADER, ("01", "EP02,01f;x", 46, "/"), strict=True)),
    dict(zip(HEADER, (2, "é", 5, None), strict=True)),
  ]


def test_text_named_as_workbook_and_reverse(tmp_path):
  book = save(tmp_path / "a.xlsx", [["Subject"], [1]]).rename(tmp_path / "a.csv")
  assert without_rows(read_table(book, header=("Subject",))) == [{"Subject": 1}]
  text = tmp_path / "b.xlsx"
  text.write_text("Subject\n1\n")
  with pytest.raises(TableError, match="b.xlsx is not an Excel file"):
    read_table(text, header=("Subject",))


def test_other_formats(tmp_path):
  old = tmp_path / "CAS(ME)3_part_A_v2.xls"
  old.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100))
  with pytest.raises(TableError, match="save it as .xlsx"):
    read_table(old, header=HEADER)
  with pytest.raises(TableError, match="cannot be read: No such file"):
    read_table(tmp_path / "gone.xlsx", header=HEADER)
  with pytest.raises(TableError, match="extension must be"):
    read_table(tmp_path / "a.docx", header=HEADER)


def test_wrong_size_in_the_file_loses_no_row(tmp_path):
  path = save(tmp_path / "a.xlsx", [["Subject"], *([number] for number in range(9))])
  rewrite(path, "xl/worksheets/sheet1.xml", b'ref="A1:A10"', b'ref="A1:A2"')
  assert [row["Subject"] for row in read_table(path, header=("Subject",))] == list(range(9))


def test_formulas_are_not_run(tmp_path):
  path = save(tmp_path / "a.xlsx", [["Subject", "Apex"], [1, "=1+1"]])
  (row,) = read_table(path, header=("Subject", "Apex"))
  assert row["Apex"] is None  # Excel would have stored its result


def rewrite(path, member, old, new):
  """Replaces bytes of one member of the archive."""
  with zipfile.ZipFile(path) as archive:
    members = {name: archive.read(name) for name in archive.namelist()}
  assert old in members[member]
  members[member] = members[member].replace(old, new)
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, data in members.items():
      archive.writestr(name, data)


@pytest.mark.slow
def test_damaged_and_hostile_files(tmp_path, monkeypatch):
  path = save(tmp_path / "a.xlsx", [["Subject"], ["x"]])
  whole = path.read_bytes()
  for length in (30, len(whole) // 2, len(whole) - 30):
    path.write_bytes(whole[:length])
    with pytest.raises(TableError, match="a.xlsx is damaged"):
      read_table(path, header=("Subject",))

  bomb = io.BytesIO()
  with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("xl/sharedStrings.xml", bytes(tables.MAX_BYTES + 1))
  path.write_bytes(bomb.getvalue())
  with pytest.raises(TableError, match="a.xlsx is too large .* unpacked"):
    read_table(path, header=("Subject",))

  path.write_bytes(whole)
  entities = b"".join(
    b'<!ENTITY e%d "%s">' % (number, (b"&e%d;" % (number - 1) if number else b"ha") * 10)
    for number in range(10)
  )
  rewrite(
    path,
    "xl/worksheets/sheet1.xml",
    b"<worksheet ",
    b"<!DOCTYPE worksheet [" + entities + b"]><worksheet ",
  )
  rewrite(path, "xl/worksheets/sheet1.xml", b"<t>x</t>", b"<t>&e9;</t>")
  with pytest.raises(TableError, match="a.xlsx is damaged .*amplification"):
    read_table(path, header=("Subject",))

  path.write_bytes(whole)
  rewrite(path, "xl/worksheets/sheet1.xml", b'r="2"', b'r="900000000"')
  monkeypatch.setattr(tables, "MAX_ROWS", 500)
  with pytest.raises(TableError, match="too large .*501 rows"):
    read_table(path, header=("Subject",))
  monkeypatch.setattr(tables, "MAX_CELLS", 50)
  table = tmp_path / "a.csv"
  table.write_text("Subject\n" + "x," * 60)
  with pytest.raises(TableError, match="too large"):
    read_table(table, header=("Subject",))


def test_parse_integer():
  for blank in (None, "", "/", "-", "NaN", "n/a", "?"):
    assert parse_integer(blank) is None
  assert [parse_integer(cell) for cell in (0, 7, "7", "7.0", 7)] == [0, 7, 7, 7, 7]
  for invalid in (1.5, "x", "12a", "006_1"):
    with pytest.raises(ValueError, match="not an integer"):
      parse_integer(invalid)
