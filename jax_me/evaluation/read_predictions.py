"""Reads predictions as others wrote them: a CSV, or the log that MEGC 2019 asked for."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from jax_me.data.labels import GROUPS, canonical_label, group_mapping
from jax_me.evaluation.predictions import (
  LABEL_COLUMNS,
  TEXT_COLUMNS,
  InvalidPredictions,
  Predictions,
)


def read_predictions(
  path: str | os.PathLike[str], *, labels: Sequence[str] | None = None
) -> Predictions:
  """Reads a table (`Predictions.load`) or a log (`read_log`), told apart by the first line.

  Repeated clips are taken as they are; `cautions` tells of them.

  Args:
    path: the file.
    labels: class names in the order of their integers; None takes the file's.

  Raises:
    InvalidPredictions: neither of the two, or two of its labels are spellings of one expression;
      the message names the file, and line and column.
    OSError: the file cannot be read.
  """
  if _is_log(path):
    return read_log(path, labels=labels or GROUPS)
  predictions = Predictions.load(path, labels=labels, allow_repeats=True)
  spelt: dict[str, str] = {}
  for label in predictions.labels:
    other = spelt.setdefault(canonical_label(label), label)
    if other != label and labels is None:
      raise InvalidPredictions(
        f"{path}: labels {other!r} and {label!r} mean the same expression, but would count as two "
        "classes. Write one of them everywhere, or name the classes with --labels"
      )
  return predictions


def read_log(path: str | os.PathLike[str], *, labels: Sequence[str] = GROUPS) -> Predictions:
  """Reads the log of a leave-one-subject-out run in the form of MEGC 2019.

  A line `casme2 sub01` opens a fold: database and subject. Each line after it is a clip of that
  subject, `EP02_01f 0 2`: its name, truth and prediction, as numbers or names of `labels`. Spaces,
  tabs or commas separate; blank lines and lines that start with "#" are left out.

  Raises:
    InvalidPredictions: a line is neither of the two, or its label is unknown; names file and line.
    OSError: the file cannot be read.
  """
  number = {canonical_label(label): code for code, label in enumerate(labels)}
  number |= {label: code for code, label in enumerate(labels)}
  columns: dict[str, list[str]] = {"database": [], "subject": [], "clip": [], "fold": []}
  codes: dict[str, list[int]] = {name: [] for name in LABEL_COLUMNS}
  opened: tuple[str, str] | None = None
  with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
    for line, text in enumerate(file, start=1):
      words = _words(text)
      if not words:
        continue
      if len(words) == 2:
        opened = (words[0], words[1])
        continue
      if len(words) != 3 or opened is None:
        wanted = "'<clip> <truth> <prediction>'" if opened else "'<database> <subject>' first"
        raise InvalidPredictions(f"{path}, line {line}: {text.strip()!r} is not {wanted}")
      for name, word in zip(LABEL_COLUMNS, words[1:], strict=True):
        code = int(word) if word.isdecimal() else number.get(canonical_label(word), -1)
        if not 0 <= code < len(labels):
          raise InvalidPredictions(
            f"{path}, line {line}, {name}: {word!r} is none of the labels "
            f"{', '.join(f'{i} {label}' for i, label in enumerate(labels))}"
          )
        codes[name].append(code)
      for name, value in zip(columns, (*opened, words[0], " ".join(opened)), strict=True):
        columns[name].append(value)
  if not codes["truth"]:
    raise InvalidPredictions(f"{path} holds no predictions")
  return Predictions(
    tuple(labels),
    np.array(codes["truth"]),
    np.array(codes["prediction"]),
    database=columns["database"],
    subject=columns["subject"],
    clip=columns["clip"],
    fold=columns["fold"],
    allow_repeats=True,
  )


def to_three_classes(predictions: Predictions) -> tuple[Predictions, str]:
  """Expressions as negative, positive and surprise; clips of other expressions are left out.

  The scores of a group are the sums of its classes', over their sum in all groups; the group with
  the highest is the prediction. Without scores it is the group of the predicted expression.

  Note that MEGC 2019 itself counts less as negative (of CASME II disgust and repression only): to
  score by that protocol, the table has to hold the clips of its list.

  Returns:
    the table, and a sentence about what was left out, "" where nothing was.

  Raises:
    InvalidPredictions: nothing is left, or an expression outside the groups was predicted and
      there are no scores to say which group came next.
  """
  mapping = group_mapping(predictions.labels)
  truth = mapping[predictions.truth]
  kept = np.flatnonzero(truth >= 0)
  if not len(kept):
    raise InvalidPredictions(
      f"no clip is left: {', '.join(predictions.labels)} are in none of {', '.join(GROUPS)}"
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
        f"{predictions.name(row)} was taken for {predictions.labels[predictions.prediction[row]]!r}"
        f", which is none of {', '.join(GROUPS)}. Give score_<label> columns, or a model's "
        "predictions among these three"
      )
  texts: dict[str, Any] = {
    name: [getattr(predictions, name)[row] for row in kept] for name in TEXT_COLUMNS
  }
  left = dataclasses.replace(
    predictions,
    labels=GROUPS,
    truth=truth[kept],
    prediction=prediction,
    scores=scores,
    **texts,
  )
  out = sorted({predictions.labels[c] for c in predictions.truth[truth < 0]})
  missing = len(predictions) - len(kept)
  told = (
    f"{missing} row{'s' * (missing != 1)} left out: the truth ({', '.join(out)}) is in no group."
  )
  return left, told if missing else ""


def _is_log(path: str | os.PathLike[str]) -> bool:
  with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
    first = next((words for text in file if (words := _words(text))), [])
  return len(first) == 2 and not {word.casefold() for word in first} & set(LABEL_COLUMNS)


def _words(text: str) -> list[str]:
  return [] if text.lstrip().startswith("#") else [w for w in re.split(r"[\s,]+", text) if w]
