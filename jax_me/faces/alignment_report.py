"""report.jsonl: one row for every input file, kept so that killed work can go on."""

import collections
import json
import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from jax_me.faces import input_files

REPORT_NAME = "report.jsonl"


def read_report(folder: str | os.PathLike) -> list[dict]:
  """The rows of an aligned folder's report, sorted by file.

  Raises:
    FileNotFoundError: the folder has no report.
    ValueError: a line is not JSON.
  """
  with (pathlib.Path(folder) / REPORT_NAME).open(encoding="utf-8") as lines:
    return [json.loads(line) for line in lines]


def pixel_statistics(rows: Iterable[dict]) -> tuple[list[float], list[float]] | None:
  """Mean and standard deviation of aligned pictures, per RGB channel, of values in [0, 1].

  Args:
    rows: report rows, of training subjects only when the numbers are for training; rows without
      an aligned picture do not count. All pictures must be of one size.

  Returns:
    (mean [3], std [3]) over all pixels, or None when no row has a picture.
  """
  count, total, square = 0, np.zeros(3), np.zeros(3)
  for row in rows:
    if row["output"] is not None:
      count += row["pixels"]
      total += row["pixel_sum"]
      square += row["pixel_square_sum"]
  if not count:
    return None
  mean = total / count / 255
  variance = np.maximum(square / count / 255**2 - mean**2, 0)
  return mean.tolist(), np.sqrt(variance).tolist()


class Report:
  """The report being written: rows are appended as files are finished, and sorted at the end.

  Rows stay on disk; in memory is only where each begins.
  """

  def __init__(self, output: pathlib.Path):
    """Opens or creates the report of an output folder.

    A last line torn by a kill is cut off; a line that is not a row is passed over, and its file
    done again.

    Raises:
      OSError: the report cannot be written.
    """
    self._path = output / REPORT_NAME
    self._path.touch()
    self._offsets: dict[str, int] = {}
    self._size = 0
    self._recover()
    self._file = self._path.open("ab", buffering=0)

  def _recover(self) -> None:
    with self._path.open("rb") as lines:
      for line in lines:
        if not line.endswith(b"\n"):
          break
        try:
          self._offsets[json.loads(line)["file"]] = self._size
        except (ValueError, KeyError, TypeError):
          pass
        self._size += len(line)
    os.truncate(self._path, self._size)

  def rows(self) -> Iterator[dict]:
    """The latest row of every file that has one."""
    with self._path.open("rb") as lines:
      for offset in self._offsets.values():
        lines.seek(offset)
        yield json.loads(lines.readline())

  def __contains__(self, name: str) -> bool:
    return name in self._offsets

  def drop(self, name: str) -> None:
    """Forgets the row of a file; its line goes when the report is finished."""
    del self._offsets[name]

  def append(self, row: dict) -> None:
    """Adds a row; it replaces an earlier one of the same file."""
    line = json.dumps(row).encode() + b"\n"
    self._offsets[row["file"]] = self._size
    self._size += len(line)
    while line:  # an unbuffered file may take a part only
      line = line[self._file.write(line) :]

  def finish(self, files: Iterable[input_files.SourceFile]) -> dict:
    """Sorts the report, keeps the rows of these files only, and counts.

    Args:
      files: all input files; each must have a row.

    Returns:
      {"files", "counts": {status: number}, "mean", "std"}; see `pixel_statistics`.
    """
    counts: collections.Counter[str] = collections.Counter()
    partial = self._path.with_name(f".{REPORT_NAME}.partial")

    def written_rows() -> Iterator[dict]:
      with self._path.open("rb") as lines, partial.open("wb") as result:
        for file in files:
          lines.seek(self._offsets[file.name])
          line = lines.readline()
          result.write(line)
          row = json.loads(line)
          counts[row["status"]] += 1
          yield row

    mean, std = pixel_statistics(written_rows()) or (None, None)
    self.close()
    os.replace(partial, self._path)
    return {
      "files": sum(counts.values()),
      "counts": dict(sorted(counts.items())),
      "mean": mean,
      "std": std,
    }

  def close(self) -> None:
    self._file.close()
