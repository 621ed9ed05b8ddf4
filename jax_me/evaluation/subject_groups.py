"""Subject attributes such as sex or age, for scores by group."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jax_me.csv_files import TableError, csv_bytes, read_rows
from jax_me.evaluation.predictions import Predictions
from jax_me.files import write_atomically

UNKNOWN = "unknown"


@dataclass(frozen=True)
class SubjectGroups:
  """The group of each subject by one or several attributes.

  Attributes:
    attributes: names, such as "sex" and "age".
    members: (database, subject) -> the group by each attribute, "" where unknown; an empty
      database matches that subject in any database.
  """

  attributes: tuple[str, ...]
  members: Mapping[tuple[str, str], tuple[str, ...]]

  def groups_of_rows(self, predictions: Predictions) -> dict[str, list[str]]:
    """Returns, per attribute, the group of each row, "unknown" for subjects that are not listed.

    Raises:
      TableError: none of the predicted subjects is listed.
    """
    found = []
    for key in zip(predictions.database, predictions.subject, strict=True):
      found.append(self.members.get(key, self.members.get(("", key[1]))))
    if not any(found):
      listed, predicted = ({s for _, s in self.members}, set(predictions.subject) - {""})
      raise TableError(
        f"the groups list none of the predicted subjects: {', '.join(sorted(listed)[:3])}... "
        f"against {', '.join(sorted(predicted)[:3]) or 'no subject'}..."
      )
    none = [""] * len(self.attributes)
    return {
      attribute: [(groups or none)[i] or UNKNOWN for groups in found]
      for i, attribute in enumerate(self.attributes)
    }

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes a CSV file that `read_groups` reads."""
    rows = [[*key, *groups] for key, groups in self.members.items()]
    write_atomically(path, csv_bytes([["database", "subject", *self.attributes], *rows]))


def read_groups(path: str | os.PathLike[str]) -> SubjectGroups:
  """Reads a CSV with a column `subject`, one column per attribute, and optionally `database`.

  Raises:
    TableError: not a valid table, or a duplicate subject; names file, line and column.
    OSError: the file cannot be read.
  """
  header, rows = read_rows(path, known=("database", "subject"), required=("subject",))
  attributes = tuple(name for name in header if name not in ("database", "subject", ""))
  if not attributes:
    raise TableError(f"{path} has no column besides subject that names a group")
  members: dict[tuple[str, str], tuple[str, ...]] = {}
  for line, cells in rows:
    key = (cells.get("database", "").strip(), cells["subject"].strip())
    if not key[1]:
      raise TableError(f"{path}, line {line}, column subject: it is empty")
    if key in members:
      raise TableError(f"{path}, line {line}: subject {' '.join(key).strip()} appears twice")
    members[key] = tuple(cells[name].strip() for name in attributes)
  return SubjectGroups(attributes, members)


def rows_by_group(groups: Sequence[str]) -> dict[str, list[int]]:
  """Maps each group to its rows, sorted by name with "unknown" last."""
  rows: dict[str, list[int]] = {}
  for row, name in enumerate(groups):
    rows.setdefault(name, []).append(row)
  return {name: rows[name] for name in sorted(rows, key=lambda name: (name == UNKNOWN, name))}
