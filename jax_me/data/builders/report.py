"""What became of every source file: report.jsonl beside a dataset, streamed while it is built."""

import collections
import json
import pathlib
from typing import Any

REPORT_FILE = "report.jsonl"
FIRST_PROBLEMS = 3


class BuildReport:
  """Writes rows as they come; keeps only their counts in memory.

  Attributes:
    counts: number of rows of each status; "ok" means stored unharmed.
  """

  def __init__(self, folder: pathlib.Path):
    self.counts: collections.Counter[str] = collections.Counter()
    self._first: list[str] = []
    self._file = (folder / REPORT_FILE).open("w", encoding="utf-8")

  def __enter__(self) -> "BuildReport":
    return self

  def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
    self._file.close()

  def add(self, file: str, status: str, **details: Any) -> None:
    """Adds one row; details are JSON values."""
    row = {"file": file, "status": status, **details}
    self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
    self.counts[status] += 1
    if status != "ok" and len(self._first) < FIRST_PROBLEMS:
      self._first.append(f"{file}: {status}")

  def problems(self) -> str:
    """Counts of everything that is not "ok", and the first few names; "" when all is well."""
    bad = ", ".join(f"{count} {status}" for status, count in self.counts.items() if status != "ok")
    return f"Problems: {bad} ({'; '.join(self._first)}); see {REPORT_FILE}" if bad else ""
