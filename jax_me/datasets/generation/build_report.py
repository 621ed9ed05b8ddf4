"""What became of every source file: report.jsonl beside a dataset, streamed while it is built.

Equal contents are found here too: the rows carry the hash of each source file.
"""

import json
import os
import pathlib
from typing import Any

from jax_me.datasets.generation.example import Row
from jax_me.datasets.generation.progress_file import ReportProgress, open_cut

REPORT_FILE = "report.jsonl"
FIRST_PROBLEMS = 3


class BuildReport:
  """Writes rows as they come.

  In memory stay their counts and, for every source file, 16 bytes of hash and the place of its
  row: some 60 MB for half a million pictures.

  Attributes:
    progress: size and counts of what is written; the caller must not change it.
  """

  def __init__(self, folder: pathlib.Path, progress: ReportProgress):
    """Opens the report and cuts off what `progress` does not know.

    Raises:
      ValueError: the report is shorter than `progress` says, or damaged.
    """
    self.progress = progress
    self._path = folder / REPORT_FILE
    self._first_rows: dict[bytes, int] = {}
    self._file = open_cut(self._path, progress.size)
    if progress.size:
      self._read_digests()

  def close(self) -> None:
    """Closes the file as it is."""
    self._file.close()

  def add(self, row: Row, split: str = "") -> None:
    """Adds one row.

    Args:
      row: what became of a source file.
      split: the split that it belongs to, "" for problems of the listing.
    """
    record = {"file": row.file, **({"split": split} if split else {}), "status": row.status}
    record |= row.details
    if row.digest:
      record["sha256"] = row.digest
      if earlier := self._earlier(record):
        record["same_content_as"] = earlier["file"]
        pairs = self.progress.same_content.setdefault(split, {})
        pairs[earlier["split"]] = pairs.get(earlier["split"], 0) + 1
    line = json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    self._file.write(line)
    self.progress.size += len(line)
    self.progress.statuses[row.status] = self.progress.statuses.get(row.status, 0) + 1
    if row.status != "ok" and len(self.progress.first) < FIRST_PROBLEMS:
      self.progress.first.append(f"{row.file}: {row.status}")

  def sync(self) -> None:
    """Brings everything written to the disk."""
    self._file.flush()
    os.fsync(self._file.fileno())

  def problems(self) -> str:
    """Counts of everything that is not "ok", and the first few names; "" when all is well."""
    statuses, first = self.progress.statuses, self.progress.first
    bad = ", ".join(f"{count} {status}" for status, count in statuses.items() if status != "ok")
    return f"Problems: {bad} ({'; '.join(first)}); see {REPORT_FILE}" if bad else ""

  def _earlier(self, record: dict[str, Any]) -> dict[str, Any] | None:
    """The first row with the same content; several things from one file do not count."""
    place = self._first_rows.setdefault(_key(record["sha256"]), self.progress.size)
    if place == self.progress.size:
      return None
    self._file.flush()
    with self._path.open("rb") as file:
      file.seek(place)
      earlier = json.loads(file.readline())
    return None if _source(earlier) == _source(record) else earlier

  def _read_digests(self) -> None:
    place = 0
    with self._path.open("rb") as file:
      for line in file:
        digest = json.loads(line).get("sha256", "")
        if digest:
          self._first_rows.setdefault(_key(digest), place)
        place += len(line)


def _key(digest: str) -> bytes:
  return bytes.fromhex(digest)[:16]


def _source(record: dict[str, Any]) -> tuple[str, str]:
  return record["file"].partition("#")[0], record["split"]
