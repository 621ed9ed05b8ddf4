"""The course of a training, read back from its metrics log (`metrics.jsonl`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jax_me.training.logging.history import Row


def merge_history(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
  """One row for each fold and step, in order of steps.

  A run that resumed from its last checkpoint logs the steps after it again, and training and
  evaluation write rows of their own for one step: rows of one step merge, the later value wins.
  """
  merged: dict[tuple[str, float], Row] = {}
  for row in rows:
    step = _number(row.get("step"))
    if step is not None:
      merged.setdefault((str(row.get("fold", "")), step), {}).update(row)
  return [merged[key] for key in sorted(merged)]


def series(rows: Iterable[Mapping[str, Any]], key: str) -> dict[str, NDArray[np.float64]]:
  """The course of one value: for each fold ("" without folds) [points, 2] of (step, value).

  Rows without the key, or with something else than a finite number there, give no point.
  """
  points: dict[str, list[tuple[float, float]]] = {}
  for row in rows:
    step, value = _number(row.get("step")), _number(row.get(key))
    if step is not None and value is not None:
      points.setdefault(str(row.get("fold", "")), []).append((step, value))
  return {fold: np.array(values) for fold, values in points.items()}


def numeric_keys(rows: Iterable[Mapping[str, Any]]) -> set[str]:
  """The keys that hold a finite number in at least one row."""
  return {key for row in rows for key, value in row.items() if _number(value) is not None}


def non_finite(rows: Iterable[Mapping[str, Any]]) -> int:
  """How many logged values are NaN or infinite."""
  return sum(
    isinstance(value, float) and not math.isfinite(value) for row in rows for value in row.values()
  )


def _number(value: Any) -> float | None:
  if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
    return None
  return float(value) if math.isfinite(value) else None
