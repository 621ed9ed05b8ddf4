"""Warnings about a table of predictions: leaks between folds, duplicates, missing information."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jax_me.evaluation.calibration import are_probabilities
from jax_me.evaluation.clip_predictions import rows_by_clip
from jax_me.evaluation.megc2019_composite import megc2019_differences
from jax_me.evaluation.predictions import Predictions

FEW_SUBJECTS = 10
MAX_NAMES = 3  # Examples that one warning lists.


def score_warnings(predictions: Predictions) -> list[str]:
  """Returns sentences about problems that make the scores of this table unreliable.

  Classes without examples are reported in the notes of `metrics.scores` instead.
  """
  found = [
    _duplicate_clips(predictions),
    _several_files_per_clip(predictions),
    megc2019_differences(predictions),
    _subjects_in_several_folds(predictions),
    _missing_subjects(predictions),
    _few_subjects(predictions),
    _prediction_not_highest(predictions),
    _no_probabilities(predictions),
  ]
  return [sentence for sentence in found if sentence]


def _duplicate_clips(predictions: Predictions) -> str:
  rows = predictions.duplicate_rows
  if not rows:
    return ""
  names = list(dict.fromkeys(predictions.describe_row(row) for row in rows))
  verb = "appears" if len(names) == 1 else "appear"
  return (
    f"{_count(len(names), 'clip')} {verb} in the table more than once, and every row is counted: "
    f"{_list_names(names)}. Each clip should be predicted exactly once."
  )


def _several_files_per_clip(predictions: Predictions) -> str:
  clips = {key: rows for key, rows in rows_by_clip(predictions).items() if len(key) == 3}
  several = sum(len({predictions.file[row] for row in rows}) > 1 for rows in clips.values())
  if not several:
    return ""
  return (
    f"{several} of {_count(len(clips), 'clip')} {'has' if several == 1 else 'have'} rows of "
    "several files. Each row counts as an example, so these are scores of frames, not of clips."
  )


def _subjects_in_several_folds(predictions: Predictions) -> str:
  folds: dict[tuple[str, str], set[str]] = {}
  for database, subject, fold in zip(
    predictions.database, predictions.subject, predictions.fold, strict=True
  ):
    if subject and fold:
      folds.setdefault((database, subject), set()).add(fold)
  names = [" ".join(key).strip() for key, own in folds.items() if len(own) > 1]
  if not names:
    return ""
  verb = "appears" if len(names) == 1 else "appear"
  return (
    f"{_count(len(names), 'subject')} {verb} in more than one fold: {_list_names(names)}. The "
    "model tested on such a subject was trained on other clips of the same person, so the scores "
    "do not show how well it generalises to new subjects."
  )


def _missing_subjects(predictions: Predictions) -> str:
  missing = sum(not subject for subject in predictions.subject)
  if missing in (0, len(predictions)):
    return ""  # The text about the intervals covers a table without any subject.
  verb, each = ("has", "it") if missing == 1 else ("have", "each")
  return (
    f"{missing} of {_count(len(predictions), 'row')} {verb} no subject; {each} is treated as a "
    "subject of its own."
  )


def _few_subjects(predictions: Predictions) -> str:
  subjects = {key for key in predictions.bootstrap_units if len(key) == 2}
  if not 1 < len(subjects) < FEW_SUBJECTS:
    return ""
  return (
    f"There are only {len(subjects)} subjects. Bootstrap intervals over so few are rough, and "
    "likely too narrow."
  )


def _prediction_not_highest(predictions: Predictions) -> str:
  if predictions.scores is None:
    return ""
  rows = np.arange(len(predictions))
  own = predictions.scores[rows, predictions.prediction]
  count = int((own < predictions.scores.max(axis=1)).sum())
  if not count:
    return ""
  return (
    f"In {_count(count, 'row')} the prediction is not the class with the highest score; the "
    "prediction column is used."
  )


def _no_probabilities(predictions: Predictions) -> str:
  if predictions.scores is None or are_probabilities(predictions.scores):
    return ""
  return (
    "The scores are not probabilities (in [0, 1], summing to 1 in each row), so calibration "
    "cannot be measured."
  )


def _count(number: int, noun: str) -> str:
  return f"{number} {noun}{'s' * (number != 1)}"


def _list_names(names: Sequence[str]) -> str:
  rest = len(names) - MAX_NAMES
  return ", ".join(names[:MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")
