"""Reader of predictions from any program: a CSV table or a log in the format of MEGC 2019."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from jax_me.data.labels import GROUPS, canonical_label, group_mapping
from jax_me.evaluation.predictions import (
  LABEL_COLUMNS,
  PREDICTIONS_FILE,
  TEXT_COLUMNS,
  InvalidPredictions,
  Predictions,
)
from jax_me.run_folder import verify_result


def read_predictions(
  path: str | os.PathLike[str], *, labels: Sequence[str] | None = None
) -> Predictions:
  """Reads a table (`Predictions.load`) or a log (`read_megc_log`), detected by the first line.

  Duplicate clips are accepted; `score_warnings` reports them.

  Args:
    path: the file.
    labels: class names in the order of their integers; None takes them from the file.

  Returns:
    The predictions.

  Raises:
    InvalidPredictions: neither format, or two labels are spellings of the same expression; the
      message names file, line and column.
    RunFolderError: it is a result of a run, and damaged or not finished.
    OSError: the file cannot be read.
  """
  verify_result(path, required=pathlib.Path(path).name == PREDICTIONS_FILE)
  if _is_megc_log(path):
    return read_megc_log(path, labels=labels or GROUPS)
  predictions = Predictions.load(path, labels=labels, allow_duplicates=True)
  first_spelling: dict[str, str] = {}
  for label in predictions.labels:
    other = first_spelling.setdefault(canonical_label(label), label)
    if other != label and labels is None:
      raise InvalidPredictions(
        f"{path}: labels {other!r} and {label!r} mean the same expression, but would count as two "
        "classes. Use one spelling everywhere, or list the classes with --labels"
      )
  return predictions


def read_megc_log(path: str | os.PathLike[str], *, labels: Sequence[str] = GROUPS) -> Predictions:
  """Reads the log of a leave-one-subject-out run in the format of MEGC 2019.

  A line `casme2 sub01` (database, subject) begins a fold. Each following line is a clip of that
  subject, `EP02_01f 0 2`: name, truth and prediction, as integers or names of `labels`. Fields are
  separated by spaces, tabs or commas; blank lines and lines starting with "#" are ignored.

  Raises:
    InvalidPredictions: a malformed line or an unknown label; the message names file and line.
    OSError: the file cannot be read.
  """
  number = {canonical_label(label): code for code, label in enumerate(labels)}
  number |= {label: code for code, label in enumerate(labels)}
  columns: dict[str, list[str]] = {"database": [], "subject": [], "clip": [], "fold": []}
  codes: dict[str, list[int]] = {name: [] for name in LABEL_COLUMNS}
  fold: tuple[str, str] | None = None
  with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
    for line, text in enumerate(file, start=1):
      fields = _fields(text)
      if not fields:
        continue
      if len(fields) == 2:
        fold = (fields[0], fields[1])
        continue
      if len(fields) != 3 or fold is None:
        expected = "'<clip> <truth> <prediction>'" if fold else "'<database> <subject>' first"
        raise InvalidPredictions(f"{path}, line {line}: {text.strip()!r} is not {expected}")
      for name, field in zip(LABEL_COLUMNS, fields[1:], strict=True):
        code = int(field) if field.isdecimal() else number.get(canonical_label(field), -1)
        if not 0 <= code < len(labels):
          raise InvalidPredictions(
            f"{path}, line {line}, {name}: {field!r} is none of the labels "
            f"{', '.join(f'{i} {label}' for i, label in enumerate(labels))}"
          )
        codes[name].append(code)
      for name, value in zip(columns, (*fold, fields[0], " ".join(fold)), strict=True):
        columns[name].append(value)
  if not codes["truth"]:
    raise InvalidPredictions(f"{path} contains no predictions")
  return Predictions(
    tuple(labels),
    np.array(codes["truth"]),
    np.array(codes["prediction"]),
    database=columns["database"],
    subject=columns["subject"],
    clip=columns["clip"],
    fold=columns["fold"],
    allow_duplicates=True,
  )


def to_three_classes(predictions: Predictions) -> tuple[Predictions, str]:
  """Maps expressions to negative, positive and surprise; rows of other expressions are excluded.

  The score of a group is the sum of the scores of its classes, normalised over the three groups;
  the group with the highest score is predicted. Without scores it is the group of the predicted
  expression.

  MEGC 2019 itself counts fewer expressions as negative (of CASME II only disgust and repression):
  to score by that protocol, the table must contain the clips of its list.

  Returns:
    The table, and a sentence about the excluded rows, "" without any.

  Raises:
    InvalidPredictions: no row remains, or an expression outside the groups was predicted and there
      are no scores to choose another group.
  """
  mapping = group_mapping(predictions.labels)
  truth = mapping[predictions.truth]
  kept = np.flatnonzero(truth >= 0)
  if not len(kept):
    raise InvalidPredictions(
      f"no clip remains: {', '.join(predictions.labels)} are in none of {', '.join(GROUPS)}"
    )
  scores = None
  if predictions.scores is not None:
    sums = [predictions.scores[kept][:, mapping == code].sum(axis=1) for code in range(len(GROUPS))]
    scores = np.stack(sums, axis=1)
    scores = scores / np.maximum(scores.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    prediction = scores.argmax(axis=1)
  else:
    prediction = mapping[predictions.prediction[kept]]
    if (prediction < 0).any():
      row = int(kept[np.argmin(prediction)])
      raise InvalidPredictions(
        f"{predictions.describe_row(row)} was predicted as "
        f"{predictions.labels[predictions.prediction[row]]!r}, which is none of "
        f"{', '.join(GROUPS)}. Add score_<label> columns, or predict one of these three classes"
      )
  columns: dict[str, Any] = {
    name: [getattr(predictions, name)[row] for row in kept] for name in TEXT_COLUMNS
  }
  mapped = dataclasses.replace(
    predictions,
    labels=GROUPS,
    truth=truth[kept],
    prediction=prediction,
    scores=scores,
    affect=None if predictions.affect is None else predictions.affect.take(kept),
    **columns,
  )
  excluded = len(predictions) - len(kept)
  labels = sorted({predictions.labels[c] for c in predictions.truth[truth < 0]})
  note = (
    f"{excluded} row{'s' * (excluded != 1)} excluded: the true label ({', '.join(labels)}) is in "
    "none of these classes."
  )
  return mapped, note if excluded else ""


def _is_megc_log(path: str | os.PathLike[str]) -> bool:
  with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
    first = next((fields for text in file if (fields := _fields(text))), [])
  return len(first) == 2 and not {field.casefold() for field in first} & set(LABEL_COLUMNS)


def _fields(text: str) -> list[str]:
  return [] if text.lstrip().startswith("#") else [w for w in re.split(r"[\s,]+", text) if w]
