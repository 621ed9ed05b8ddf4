"""One prediction a clip, where a table holds several frames of each."""

from __future__ import annotations

import numpy as np

from jax_me.evaluation.predictions import Predictions


def clips_of(predictions: Predictions) -> dict[tuple[str, ...], list[int]]:
  """Rows of each clip, by database, subject and clip; rows without a clip stand alone."""
  found: dict[tuple[str, ...], list[int]] = {}
  columns = zip(predictions.database, predictions.subject, predictions.clip, strict=True)
  for row, key in enumerate(columns):
    found.setdefault(key if key[2] else (*key, str(row)), []).append(row)
  return found


def per_clip(predictions: Predictions) -> Predictions | None:
  """The table with one row a clip: the mean of its rows' scores, and the highest is the prediction.

  Without scores it is the class that most of the rows were taken for, of equal ones the first.
  The protocols of micro-expressions count clips; a table of frames weighs long clips more.

  Returns:
    None where there is nothing to bring together: no clip has rows of several files, or the rows
    of one differ in truth, so that they are examples by themselves.
  """
  groups = list(clips_of(predictions).values())
  if all(len({predictions.file[row] for row in rows}) == 1 for rows in groups):
    return None
  if any(len(set(predictions.truth[rows])) > 1 for rows in groups):
    return None
  votes = np.zeros((len(predictions), len(predictions.labels)))
  votes[np.arange(len(predictions)), predictions.prediction] = 1
  values = votes if predictions.scores is None else predictions.scores.astype(np.float64)
  means = np.stack([values[rows].mean(axis=0) for rows in groups])
  first = [rows[0] for rows in groups]

  def column(name: str) -> list[str]:
    return [getattr(predictions, name)[row] for row in first]

  return Predictions(
    predictions.labels,
    predictions.truth[first],
    means.argmax(axis=1),
    None if predictions.scores is None else means.astype(np.float32),
    database=column("database"),
    subject=column("subject"),
    clip=column("clip"),
    file=[predictions.file[rows[0]] if len(rows) == 1 else "" for rows in groups],
    fold=column("fold"),
    allow_repeats=predictions.allow_repeats,
  )
