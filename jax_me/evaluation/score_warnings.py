"""What a reader should know before believing the scores of a table: leaks, repeats, gaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jax_me.evaluation.calibration import are_probabilities
from jax_me.evaluation.clip_predictions import clips_of
from jax_me.evaluation.megc2019_composite import differs_from_megc2019
from jax_me.evaluation.predictions import Predictions

FEW_SUBJECTS = 10
NAMED = 3  # Examples that a sentence names.


def cautions(predictions: Predictions) -> list[str]:
  """Sentences about what makes the scores of this table doubtful; none for a sound one.

  Classes without examples are not among them: `metrics.scores` tells of those in its notes.
  """
  found = [
    _repeated(predictions),
    _frames(predictions),
    differs_from_megc2019(predictions),
    _leaking(predictions),
    _nameless(predictions),
    _few(predictions),
    _scores_disagree(predictions),
    _no_probabilities(predictions),
  ]
  return [sentence for sentence in found if sentence]


def _repeated(predictions: Predictions) -> str:
  rows = predictions.repeats
  if not rows:
    return ""
  names = list(dict.fromkeys(predictions.name(row) for row in rows))
  return (
    f"{_count(len(names), 'clip')} stand{'s' * (len(names) == 1)} in the table more than once, and "
    f"every row counts: {_some(names)}. A clip is to be predicted exactly once."
  )


def _frames(predictions: Predictions) -> str:
  """Several files of one clip: the scores are of frames, and long clips count more."""
  clips = {key: rows for key, rows in clips_of(predictions).items() if len(key) == 3}
  several = sum(len({predictions.file[row] for row in rows}) > 1 for rows in clips.values())
  if not several:
    return ""
  return (
    f"{several} of {_count(len(clips), 'clip')} {'has' if several == 1 else 'have'} rows of "
    "several files: each row counts as an example, so these are scores of frames, not of clips."
  )


def _leaking(predictions: Predictions) -> str:
  folds: dict[tuple[str, str], set[str]] = {}
  for database, subject, fold in zip(
    predictions.database, predictions.subject, predictions.fold, strict=True
  ):
    if subject and fold:
      folds.setdefault((database, subject), set()).add(fold)
  names = [" ".join(key).strip() for key, own in folds.items() if len(own) > 1]
  if not names:
    return ""
  return (
    f"{_count(len(names), 'subject')} appear{'s' * (len(names) == 1)} in more than one fold: "
    f"{_some(names)}. The model that was tested on them was trained on other clips of the same "
    "person, so the scores say little about new people."
  )


def _nameless(predictions: Predictions) -> str:
  missing = sum(not subject for subject in predictions.subject)
  if missing in (0, len(predictions)):
    return ""  # None at all is said beside the intervals.
  verb = "names" if missing == 1 else "name"
  return (
    f"{missing} of {_count(len(predictions), 'row')} {verb} no subject; each counts as its own."
  )


def _few(predictions: Predictions) -> str:
  people = {key for key in predictions.people if len(key) == 2}
  if not 1 < len(people) < FEW_SUBJECTS:
    return ""
  return (
    f"There are only {len(people)} subjects: bootstrap intervals over so few are rough, and rather "
    "too narrow than too wide."
  )


def _scores_disagree(predictions: Predictions) -> str:
  if predictions.scores is None:
    return ""
  rows = np.arange(len(predictions))
  own = predictions.scores[rows, predictions.prediction]
  count = int((own < predictions.scores.max(axis=1)).sum())
  if not count:
    return ""
  return (
    f"In {_count(count, 'row')} the prediction is not the class with the highest score; the "
    "prediction counts."
  )


def _no_probabilities(predictions: Predictions) -> str:
  if predictions.scores is None or are_probabilities(predictions.scores):
    return ""
  return (
    "The scores are no probabilities (in [0, 1], adding up to 1 in each row), so calibration "
    "cannot be judged."
  )


def _count(number: int, noun: str) -> str:
  return f"{number} {noun}{'s' * (number != 1)}"


def _some(names: Sequence[str]) -> str:
  rest = len(names) - NAMED
  return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
