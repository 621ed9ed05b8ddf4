"""Table of predictions: one row per example, of one evaluation or of all folds."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jax_me.csv_files import CsvRow, TableError, csv_bytes, read_rows
from jax_me.evaluation.affect import AFFECT_COLUMNS, AffectValues, concatenate_affect
from jax_me.evaluation.metrics import confusion_matrix
from jax_me.files import write_atomically

PREDICTIONS_FILE = "predictions.csv"
TEXT_COLUMNS = ("database", "subject", "clip", "file", "fold")
LABEL_COLUMNS = ("truth", "prediction")
SCORE_PREFIX = "score_"


class InvalidPredictions(ValueError):
  """An inconsistent table of predictions, or a file that does not contain one."""


@dataclass(frozen=True)
class Predictions:
  """True and predicted classes of N examples, with the names of the examples.

  Attributes:
    labels: C class names, in the model's order.
    truth: [N] int64 in [0, C).
    prediction: [N] int64 in [0, C).
    scores: [N, C] float32 softmax probabilities, or None if the table has none.
    database, subject, clip, file, fold: [N] texts, "" where unknown. The first four identify an
      example and must be unique (rows in which all four are unknown are not compared).
    allow_duplicates: accepts duplicate examples, as tables of other programs may contain them.
    affect: true and predicted valence and arousal; None if the table has none.

  Raises:
    InvalidPredictions: inconsistent lengths, labels out of range, or a duplicate example.
  """

  labels: tuple[str, ...]
  truth: NDArray[np.int64]
  prediction: NDArray[np.int64]
  scores: NDArray[np.float32] | None = None
  database: Sequence[str] = field(default=())
  subject: Sequence[str] = field(default=())
  clip: Sequence[str] = field(default=())
  file: Sequence[str] = field(default=())
  fold: Sequence[str] = field(default=())
  allow_duplicates: bool = False
  affect: AffectValues | None = None

  def __post_init__(self) -> None:
    put = object.__setattr__
    put(self, "labels", tuple(str(label) for label in self.labels))
    if not self.labels or len(set(self.labels)) != len(self.labels):
      raise InvalidPredictions(f"labels must be distinct names, at least one, got {self.labels}")
    put(self, "truth", np.asarray(self.truth))
    put(self, "prediction", np.asarray(self.prediction))
    rows, classes = len(self.truth), len(self.labels)
    for name in TEXT_COLUMNS:
      values = [str(value) for value in getattr(self, name)] or [""] * rows
      if len(values) != rows:
        raise InvalidPredictions(f"{name} has {len(values)} entries for {rows} examples")
      put(self, name, tuple(values))
    try:
      self.confusion()
    except ValueError as error:
      raise InvalidPredictions(str(error)) from error
    put(self, "truth", self.truth.astype(np.int64))
    put(self, "prediction", self.prediction.astype(np.int64))
    if self.scores is not None:
      put(self, "scores", np.asarray(self.scores, np.float32))
      if self.scores.shape != (rows, classes):
        raise InvalidPredictions(f"scores must be [{rows}, {classes}], got {self.scores.shape}")
      if not np.isfinite(self.scores).all():
        row = int(np.argmin(np.isfinite(self.scores).all(axis=1)))
        raise InvalidPredictions(f"the scores of {self.describe_row(row)} are not finite numbers")
    if self.affect is not None and len(self.affect) != rows:
      raise InvalidPredictions(f"valence and arousal have {len(self.affect)} rows, not {rows}")
    if self.duplicate_rows and not self.allow_duplicates:
      raise InvalidPredictions(
        f"{self.describe_row(self.duplicate_rows[0])} occurs twice; "
        "every example must be predicted exactly once"
      )

  @classmethod
  def from_scores(
    cls,
    scores: ArrayLike,
    truth: ArrayLike,
    labels: Sequence[str],
    **columns: str | Sequence[str],
  ) -> Predictions:
    """Builds the table from class probabilities; the class with the highest is the prediction.

    Args:
      scores: [N, C] softmax outputs.
      truth: [N] integer labels in [0, C).
      labels: C class names.
      **columns: `database`, `subject`, `clip`, `file` and `fold`: N texts each, or one text for all
        rows.

    Returns:
      The table.

    Raises:
      InvalidPredictions: the shapes do not match; see also the class.
    """
    values = np.asarray(scores, np.float32)
    if values.ndim != 2 or values.shape[1] != len(labels):
      raise InvalidPredictions(f"scores must be [N, {len(labels)}], got {values.shape}")
    texts: dict[str, Any] = {
      name: [text] * len(values) if isinstance(text, str) else text
      for name, text in columns.items()
    }
    return cls(tuple(labels), np.asarray(truth), values.argmax(axis=1), values, **texts)

  def __len__(self) -> int:
    return len(self.truth)

  @property
  def correct(self) -> NDArray[np.bool_]:
    """[N] bool: whether each prediction is right."""
    return self.truth == self.prediction

  @functools.cached_property
  def duplicate_rows(self) -> list[int]:
    """Rows whose database, subject, clip and file equal those of an earlier row."""
    seen: set[tuple[str, ...]] = set()
    found = []
    for row, key in enumerate(zip(self.database, self.subject, self.clip, self.file, strict=True)):
      if any(key) and key in seen:
        found.append(row)
      seen.add(key)
    return found

  @property
  def bootstrap_units(self) -> list[tuple[str, ...]]:
    """[N] resampling units of the bootstrap: (database, subject), or the row if unknown."""
    return [
      (database, subject) if subject else (database, "", str(row))
      for row, (database, subject) in enumerate(zip(self.database, self.subject, strict=True))
    ]

  def confusion(self) -> NDArray[np.int64]:
    """Confusion matrix [C, C] of counts, row = truth."""
    return confusion_matrix(self.truth, self.prediction, len(self.labels))

  def rows_by(self, column: str) -> dict[str, NDArray[np.int64]]:
    """Maps each value of "database", "subject" or "fold" to its rows, in natural order.

    With several databases, subjects are named "database subject".
    """
    names = list(getattr(self, column))
    if column == "subject" and len(set(self.database)) > 1:
      names = [f"{d} {s}".strip() for d, s in zip(self.database, self.subject, strict=True)]
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
      rows.setdefault(name, []).append(row)
    return {name: np.array(rows[name]) for name in sorted(rows, key=_natural_order)}

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the table as CSV, atomically; `load` returns an equal table.

    Columns: database, subject, clip, file, fold, truth, prediction (label names) and, with
    scores, one `score_<label>` per label in order; with valence and arousal, their predicted and
    true values (empty where unknown).
    """
    score_columns = [] if self.scores is None else [SCORE_PREFIX + label for label in self.labels]
    affect_columns = () if self.affect is None else AFFECT_COLUMNS
    rows: list[list[str]] = [[*TEXT_COLUMNS, *LABEL_COLUMNS, *score_columns, *affect_columns]]
    for row in range(len(self)):
      cells = [getattr(self, name)[row] for name in TEXT_COLUMNS]
      cells += [self.labels[self.truth[row]], self.labels[self.prediction[row]]]
      # str() of a float32 is the shortest text that parses to the same number.
      cells += [] if self.scores is None else [str(score) for score in self.scores[row]]
      if self.affect is not None:
        values = (*self.affect.prediction[row], *self.affect.truth[row])
        cells += ["" if np.isnan(value) else str(value) for value in values]
      rows.append(cells)
    write_atomically(path, csv_bytes(rows))

  @classmethod
  def load(
    cls,
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    allow_duplicates: bool = False,
  ) -> Predictions:
    """Reads a CSV file with the columns `truth` and `prediction`, such as `save` writes.

    Columns may be in any order; unknown ones are ignored. Labels are names or integers.

    Args:
      path: the file.
      labels: class names in the order of their integers. None takes the order of the `score_`
        columns; without those, integers are their own names (0 up to the highest) and names are
        sorted.
      allow_duplicates: see the attribute.

    Returns:
      The table.

    Raises:
      InvalidPredictions: not a valid table; the message names file, line and column.
      OSError: the file cannot be read.
    """
    try:
      header, rows = read_rows(path, known=(*TEXT_COLUMNS, *LABEL_COLUMNS), required=LABEL_COLUMNS)
    except TableError as error:
      raise InvalidPredictions(str(error)) from error
    if not rows:
      raise InvalidPredictions(f"{path} contains no predictions, only a header")
    scored = [name.removeprefix(SCORE_PREFIX) for name in header if name.startswith(SCORE_PREFIX)]
    names = list(labels) if labels is not None else scored
    if not names:
      found = {row.cells[column].strip() for row in rows for column in LABEL_COLUMNS} - {""}
      numeric = all(text.isdecimal() for text in found)
      names = [str(i) for i in range(max(map(int, found)) + 1)] if numeric else sorted(found)
    if scored and sorted(scored) != sorted(names):
      raise InvalidPredictions(
        f"{path}: the columns {', '.join(SCORE_PREFIX + label for label in scored)} do not match "
        f"the labels {', '.join(names)}"
      )
    number = {label: i for i, label in enumerate(names)}

    def code(row: CsvRow, column: str) -> int:
      text = row.cells[column].strip()
      if text in number:
        return number[text]
      if text.isdecimal() and int(text) < len(names):
        return int(text)
      problem = f"{text!r} is none of the labels {', '.join(names)}" if text else "it is empty"
      raise InvalidPredictions(f"{path}, line {row.line}, column {column}: {problem}")

    def finite(row: CsvRow, column: str) -> float:
      text = row.cells[column]
      try:
        value = float(text)
      except ValueError:
        value = np.nan
      if not np.isfinite(value):
        raise InvalidPredictions(
          f"{path}, line {row.line}, column {column}: {text!r} is not a finite number"
        )
      return value

    def true_value(row: CsvRow, column: str) -> float:
      return finite(row, column) if row.cells[column].strip() else np.nan

    truth = np.array([code(row, "truth") for row in rows])
    prediction = np.array([code(row, "prediction") for row in rows])
    scores = None
    if scored:
      scores = [[finite(row, SCORE_PREFIX + label) for label in names] for row in rows]
    affect = None
    if set(AFFECT_COLUMNS) <= set(header):
      affect = AffectValues(
        np.array([[true_value(row, name) for name in AFFECT_COLUMNS[2:]] for row in rows]),
        np.array([[finite(row, name) for name in AFFECT_COLUMNS[:2]] for row in rows]),
      )
    texts = {name: [row.cells[name] for row in rows] for name in TEXT_COLUMNS if name in header}
    try:
      return cls(
        tuple(names),
        truth,
        prediction,
        None if scores is None else np.array(scores, np.float32),
        **texts,
        allow_duplicates=allow_duplicates,
        affect=affect,
      )
    except ValueError as error:
      raise InvalidPredictions(f"{path}: {error}") from error

  def describe_row(self, row: int) -> str:
    """Returns database, subject, clip and file of a row for messages, or its number."""
    parts = [getattr(self, name)[row] for name in ("database", "subject", "clip", "file")]
    return " ".join(part for part in parts if part) or f"row {row}"


