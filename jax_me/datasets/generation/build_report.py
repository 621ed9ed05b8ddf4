"""Build report `report.jsonl`: one row per source file, with the copies among the files."""

import collections
import json
import pathlib
from typing import Any

from jax_me.datasets.generation.tasks import ReportRow

REPORT_FILE = "report.jsonl"
MAX_DESCRIBED_PROBLEMS = 3


def report_record(row: ReportRow, split: str = "") -> dict[str, Any]:
  """The JSON object of a row; `split` is "" for problems of the listing."""
  record: dict[str, Any] = {"file": row.file}
  if split:
    record["split"] = split
  record |= {"status": row.status, **row.details}
  if row.digest:
    record["sha256"] = row.digest
  return record


class BuildReport:
  """Writes the report of a build whose tasks are all finished.

  Of every source file 16 bytes of its hash and its name are kept in memory.

  Attributes:
    statuses: status -> number of rows.
    same_content: split -> split of the earlier file with the same content -> number of files.
  """

  def __init__(self, folder: pathlib.Path):
    self.statuses: collections.Counter[str] = collections.Counter()
    self.same_content: dict[str, dict[str, int]] = {}
    self._first_problems: list[str] = []
    self._first_files: dict[bytes, tuple[str, str]] = {}
    self._file = (folder / REPORT_FILE).open("wb")

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def add(self, record: dict[str, Any]) -> None:
    """Adds a row, with the first file of the same content; examples of one file do not count."""
    split, status = record.get("split", ""), record["status"]
    if digest := record.get("sha256"):
      key = bytes.fromhex(digest)[:16]
      file, earlier = self._first_files.setdefault(key, (record["file"], split))
      if (_source(file), earlier) != (_source(record["file"]), split):
        record = {**record, "same_content_as": file}
        pairs = self.same_content.setdefault(split, {})
        pairs[earlier] = pairs.get(earlier, 0) + 1
    self._file.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
    self.statuses[status] += 1
    if status != "ok" and len(self._first_problems) < MAX_DESCRIBED_PROBLEMS:
      self._first_problems.append(f"{record['file']}: {status}")

  def problems(self) -> str:
    """Counts of statuses other than "ok" and the first few names; "" if there are none."""
    bad = [f"{count} {status}" for status, count in self.statuses.items() if status != "ok"]
    first = "; ".join(self._first_problems)
    return f"Problems: {', '.join(bad)} ({first}); see {REPORT_FILE}" if bad else ""


def _source(file: str) -> str:
  return file.partition("#")[0]
