"""Time series of logged training metrics, from the rows of `metrics.jsonl`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from jax_me.training.logging.history import Row


def merge_history(rows: Iterable[Mapping[str, object]]) -> list[Row]:
  """Merges the rows of each fold and step, sorted by step; later values win.

  A run that resumes from a checkpoint logs the steps after it again, and training and evaluation
  write separate rows for the same step.
  """
  merged: dict[tuple[str, float], Row] = {}
  for row in rows:
    step = _number(row.get("step"))
    if step is not None:
      merged.setdefault((str(row.get("fold", "")), step), {}).update(row)
  return [merged[key] for key in sorted(merged)]


def series(rows: Iterable[Mapping[str, object]], key: str) -> dict[str, NDArray[np.float64]]:
  """Extracts one value as [points, 2] of (step, value) for each fold ("" without folds).

  Rows in which it is missing or not a finite number are skipped.
  """
  points: dict[str, list[tuple[float, float]]] = {}
  for row in rows:
    step, value = _number(row.get("step")), _number(row.get(key))
    if step is not None and value is not None:
      points.setdefault(str(row.get("fold", "")), []).append((step, value))
  return {fold: np.array(values) for fold, values in points.items()}


def numeric_keys(rows: Iterable[Mapping[str, object]]) -> set[str]:
  """Returns the keys whose value is a finite number in at least one row."""
  return {key for row in rows for key, value in row.items() if _number(value) is not None}


def count_non_finite(rows: Iterable[Mapping[str, object]]) -> int:
  """Counts the logged values that are NaN or infinite."""
  return sum(
    isinstance(value, float) and not math.isfinite(value) for row in rows for value in row.values()
  )


def _number(value: object) -> float | None:
  if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
    return None
  return float(value) if math.isfinite(value) else None
