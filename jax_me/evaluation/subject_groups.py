"""What is known of the subjects besides their names, such as sex or age, to score groups apart."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jax_me.evaluation.csv_reader import InvalidTable, read_rows
from jax_me.evaluation.predictions import Predictions
from jax_me.files import write_atomically

UNKNOWN = "unknown"


@dataclass(frozen=True)
class SubjectGroups:
  """Groups of the subjects, by one or several divisions.

  Attributes:
    divisions: names, such as "sex" and "age".
    members: (database, subject) -> the group in each division, "" where unknown; database "" is
      for a subject of any database.
  """

  divisions: tuple[str, ...]
  members: Mapping[tuple[str, str], tuple[str, ...]]

  def of(self, predictions: Predictions) -> dict[str, list[str]]:
    """For each division, the group of each row; "unknown" for subjects that no group is known of.

    Raises:
      InvalidTable: no subject of the predictions is known here.
    """
    found = []
    for key in zip(predictions.database, predictions.subject, strict=True):
      found.append(self.members.get(key, self.members.get(("", key[1]))))
    if not any(found):
      here, there = sorted({s for _, s in self.members}), sorted(set(predictions.subject) - {""})
      raise InvalidTable(
        f"the groups know none of the subjects that were predicted: {', '.join(here[:3])}... "
        f"against {', '.join(there[:3]) or 'no subject'}..."
      )
    none = [""] * len(self.divisions)
    return {
      division: [(groups or none)[place] or UNKNOWN for groups in found]
      for place, division in enumerate(self.divisions)
    }

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the groups as CSV; `read_groups` gives them back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["database", "subject", *self.divisions])
    writer.writerows([*key, *groups] for key, groups in self.members.items())
    write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"))


def read_groups(path: str | os.PathLike[str]) -> SubjectGroups:
  """Reads a CSV with a column `subject`, one column a division, and, where needed, `database`.

  Raises:
    InvalidTable: no such table, or a subject stands there twice; names file, line and column.
    OSError: the file cannot be read.
  """
  header, rows = read_rows(path, known=("database", "subject"), needed=("subject",))
  divisions = tuple(name for name in header if name not in ("database", "subject", ""))
  if not divisions:
    raise InvalidTable(f"{path} has no column beside subject that names a group")
  members: dict[tuple[str, str], tuple[str, ...]] = {}
  for line, cells in rows:
    key = (cells.get("database", "").strip(), cells["subject"].strip())
    if not key[1]:
      raise InvalidTable(f"{path}, line {line}, column subject: it is empty")
    if key in members:
      raise InvalidTable(f"{path}, line {line}: subject {' '.join(key).strip()} stands there twice")
    members[key] = tuple(cells[name].strip() for name in divisions)
  return SubjectGroups(divisions, members)


def rows_of_groups(groups: Sequence[str]) -> dict[str, list[int]]:
  """Rows of each group, in the order of their names, what is unknown last."""
  rows: dict[str, list[int]] = {}
  for row, name in enumerate(groups):
    rows.setdefault(name, []).append(row)
  return {name: rows[name] for name in sorted(rows, key=lambda name: (name == UNKNOWN, name))}
