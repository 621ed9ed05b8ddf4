"""The table of every prediction: one row an example, from one evaluation or all folds together."""

from __future__ import annotations

import csv
import functools
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jax_me.evaluation.csv_reader import InvalidTable, Row, read_rows
from jax_me.evaluation.metrics import confusion_matrix
from jax_me.files import write_atomically

PREDICTIONS_FILE = "predictions.csv"
TEXT_COLUMNS = ("database", "subject", "clip", "file", "fold")
LABEL_COLUMNS = ("truth", "prediction")
SCORE_PREFIX = "score_"


class InvalidPredictions(ValueError):
  """A table of predictions that contradicts itself, or a file that does not hold one."""


@dataclass(frozen=True)
class Predictions:
  """N examples, what they are, and what a model took them for.

  Attributes:
    labels: C class names, in the model's order.
    truth: [N] int64 in [0, C).
    prediction: [N] int64 in [0, C).
    scores: [N, C] float32 softmax probabilities, or None where a table came without them.
    database, subject, clip, file, fold: [N] texts, "" where unknown. The first four together name
      an example, and no two rows may have the same name (rows without any name are not compared).
    allow_repeats: takes tables in which they do, as others may have written them.

  Raises:
    InvalidPredictions: lengths or ranges do not fit, or an example occurs twice.
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
  allow_repeats: bool = False

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
        raise InvalidPredictions(f"the scores of {self.name(row)} are not finite numbers")
    if self.repeats and not self.allow_repeats:
      raise InvalidPredictions(
        f"{self.name(self.repeats[0])} occurs twice; every example is to be predicted exactly once"
      )

  @classmethod
  def from_scores(
    cls, scores: ArrayLike, truth: ArrayLike, labels: Sequence[str], **columns: Any
  ) -> Predictions:
    """The table of a model's softmax outputs [N, C]; the prediction is the highest score.

    `columns` are `database`, `subject`, `clip`, `file` and `fold`: N texts each, or one text for
    all rows, or left out.
    """
    values = np.asarray(scores, np.float32)
    if values.ndim != 2 or values.shape[1] != len(labels):
      raise InvalidPredictions(f"scores must be [N, {len(labels)}], got {values.shape}")
    texts: dict[str, Any] = {
      k: [v] * len(values) if isinstance(v, str) else v for k, v in columns.items()
    }
    return cls(tuple(labels), np.asarray(truth), values.argmax(axis=1), values, **texts)

  def __len__(self) -> int:
    return len(self.truth)

  @property
  def correct(self) -> NDArray[np.bool_]:
    """[N] bool: where the prediction is the truth."""
    return self.truth == self.prediction

  @functools.cached_property
  def repeats(self) -> list[int]:
    """Rows whose database, subject, clip and file a row before them has; rows without are none."""
    seen: set[tuple[str, ...]] = set()
    found = []
    for row, key in enumerate(zip(self.database, self.subject, self.clip, self.file, strict=True)):
      if any(key) and key in seen:
        found.append(row)
      seen.add(key)
    return found

  @property
  def people(self) -> list[tuple[str, ...]]:
    """[N] what to draw in a bootstrap: database and subject, or the row itself if not known."""
    return [
      (database, subject) if subject else (database, "", str(row))
      for row, (database, subject) in enumerate(zip(self.database, self.subject, strict=True))
    ]

  def confusion(self) -> NDArray[np.int64]:
    """[C, C] counts, row = truth."""
    return confusion_matrix(self.truth, self.prediction, len(self.labels))

  def groups(self, column: str) -> dict[str, NDArray[np.int64]]:
    """Row indices for each text of `column` ("database", "subject" or "fold"), in natural order.

    Subjects of several databases are told apart as "database subject".
    """
    names = list(getattr(self, column))
    if column == "subject" and len(set(self.database)) > 1:
      names = [f"{d} {s}".strip() for d, s in zip(self.database, self.subject, strict=True)]
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
      rows.setdefault(name, []).append(row)
    return {name: np.array(rows[name]) for name in sorted(rows, key=_natural)}

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the table as CSV, whole or not at all; `load` gives back the same table.

    Columns: database, subject, clip, file, fold, truth, prediction (label names) and, where there
    are scores, one `score_<label>` for each label in order.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    score_columns = [] if self.scores is None else [SCORE_PREFIX + label for label in self.labels]
    writer.writerow([*TEXT_COLUMNS, "truth", "prediction", *score_columns])
    for row in range(len(self)):
      cells = [getattr(self, name)[row] for name in TEXT_COLUMNS]
      cells += [self.labels[self.truth[row]], self.labels[self.prediction[row]]]
      # str() of a float32 is its shortest text that reads back as the same number.
      cells += [] if self.scores is None else [str(score) for score in self.scores[row]]
      writer.writerow(cells)
    # File names on POSIX need not be UTF-8; Python carries the odd bytes as surrogates.
    write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"))

  @classmethod
  def load(
    cls,
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    allow_repeats: bool = False,
  ) -> Predictions:
    """Reads a table that `save` wrote, or anyone's CSV with `truth` and `prediction` columns.

    Columns may stand in any order, and others beside them. Labels are names or integers.

    Args:
      path: the file.
      labels: class names in the order of their integers. None takes the order of the `score_`
        columns; without those, integers stand for themselves (0 up to the highest) and names are
        sorted.
      allow_repeats: see the attribute.

    Raises:
      InvalidPredictions: not such a table; the message names the file, the line and the column.
      OSError: the file cannot be read.
    """
    try:
      header, rows = read_rows(path, known=(*TEXT_COLUMNS, *LABEL_COLUMNS), needed=LABEL_COLUMNS)
    except InvalidTable as error:
      raise InvalidPredictions(str(error)) from error
    if not rows:
      raise InvalidPredictions(f"{path} holds no predictions, only a header")
    scored = [name.removeprefix(SCORE_PREFIX) for name in header if name.startswith(SCORE_PREFIX)]
    names = list(labels) if labels is not None else scored
    if not names:
      found = {row.cells[column].strip() for row in rows for column in LABEL_COLUMNS} - {""}
      numeric = all(text.isdecimal() for text in found)
      names = [str(i) for i in range(max(map(int, found)) + 1)] if numeric else sorted(found)
    if scored and sorted(scored) != sorted(names):
      raise InvalidPredictions(
        f"{path}: the columns {', '.join(SCORE_PREFIX + label for label in scored)} do not name "
        f"the labels {', '.join(names)}"
      )
    number = {label: i for i, label in enumerate(names)}

    def code(row: Row, column: str) -> int:
      text = row.cells[column].strip()
      if text in number:
        return number[text]
      if text.isdecimal() and int(text) < len(names):
        return int(text)
      what = f"{text!r} is none of the labels {', '.join(names)}" if text else "it is empty"
      raise InvalidPredictions(f"{path}, line {row.line}, column {column}: {what}")

    def score(row: Row, label: str) -> float:
      text = row.cells[SCORE_PREFIX + label]
      try:
        value = float(text)
      except ValueError:
        value = np.nan
      if not np.isfinite(value):
        raise InvalidPredictions(
          f"{path}, line {row.line}, column {SCORE_PREFIX + label}: {text!r} is not a finite number"
        )
      return value

    truth = np.array([code(row, "truth") for row in rows])
    prediction = np.array([code(row, "prediction") for row in rows])
    scores = [[score(row, label) for label in names] for row in rows] if scored else None
    texts = {name: [row.cells[name] for row in rows] for name in TEXT_COLUMNS if name in header}
    try:
      return cls(
        tuple(names),
        truth,
        prediction,
        None if scores is None else np.array(scores, np.float32),
        **texts,
        allow_repeats=allow_repeats,
      )
    except ValueError as error:
      raise InvalidPredictions(f"{path}: {error}") from error

  def name(self, row: int) -> str:
    """What a sentence calls a row: database, subject, clip and file, or its number."""
    parts = [getattr(self, name)[row] for name in ("database", "subject", "clip", "file")]
    return " ".join(part for part in parts if part) or f"row {row}"


def concatenate(tables: Sequence[Predictions], *, expected: int | None = None) -> Predictions:
  """The predictions of all folds as one table.

  Args:
    tables: one a fold, with equal labels; all with scores or all without.
    expected: how many examples the folds cover together; None does not check.

  Raises:
    InvalidPredictions: labels differ, an example occurs in two folds, or some are missing.
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
    raise InvalidPredictions(f"the folds hold {count} predictions for {expected} examples")
  scores = [table.scores for table in tables if table.scores is not None]
  return Predictions(
    first.labels,
    np.concatenate([table.truth for table in tables]),
    np.concatenate([table.prediction for table in tables]),
    np.concatenate(scores) if scores else None,
    **{name: [v for table in tables for v in getattr(table, name)] for name in TEXT_COLUMNS},
    allow_repeats=any(table.allow_repeats for table in tables),
  )


def _natural(text: str) -> list[tuple[int, int, str]]:
  """Sort key under which "s2" comes before "s10"."""
  return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", text) if p]
