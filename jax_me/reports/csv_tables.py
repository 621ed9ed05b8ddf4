"""CSV tables of a report folder, for further processing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from jax_me.csv_files import csv_bytes
from jax_me.evaluation.metrics import SCORE_NAMES, Intervals, MainScores
from jax_me.evaluation.summary import ScoreSummary

INTERVAL_COLUMNS = tuple(f"{name}{end}" for name in SCORE_NAMES for end in ("", "_low", "_high"))


def file_names(names: Iterable[str]) -> dict[str, str]:
  """Maps each name to a distinct one that is valid on any file system."""
  found: dict[str, str] = {}
  for name in names:
    safe = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.") or "unnamed"
    taken = {other.casefold() for other in found.values()}
    number, unique = 2, safe
    while unique.casefold() in taken:
      unique, number = f"{safe}_{number}", number + 1
    found[name] = unique
  return found


def result_tables(summary: ScoreSummary, labels: Sequence[str]) -> dict[str, bytes]:
  """Maps file names to CSV contents.

  The files are `confusion_matrix.csv` (row = truth), one such file per database if there are
  several, `classes.csv`, and `databases.csv`, `subjects.csv` and `groups.csv` where the summary has
  them. Scores that are 0/0 are empty cells.
  """
  tables = {"confusion_matrix": _confusion_rows(summary["confusion"], labels)}
  names = file_names(summary["databases"])
  for name, database in summary["databases"].items():
    tables[f"confusion_matrix_{names[name]}"] = _confusion_rows(database["confusion"], labels)
  tables["classes"] = [
    ("class", "precision", "recall", "f1", "examples", "predicted"),
    *(
      (c["label"], c["precision"], c["recall"], c["f1"], c["support"], c["predicted"])
      for c in summary["pooled"]["per_class"]
    ),
  ]
  if summary["databases"]:
    tables["databases"] = [
      ("database", "examples", *INTERVAL_COLUMNS),
      *(
        (name, part["examples"], *interval_cells(part, part["intervals"]))
        for name, part in {"composite": summary["pooled"], **summary["databases"]}.items()
      ),
    ]
  if summary["subjects"]:
    tables["subjects"] = [
      ("subject", "examples", "correct", *SCORE_NAMES),
      *(
        (name, part["examples"], part["correct"], *(part[key] for key in SCORE_NAMES))
        for name, part in summary["subjects"].items()
      ),
    ]
  if summary["groups"]:
    tables["groups"] = [
      ("division", "group", "subjects", "examples", *INTERVAL_COLUMNS),
      *(
        (
          attribute,
          name,
          part["subjects"],
          part["examples"],
          *interval_cells(part, part["intervals"]),
        )
        for attribute, groups in summary["groups"].items()
        for name, part in groups.items()
      ),
    ]
  return {f"{name}.csv": csv_bytes(rows) for name, rows in tables.items()}


def interval_cells(scores: MainScores, intervals: Intervals | None) -> list[float | None]:
  """The scores and the ends of their intervals, in the order of INTERVAL_COLUMNS."""
  ends: Intervals = intervals or {}
  return [v for name in SCORE_NAMES for v in (scores[name], *ends.get(name, (None, None)))]


def _confusion_rows(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> list[tuple]:
  return [("truth", *labels), *((name, *row) for name, row in zip(labels, counts, strict=True))]
