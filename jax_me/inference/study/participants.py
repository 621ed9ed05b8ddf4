"""Table of the participants of a study, matched with its video files."""

import dataclasses
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence

from jax_me.csv_files import TableError, read_rows

FILE_COLUMN = "file"


@dataclasses.dataclass(frozen=True)
class Participants:
  """Participants' data of each video.

  Attributes:
    columns: names of the columns beside "file".
    rows: video, as a path relative to the study folder -> column -> text.
  """

  columns: Sequence[str] = ()
  rows: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

  def cells(self, video: str) -> list[str]:
    """The cells of a video; empty for a video that is not in the table."""
    row = self.rows.get(video, {})
    return [row.get(column, "") for column in self.columns]


def read_participants(
  table: str | os.PathLike, folder: str | os.PathLike, videos: Sequence[str]
) -> Participants:
  """Reads the table: a column "file" and any others, separated by commas, semicolons or tabs.

  Args:
    table: the CSV file.
    folder: of the study.
    videos: its videos, as paths relative to `folder`. A cell of "file" is such a path, or a file
      name that only one of them has.

  Returns:
    the participants, in the order of the table. Files that are not among the videos are included
    under the path that the table gives.

  Raises:
    TableError: not such a table, an empty cell "file", or two rows for the same video.
    OSError: the table cannot be read.
  """
  header, rows = read_rows(table, known=(FILE_COLUMN,), required=(FILE_COLUMN,))
  columns = [name for name in header if name and name != FILE_COLUMN]
  found: dict[str, Mapping[str, str]] = {}
  for row in rows:
    if not row.cells[FILE_COLUMN].strip():
      raise TableError(f"{table}, line {row.line}: the cell {FILE_COLUMN!r} is empty")
    video = _match(row.cells[FILE_COLUMN].strip(), pathlib.Path(folder), videos)
    if video in found:
      raise TableError(f"{table}, line {row.line}: a second row for {video}")
    found[video] = {column: row.cells[column] for column in columns}
  return Participants(columns, found)


def check_columns(participants: Participants, taken: Collection[str]) -> None:
  """Raises TableError if a column has the name of one of the results."""
  if clash := sorted({*participants.columns} & {*taken, FILE_COLUMN}):
    raise TableError(
      f"the table of participants has columns with names of result columns: {', '.join(clash)}; "
      "rename them"
    )


def _match(cell: str, folder: pathlib.Path, videos: Sequence[str]) -> str:
  path = pathlib.PurePath(cell.replace("\\", "/"))
  if path.is_absolute() and path.is_relative_to(folder.resolve()):
    path = path.relative_to(folder.resolve())
  name = path.as_posix()
  if name in videos:
    return name
  alike = [video for video in videos if video.rpartition("/")[2] == name]
  return alike[0] if len(alike) == 1 else name
