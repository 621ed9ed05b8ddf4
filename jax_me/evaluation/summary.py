"""Everything a table of predictions says, as one dict that JSON can hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from jax_me.evaluation.metrics import (
  SCORE_NAMES,
  confusion_matrix,
  mean_of_scores,
  scores,
  subject_bootstrap,
)
from jax_me.evaluation.predictions import Predictions

LEVEL = 0.95


def summarize(predictions: Predictions, *, repeats: int = 2000, seed: int = 0) -> dict[str, Any]:
  """Pooled scores with intervals, and the same predictions by database, fold and subject.

  Args:
    predictions: all rows, of all folds together.
    repeats: draws of the bootstrap.
    seed: of the bootstrap.

  Returns:
    pooled: `metrics.scores` of all rows, the score of the protocol; with `intervals`
      {uf1 | uar | accuracy: (low, high)}, None where one cannot be had.
    interval_over: what the bootstrap drew, in words ("62 subjects").
    confusion: [C][C] counts, row = truth.
    majority: {label, uf1, uar, accuracy} of always answering with the most frequent class.
    databases: {name: pooled scores and intervals}, empty unless there are several.
    folds, subjects: {name: scores}, empty unless there are several of them known.
    mean_over_folds, mean_over_subjects: {uf1, uar, accuracy}, None where the table is empty. NOT
      comparable with pooled scores; here because others publish them.

  Raises:
    ValueError: the table is empty.
  """
  labels, classes = predictions.labels, len(predictions.labels)
  confusion = predictions.confusion()
  people = predictions.people

  def score(rows: np.ndarray) -> dict[str, Any]:
    return scores(
      confusion_matrix(predictions.truth[rows], predictions.prediction[rows], classes), labels
    )

  def score_with_intervals(rows: np.ndarray) -> dict[str, Any]:
    drawn = [people[row] for row in rows]
    intervals = None
    if len(set(drawn)) > 1:
      intervals = subject_bootstrap(
        predictions.truth[rows],
        predictions.prediction[rows],
        drawn,
        classes,
        repeats=repeats,
        level=LEVEL,
        seed=seed,
      )
    return {**score(rows), "intervals": intervals}

  def by(column: str) -> dict[str, Any]:
    groups = predictions.groups(column)
    known = [name for name in groups if name]
    return {name: score(groups[name]) for name in known} if len(known) > 1 else {}

  most = int(confusion.sum(axis=1).argmax())
  always = np.zeros_like(confusion)
  always[:, most] = confusion.sum(axis=1)
  majority = scores(always, labels)
  databases = predictions.groups("database")
  folds, subjects = by("fold"), by("subject")
  return {
    "pooled": score_with_intervals(np.arange(len(predictions))),
    "interval_over": _units(predictions),
    "confusion": confusion.tolist(),
    "majority": {"label": labels[most], **{k: majority[k] for k in SCORE_NAMES}},
    "databases": {
      name or "(none named)": score_with_intervals(rows) for name, rows in databases.items()
    }
    if len(databases) > 1
    else {},
    "folds": folds,
    "mean_over_folds": mean_of_scores(list(folds.values())) if folds else None,
    "subjects": subjects,
    "mean_over_subjects": mean_of_scores(list(subjects.values())) if subjects else None,
  }


def _units(predictions: Predictions) -> str:
  known = len({key for key in predictions.people if len(key) == 2})
  unknown = sum(len(key) == 3 for key in predictions.people)
  parts = [f"{known} subjects"] if known else []
  parts += [f"{unknown} examples{' without a subject' if known else ''}"] if unknown else []
  return " and ".join(parts)
