"""Metrics log (`metrics.jsonl`): reader, merging of rows, and time series of single values."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

HistoryRow = dict[str, Any]  # A JSON object with a finite "step" and, with several folds, a "fold".


def read_history(path: str | os.PathLike[str]) -> list[HistoryRow]:
  """Reads the rows of a metrics log; a missing file is an empty history.

  A killed process may leave an incomplete last line, to which the next process appends. Lines that
  are not objects with a finite "step" are ignored.
  """
  rows = []
  try:
    with open(path, encoding="utf-8", errors="replace") as file:
      for line in file:
        try:
          row = json.loads(line)
        except ValueError:
          continue
        if isinstance(row, dict) and _is_step(row.get("step")):
          rows.append(row)
  except FileNotFoundError:
    return []
  return rows


def merge_history(rows: Iterable[Mapping[str, object]]) -> list[HistoryRow]:
  """Merges the rows of each fold and step, sorted by fold and step; later values win.

  A run that resumes from a checkpoint logs the steps after it again, and training and evaluation
  write separate rows for the same step.
  """
  merged: dict[tuple[str, float], HistoryRow] = {}
  for row in rows:
    step = _finite_number(row.get("step"))
    if step is not None:
      merged.setdefault((str(row.get("fold", "")), step), {}).update(row)
  return [merged[key] for key in sorted(merged)]


def series(
  rows: Iterable[Mapping[str, object]], key: str, axis: str = "step"
) -> dict[str, NDArray[np.float64]]:
  """Extracts one value as [points, 2] of (step, value) for each fold ("" without folds).

  Args:
    rows: the history; those in which a value is missing or not a finite number are skipped.
    key: of the value.
    axis: "step" or "epoch".

  Returns:
    {fold: points}.
  """
  points: dict[str, list[tuple[float, float]]] = {}
  for row in rows:
    step, value = _finite_number(row.get(axis)), _finite_number(row.get(key))
    if step is not None and value is not None:
      points.setdefault(str(row.get("fold", "")), []).append((step, value))
  return {fold: np.array(values) for fold, values in points.items()}


def numeric_keys(rows: Iterable[Mapping[str, object]]) -> set[str]:
  """Returns the keys whose value is a finite number in at least one row."""
  return {key for row in rows for key, value in row.items() if _finite_number(value) is not None}


def count_non_finite(rows: Iterable[Mapping[str, object]]) -> int:
  """Counts the logged values that are NaN or infinite."""
  return sum(
    isinstance(value, float) and not math.isfinite(value) for row in rows for value in row.values()
  )


def _is_step(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _finite_number(value: object) -> float | None:
  if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
    return None
  return float(value) if math.isfinite(value) else None
