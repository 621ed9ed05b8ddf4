"""Alignment report (report.jsonl): one row per input file, appended so that runs can resume."""

import collections
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jax_me.faces import input_files

REPORT_NAME = "report.jsonl"

# One JSON object of the report; `align_folder.align_folder` lists its keys.
ReportRow = dict[str, Any]


def read_report(folder: str | os.PathLike) -> list[ReportRow]:
  """The rows of an aligned folder's report, sorted by file.

  Raises:
    FileNotFoundError: the folder has no report.
    ValueError: a line is not JSON.
  """
  with (pathlib.Path(folder) / REPORT_NAME).open(encoding="utf-8") as lines:
    return [json.loads(line) for line in lines]


def pixel_statistics(rows: Iterable[ReportRow]) -> tuple[list[float], list[float]] | None:
  """Mean and standard deviation of the aligned images per RGB channel, of values in [0, 1].

  Args:
    rows: report rows, only of training subjects when the numbers are used for training. Rows
      without an aligned image do not count. All images must have the same size.

  Returns:
    (mean [3], std [3]) over all pixels, or None when no row has an image.
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


class AlignmentReport:
  """The report file while it is written: rows are appended, then sorted at the end.

  Rows stay on disk; only their offsets are kept in memory.
  """

  def __init__(self, output: pathlib.Path):
    """Opens or creates the report of an output folder.

    An incomplete last line of a killed run is removed; an invalid line is skipped, and its file
    is aligned again.

    Raises:
      OSError: the report cannot be written.
    """
    self._path = output / REPORT_NAME
    self._path.touch()
    self._offsets: dict[str, int] = {}
    self._size = 0
    self._read_offsets()
    self._file = self._path.open("ab", buffering=0)

  def _read_offsets(self) -> None:
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

  def rows(self) -> Iterator[ReportRow]:
    """The latest row of every file that has one."""
    with self._path.open("rb") as lines:
      for offset in self._offsets.values():
        lines.seek(offset)
        yield json.loads(lines.readline())

  def __contains__(self, name: str) -> bool:
    return name in self._offsets

  def drop(self, name: str) -> None:
    """Removes the row of a file; its line is left out when the report is finished."""
    del self._offsets[name]

  def append(self, row: ReportRow) -> None:
    """Adds a row; it replaces an earlier row of the same file."""
    line = json.dumps(row).encode() + b"\n"
    self._offsets[row["file"]] = self._size
    self._size += len(line)
    while line:  # an unbuffered write may be partial
      line = line[self._file.write(line) :]

  def finish(self, files: Iterable[input_files.SourceFile]) -> dict[str, Any]:
    """Sorts the report, keeps only the rows of these files, and counts statuses.

    Args:
      files: all input files; each must have a row.

    Returns:
      {"files", "counts", "mean", "std"}: number of files, status -> number of files, and, see
      `pixel_statistics`, mean and standard deviation per RGB channel or None.
    """
    counts: collections.Counter[str] = collections.Counter()
    partial = self._path.with_name(f".{REPORT_NAME}.partial")

    def write_rows() -> Iterator[ReportRow]:
      with self._path.open("rb") as lines, partial.open("wb") as result:
        for file in files:
          lines.seek(self._offsets[file.name])
          line = lines.readline()
          result.write(line)
          row = json.loads(line)
          counts[row["status"]] += 1
          yield row

    mean, std = pixel_statistics(write_rows()) or (None, None)
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
