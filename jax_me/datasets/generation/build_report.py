"""Build report `report.jsonl`: one row per source file, written while the dataset is built.

Duplicates are detected here too: the rows contain the hash of each source file.
"""

import json
import os
import pathlib
from typing import Any

from jax_me.datasets.generation.example import ReportRow
from jax_me.datasets.generation.progress_file import ReportProgress, open_truncated

REPORT_FILE = "report.jsonl"
MAX_DESCRIBED_PROBLEMS = 3


class BuildReport:
  """Writes report rows one by one.

  Only counts and, for every source file, 16 bytes of its hash and the offset of its row are kept in
  memory: about 60 MB for half a million images.

  Attributes:
    progress: size and counts of what is written; the caller must not change it.
  """

  def __init__(self, folder: pathlib.Path, progress: ReportProgress):
    """Opens the report and truncates it to the recorded progress.

    Raises:
      ValueError: the report is shorter than recorded, or damaged.
    """
    self.progress = progress
    self._path = folder / REPORT_FILE
    self._first_rows: dict[bytes, int] = {}
    self._file = open_truncated(self._path, progress.size)
    if progress.size:
      self._read_digests()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def add(self, row: ReportRow, split: str = "") -> None:
    """Adds one row.

    Args:
      row: the row.
      split: the split that the file belongs to, "" for problems of the listing.
    """
    record: dict[str, Any] = {"file": row.file}
    if split:
      record["split"] = split
    record |= {"status": row.status, **row.details}
    if row.digest:
      record["sha256"] = row.digest
      if earlier := self._find_duplicate(record):
        record["same_content_as"] = earlier["file"]
        pairs = self.progress.same_content.setdefault(split, {})
        pairs[earlier["split"]] = pairs.get(earlier["split"], 0) + 1
    line = json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    self._file.write(line)
    self.progress.size += len(line)
    self.progress.statuses[row.status] = self.progress.statuses.get(row.status, 0) + 1
    if row.status != "ok" and len(self.progress.first) < MAX_DESCRIBED_PROBLEMS:
      self.progress.first.append(f"{row.file}: {row.status}")

  def sync(self) -> None:
    """Flushes everything to disk."""
    self._file.flush()
    os.fsync(self._file.fileno())

  def problems(self) -> str:
    """Counts of statuses other than "ok" and the first few names; "" if there are none."""
    statuses, first = self.progress.statuses, self.progress.first
    bad = ", ".join(f"{count} {status}" for status, count in statuses.items() if status != "ok")
    return f"Problems: {bad} ({'; '.join(first)}); see {REPORT_FILE}" if bad else ""

  def _find_duplicate(self, record: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the first row with the same content; examples from the same file do not count."""
    offset = self._first_rows.setdefault(_key(record["sha256"]), self.progress.size)
    if offset == self.progress.size:
      return None
    self._file.flush()
    with self._path.open("rb") as file:
      file.seek(offset)
      earlier = json.loads(file.readline())
    return None if _source(earlier) == _source(record) else earlier

  def _read_digests(self) -> None:
    offset = 0
    with self._path.open("rb") as file:
      for line in file:
        digest = json.loads(line).get("sha256", "")
        if digest:
          self._first_rows.setdefault(_key(digest), offset)
        offset += len(line)


def _key(digest: str) -> bytes:
  return bytes.fromhex(digest)[:16]


def _source(record: dict[str, Any]) -> tuple[str, str]:
  return record["file"].partition("#")[0], record["split"]
