"""Score summary of a table of predictions, JSON-serialisable (`scores.json`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from jax_me.evaluation.affect import AffectScore, affect_scores
from jax_me.evaluation.calibration import (
  Calibration,
  are_probabilities,
  expected_calibration_error,
)
from jax_me.evaluation.clip_predictions import aggregate_clips
from jax_me.evaluation.metrics import (
  Intervals,
  MainScores,
  Scores,
  confusion_matrix,
  mean_of_scores,
  scores,
  subject_bootstrap,
)
from jax_me.evaluation.predictions import Predictions
from jax_me.evaluation.score_warnings import score_warnings
from jax_me.evaluation.subject_groups import SubjectGroups, rows_by_group

LEVEL = 0.95
REPEATS = 2000


class IntervalScores(Scores):
  """Scores with bootstrap intervals, None with fewer than two resampling units."""

  intervals: Intervals | None


class DatabaseScores(IntervalScores):
  """Scores of one database with its confusion matrix: [C, C] counts, row = truth."""

  confusion: list[list[int]]


class GroupScores(IntervalScores):
  """Scores of one group of subjects and its number of known subjects."""

  subjects: int


class SubjectScores(Scores):
  """Scores of one subject and its number of correct predictions."""

  correct: int


class Bootstrap(TypedDict):
  """Settings of the bootstrap: `over` names the resampling units, such as "62 subjects"."""

  over: str
  units: int
  repeats: int
  seed: int
  level: float


class MajorityBaseline(MainScores):
  """Scores of always predicting `label`, the most frequent class."""

  label: str


class ScoreSummary(TypedDict):
  """All scores of a table of predictions. The keys are those of `scores.json`.

  Attributes:
    pooled: scores of all rows; the score of the protocol.
    per_clip: scores after `aggregate_clips`, None where it does not apply.
    bootstrap: settings of the intervals, which are percentiles over the resamples.
    confusion: [C, C] counts, row = truth.
    cautions: warnings; see `score_warnings`.
    calibration: None without probabilities.
    majority: baseline that always predicts the most frequent class.
    databases: by name, empty unless there are several.
    folds: by name, empty unless there are several.
    mean_over_folds: None without folds. NOT comparable with pooled scores; given because some
      papers publish it. The same holds for `mean_over_subjects`.
    subjects: by name, empty unless there are several.
    mean_over_subjects: None without subjects.
    groups: attribute -> group -> scores, empty without `SubjectGroups`.
    affect: scores of valence and arousal, None without.
  """

  pooled: IntervalScores
  per_clip: IntervalScores | None
  bootstrap: Bootstrap
  confusion: list[list[int]]
  cautions: list[str]
  calibration: Calibration | None
  majority: MajorityBaseline
  databases: dict[str, DatabaseScores]
  folds: dict[str, Scores]
  mean_over_folds: MainScores | None
  subjects: dict[str, SubjectScores]
  mean_over_subjects: MainScores | None
  groups: dict[str, dict[str, GroupScores]]
  affect: dict[str, AffectScore] | None


def summarize(
  predictions: Predictions,
  *,
  groups: SubjectGroups | None = None,
  repeats: int = REPEATS,
  seed: int = 0,
) -> ScoreSummary:
  """Computes pooled scores with intervals, and scores by database, fold, subject and group.

  Args:
    predictions: all rows of all folds.
    groups: attributes of the subjects, if known.
    repeats: number of bootstrap resamples.
    seed: random seed of the bootstrap.

  Returns:
    The summary.

  Raises:
    ValueError: the table is empty, or `groups` lists none of its subjects.
  """
  labels, num_classes = predictions.labels, len(predictions.labels)
  confusion = predictions.confusion()
  units = predictions.bootstrap_units

  def confusion_of(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return confusion_matrix(predictions.truth[rows], predictions.prediction[rows], num_classes)

  def score(rows: NDArray[np.int64]) -> Scores:
    return scores(confusion_of(rows), labels)

  def score_with_intervals(rows: NDArray[np.int64]) -> IntervalScores:
    return {**score(rows), "intervals": _intervals(predictions, rows, repeats, seed)}

  def score_group(rows: list[int]) -> GroupScores:
    subjects = {units[row] for row in rows if len(units[row]) == 2}
    return {**score_with_intervals(np.array(rows)), "subjects": len(subjects)}

  def score_groups(group_of_row: Sequence[str]) -> dict[str, GroupScores]:
    return {name: score_group(rows) for name, rows in rows_by_group(group_of_row).items()}

  def score_subject(rows: NDArray[np.int64]) -> SubjectScores:
    return {**score(rows), "correct": int(predictions.correct[rows].sum())}

  databases = predictions.rows_by("database")
  folds = {name: score(rows) for name, rows in _several_named(predictions, "fold").items()}
  subjects = {
    name: score_subject(rows) for name, rows in _several_named(predictions, "subject").items()
  }
  return {
    "pooled": score_with_intervals(np.arange(len(predictions))),
    "per_clip": _per_clip(predictions, repeats, seed),
    "bootstrap": {
      "over": describe_units(predictions),
      "units": len(set(units)),
      "repeats": repeats,
      "seed": seed,
      "level": LEVEL,
    },
    "confusion": confusion.tolist(),
    "cautions": score_warnings(predictions),
    "calibration": _calibration(predictions),
    "majority": _majority_baseline(confusion, labels),
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
    "groups": {
      attribute: score_groups(group_of_row)
      for attribute, group_of_row in groups.groups_of_rows(predictions).items()
    }
    if groups
    else {},
    "affect": None
    if predictions.affect is None
    else affect_scores(predictions.affect, units, repeats=repeats, seed=seed, level=LEVEL),
  }


def _several_named(predictions: Predictions, column: str) -> dict[str, NDArray[np.int64]]:
  """Rows by value of a column, without the unnamed; empty for fewer than two values."""
  named = {name: rows for name, rows in predictions.rows_by(column).items() if name}
  return named if len(named) > 1 else {}


def _intervals(
  predictions: Predictions, rows: NDArray[np.int64], repeats: int, seed: int
) -> Intervals | None:
  all_units = predictions.bootstrap_units
  units = [all_units[row] for row in rows]
  if len(set(units)) < 2:
    return None
  return subject_bootstrap(
    predictions.truth[rows],
    predictions.prediction[rows],
    units,
    len(predictions.labels),
    repeats=repeats,
    level=LEVEL,
    seed=seed,
  )


def _per_clip(predictions: Predictions, repeats: int, seed: int) -> IntervalScores | None:
  clips = aggregate_clips(predictions)
  if clips is None:
    return None
  intervals = _intervals(clips, np.arange(len(clips)), repeats, seed)
  return {**scores(clips.confusion(), clips.labels), "intervals": intervals}


def _majority_baseline(confusion: NDArray[np.int64], labels: Sequence[str]) -> MajorityBaseline:
  support = confusion.sum(axis=1)
  majority = int(support.argmax())
  constant = np.zeros_like(confusion)
  constant[:, majority] = support
  result = scores(constant, labels)
  return {
    "label": labels[majority],
    "uf1": result["uf1"],
    "uar": result["uar"],
    "accuracy": result["accuracy"],
  }


def _calibration(predictions: Predictions) -> Calibration | None:
  if predictions.scores is None or not are_probabilities(predictions.scores):
    return None
  confidence = predictions.scores[np.arange(len(predictions)), predictions.prediction]
  return expected_calibration_error(confidence, predictions.correct)


def describe_units(predictions: Predictions) -> str:
  """Names the resampling units of the bootstrap, such as "62 subjects"."""
  units = predictions.bootstrap_units
  known = len({key for key in units if len(key) == 2})
  unknown = sum(len(key) == 3 for key in units)
  parts = [f"{known} subject{'s' * (known != 1)}"] if known else []
  without = " without a subject" if known else ""
  parts += [f"{unknown} example{'s' * (unknown != 1)}{without}"] if unknown else []
  return " and ".join(parts)
