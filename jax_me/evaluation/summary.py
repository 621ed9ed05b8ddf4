"""Everything a table of predictions says, as one dict that JSON can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jax_me.evaluation.calibration import are_probabilities, calibration
from jax_me.evaluation.clip_predictions import per_clip
from jax_me.evaluation.metrics import (
  SCORE_NAMES,
  confusion_matrix,
  mean_of_scores,
  scores,
  subject_bootstrap,
)
from jax_me.evaluation.predictions import Predictions
from jax_me.evaluation.score_warnings import cautions
from jax_me.evaluation.subject_groups import SubjectGroups, rows_of_groups

LEVEL = 0.95
REPEATS = 2000


def summarize(
  predictions: Predictions,
  *,
  groups: SubjectGroups | None = None,
  repeats: int = REPEATS,
  seed: int = 0,
) -> dict[str, Any]:
  """Pooled scores with intervals, and the same predictions by database, fold, subject and group.

  Args:
    predictions: all rows, of all folds together.
    groups: of the subjects, where some are known.
    repeats: draws of the bootstrap.
    seed: of the bootstrap.

  Returns:
    pooled: `metrics.scores` of all rows, the score of the protocol; with `intervals`
      {uf1 | uar | accuracy: (low, high)}, None where one cannot be had.
    per_clip: the same of one prediction a clip (`per_clip.per_clip`), None where each row is one.
    bootstrap: {over, units, repeats, seed, level}: what was drawn in words ("62 subjects") and how
      many of it; the intervals are the percentiles of the draws' scores.
    confusion: [C][C] counts, row = truth.
    cautions: sentences about what makes the scores doubtful.
    calibration: `calibration.calibration`, None without probabilities.
    majority: {label, uf1, uar, accuracy} of always answering with the most frequent class.
    databases: {name: pooled scores, intervals and confusion}, empty unless there are several.
    folds: {name: scores}, empty unless there are several of them known.
    subjects: {name: scores, and how many are `correct`}, likewise.
    mean_over_folds, mean_over_subjects: {uf1, uar, accuracy}, None where the table is empty. NOT
      comparable with pooled scores; here because others publish them.
    groups: {division: {group: pooled scores, intervals and number of `subjects`}}, empty without.

  Raises:
    ValueError: the table is empty, or the groups know none of its subjects.
  """
  labels, classes = predictions.labels, len(predictions.labels)
  confusion = predictions.confusion()
  people = predictions.people

  def confusion_of(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return confusion_matrix(predictions.truth[rows], predictions.prediction[rows], classes)

  def score(rows: NDArray[np.int64]) -> dict[str, Any]:
    return scores(confusion_of(rows), labels)

  def score_with_intervals(rows: NDArray[np.int64]) -> dict[str, Any]:
    return {**score(rows), "intervals": _intervals(predictions, rows, repeats, seed)}

  def by(column: str) -> dict[str, Any]:
    found = predictions.groups(column)
    known = [name for name in found if name]
    return {name: score(found[name]) for name in known} if len(known) > 1 else {}

  def by_group(members: Sequence[str]) -> dict[str, Any]:
    parts = {}
    for name, place in rows_of_groups(members).items():
      rows = np.array(place)
      count = len({people[row] for row in place if len(people[row]) == 2})
      parts[name] = {**score_with_intervals(rows), "subjects": count}
    return parts

  clips = per_clip(predictions)
  clip_scores = None
  if clips is not None:
    everything = np.arange(len(clips))
    clip_scores = scores(clips.confusion(), labels)
    clip_scores["intervals"] = _intervals(clips, everything, repeats, seed)
  most = int(confusion.sum(axis=1).argmax())
  always = np.zeros_like(confusion)
  always[:, most] = confusion.sum(axis=1)
  majority = scores(always, labels)
  databases = predictions.groups("database")
  folds, subjects = by("fold"), by("subject")
  rows_of = predictions.groups("subject")
  for name, part in subjects.items():
    part["correct"] = int(predictions.correct[rows_of[name]].sum())
  return {
    "pooled": score_with_intervals(np.arange(len(predictions))),
    "per_clip": clip_scores,
    "bootstrap": {
      "over": _units(predictions),
      "units": len(set(people)),
      "repeats": repeats,
      "seed": seed,
      "level": LEVEL,
    },
    "confusion": confusion.tolist(),
    "cautions": cautions(predictions),
    "calibration": _calibration(predictions),
    "majority": {"label": labels[most], **{k: majority[k] for k in SCORE_NAMES}},
    "databases": {
      name or "(none named)": {
        **score_with_intervals(rows),
        "confusion": confusion_of(rows).tolist(),
      }
      for name, rows in databases.items()
    }
    if len(databases) > 1
    else {},
    "folds": folds,
    "mean_over_folds": mean_of_scores(list(folds.values())) if folds else None,
    "subjects": subjects,
    "mean_over_subjects": mean_of_scores(list(subjects.values())) if subjects else None,
    "groups": {division: by_group(members) for division, members in groups.of(predictions).items()}
    if groups
    else {},
  }


def _intervals(
  predictions: Predictions, rows: NDArray[np.int64], repeats: int, seed: int
) -> dict[str, tuple[float, float]] | None:
  """Of the rows' pooled scores; None with fewer than two people to draw from."""
  people = predictions.people
  drawn = [people[row] for row in rows]
  if len(set(drawn)) < 2:
    return None
  return subject_bootstrap(
    predictions.truth[rows],
    predictions.prediction[rows],
    drawn,
    len(predictions.labels),
    repeats=repeats,
    level=LEVEL,
    seed=seed,
  )


def _calibration(predictions: Predictions) -> dict[str, Any] | None:
  if predictions.scores is None or not are_probabilities(predictions.scores):
    return None
  confidence = predictions.scores[np.arange(len(predictions)), predictions.prediction]
  return calibration(confidence, predictions.correct)


def _units(predictions: Predictions) -> str:
  known = len({key for key in predictions.people if len(key) == 2})
  unknown = sum(len(key) == 3 for key in predictions.people)
  parts = [f"{known} subject{'s' * (known != 1)}"] if known else []
  without = " without a subject" if known else ""
  parts += [f"{unknown} example{'s' * (unknown != 1)}{without}"] if unknown else []
  return " and ".join(parts)
