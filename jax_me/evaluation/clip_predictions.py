"""Aggregation of frame predictions to one prediction per clip."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jax_me.evaluation.predictions import TEXT_COLUMNS, Predictions


def rows_by_clip(predictions: Predictions) -> dict[tuple[str, ...], list[int]]:
  """Maps (database, subject, clip) to rows; a row without a clip name is a group of its own."""
  found: dict[tuple[str, ...], list[int]] = {}
  columns = zip(predictions.database, predictions.subject, predictions.clip, strict=True)
  for row, key in enumerate(columns):
    found.setdefault(key if key[2] else (*key, str(row)), []).append(row)
  return found


def aggregate_clips(predictions: Predictions) -> Predictions | None:
  """Averages the scores of each clip's rows; the class with the highest mean is predicted.

  Without scores, the class predicted for most rows wins, and of equal counts the first class.
  Micro-expression protocols count clips; a table of frames gives more weight to long clips.

  Returns:
    A table with one row per clip, or None where aggregation does not apply: no clip has rows of
    several files, or the true labels of a clip's rows differ, so that each row is an example.
  """
  groups = list(rows_by_clip(predictions).values())
  if all(len({predictions.file[row] for row in rows}) == 1 for rows in groups):
    return None
  if any(len(set(predictions.truth[rows])) > 1 for rows in groups):
    return None
  votes = np.zeros((len(predictions), len(predictions.labels)))
  votes[np.arange(len(predictions)), predictions.prediction] = 1
  values = votes if predictions.scores is None else predictions.scores.astype(np.float64)
  means = np.stack([values[rows].mean(axis=0) for rows in groups])
  first = [rows[0] for rows in groups]
  columns: dict[str, Any] = {
    name: [getattr(predictions, name)[row] for row in first] for name in TEXT_COLUMNS
  }
  columns["file"] = [predictions.file[rows[0]] if len(rows) == 1 else "" for rows in groups]
  return dataclasses.replace(
    predictions,
    truth=predictions.truth[first],
    prediction=means.argmax(axis=1),
    scores=None if predictions.scores is None else means.astype(np.float32),
    affect=None,  # The scores of a clip are those of its class.
    **columns,
  )
