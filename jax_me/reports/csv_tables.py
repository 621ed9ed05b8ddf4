"""The tables of a results folder as CSV, for who goes on computing with them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jax_me.evaluation.metrics import SCORE_NAMES

CLASS_COLUMNS = ("precision", "recall", "f1")


def file_names(names: Iterable[str]) -> dict[str, str]:
  """For each name one that any file system takes, all of them different."""
  found: dict[str, str] = {}
  for name in names:
    safe = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.") or "unnamed"
    taken = {other.casefold() for other in found.values()}
    number, made = 2, safe
    while made.casefold() in taken:
      made, number = f"{safe}_{number}", number + 1
    found[name] = made
  return found


def result_tables(summary: Mapping[str, Any], labels: Sequence[str]) -> dict[str, bytes]:
  """File name -> CSV, from `summary.summarize`.

  `confusion_matrix.csv` and, where there are several databases, one each (row = truth),
  `classes.csv`, `databases.csv`, `subjects.csv` and `groups.csv`: what the summary has of them.
  Scores that are 0/0 are empty cells.
  """
  tables = {"confusion_matrix.csv": _confusion(summary["confusion"], labels)}
  names = file_names(summary["databases"])
  for name, part in summary["databases"].items():
    tables[f"confusion_matrix_{names[name]}.csv"] = _confusion(part["confusion"], labels)
  classes = summary["pooled"]["per_class"]
  tables["classes.csv"] = _table(
    ("class", *CLASS_COLUMNS, "examples", "predicted"),
    [
      (c["label"], *(c[name] for name in CLASS_COLUMNS), c["support"], c["predicted"])
      for c in classes
    ],
  )
  if summary["databases"]:
    parts = {"composite": summary["pooled"], **summary["databases"]}
    rows = [(name, part["examples"], *_with_intervals(part)) for name, part in parts.items()]
    tables["databases.csv"] = _table(("database", "examples", *_INTERVAL_COLUMNS), rows)
  if summary["subjects"]:
    tables["subjects.csv"] = _table(
      ("subject", "examples", "correct", *SCORE_NAMES),
      [
        (name, part["examples"], part["correct"], *(part[key] for key in SCORE_NAMES))
        for name, part in summary["subjects"].items()
      ],
    )
  if summary["groups"]:
    tables["groups.csv"] = _table(
      ("division", "group", "subjects", "examples", *_INTERVAL_COLUMNS),
      [
        (division, name, part["subjects"], part["examples"], *_with_intervals(part))
        for division, parts in summary["groups"].items()
        for name, part in parts.items()
      ],
    )
  return tables


_INTERVAL_COLUMNS = tuple(f"{name}{end}" for name in SCORE_NAMES for end in ("", "_low", "_high"))


def _with_intervals(part: Mapping[str, Any]) -> list[float | None]:
  intervals = part["intervals"] or {}
  return [v for name in SCORE_NAMES for v in (part[name], *intervals.get(name, (None, None)))]


def _confusion(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> bytes:
  rows = [(label, *row) for label, row in zip(labels, counts, strict=True)]
  return _table(("truth", *labels), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(header)
  writer.writerows(rows)  # None becomes an empty cell.
  return text.getvalue().encode("utf-8", "surrogateescape")