def concatenate(tables: Sequence[Predictions], *, expected: int | None = None) -> Predictions:
  """Concatenates the predictions of all folds.

  Args:
    tables: one per fold, with equal labels; all with scores or all without.
    expected: total number of examples of the folds; None skips the check.

  Returns:
    The table of all folds.

  Raises:
    InvalidPredictions: the labels differ, an example occurs in two folds, or some are missing.
  """
  if not tables:
    raise InvalidPredictions("no predictions to concatenate")
  first = tables[0]
  for table in tables:
    if table.labels != first.labels:
      raise InvalidPredictions(f"folds differ in labels: {first.labels} and {table.labels}")
    if (table.scores is None) != (first.scores is None):
      raise InvalidPredictions("some folds have scores and some have none")
  count = sum(map(len, tables))
  if expected is not None and count != expected:
    raise InvalidPredictions(f"the folds contain {count} predictions for {expected} examples")
  scores = [table.scores for table in tables if table.scores is not None]
  values = [table.affect for table in tables if table.affect is not None]
  return Predictions(
    first.labels,
    np.concatenate([table.truth for table in tables]),
    np.concatenate([table.prediction for table in tables]),
    np.concatenate(scores) if scores else None,
    **{name: [v for table in tables for v in getattr(table, name)] for name in TEXT_COLUMNS},
    allow_duplicates=any(table.allow_duplicates for table in tables),
    affect=concatenate_affect(values) if len(values) == len(tables) else None,
  )


def _natural_order(text: str) -> list[tuple[int, int, str]]:
  """Sort key under which "s2" comes before "s10"."""
  return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", text) if p]
