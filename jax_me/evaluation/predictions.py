"""The table of every prediction: one row an example, from one evaluation or all folds together."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jax_me.evaluation.metrics import confusion_matrix
from jax_me.files import write_whole

TEXT_COLUMNS = ("database", "subject", "clip", "file", "fold")
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
        raise InvalidPredictions(f"the scores of {self._name(row)} are not finite numbers")
    seen: set[tuple[str, ...]] = set()
    for row, key in enumerate(zip(self.database, self.subject, self.clip, self.file, strict=True)):
      if any(key) and key in seen:
        raise InvalidPredictions(
          f"{self._name(row)} occurs twice; every example is to be predicted exactly once"
        )
      seen.add(key)

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
    texts = {k: [v] * len(values) if isinstance(v, str) else v for k, v in columns.items()}
    return cls(tuple(labels), np.asarray(truth), values.argmax(axis=1), values, **texts)

  def __len__(self) -> int:
    return len(self.truth)

  @property
  def correct(self) -> NDArray[np.bool_]:
    """[N] bool: where the prediction is the truth."""
    return self.truth == self.prediction

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
    write_whole(path, text.getvalue().encode("utf-8", "surrogateescape"))

  @classmethod
  def load(cls, path: str | os.PathLike[str]) -> Predictions:
    """Reads a table that `save` wrote, or anyone's CSV with `truth` and `prediction` columns.

    Labels are names or integers. Their order is that of the `score_` columns; without those,
    integers stand for themselves (0 up to the highest) and names are sorted.

    Raises:
      InvalidPredictions: not such a table; the message names the file and the line.
      OSError: the file cannot be read.
    """
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
      reader = csv.DictReader(file, strict=True)
      try:
        rows = list(reader)
      except csv.Error as error:
        raise InvalidPredictions(f"{path}, line {reader.line_num}: {error}") from error
      header = list(reader.fieldnames or [])
    missing = [name for name in ("truth", "prediction") if name not in header]
    if missing:
      raise InvalidPredictions(f"{path} has no column {' and no column '.join(missing)}")
    if not rows:
      raise InvalidPredictions(f"{path} holds no predictions, only a header")
    for line, cells in enumerate(rows, start=2):
      if None in cells or None in cells.values():
        raise InvalidPredictions(f"{path}, row {line}: not {len(header)} cells as in the header")

    score_columns = [name for name in header if name.startswith(SCORE_PREFIX)]
    labels = [name.removeprefix(SCORE_PREFIX) for name in score_columns]
    if not labels:
      found = {row[name] for row in rows for name in ("truth", "prediction")}
      numeric = all(text.isdecimal() for text in found)
      labels = [str(i) for i in range(max(map(int, found)) + 1)] if numeric else sorted(found)
    number = {label: i for i, label in enumerate(labels)}

    def read(line: int, row: dict[str, str], name: str) -> int:
      if row[name] in number:
        return number[row[name]]
      if row[name].isdecimal() and int(row[name]) < len(labels):
        return int(row[name])
      raise InvalidPredictions(
        f"{path}, row {line}: {name} {row[name]!r} is none of the labels {', '.join(labels)}"
      )

    truth = [read(line, row, "truth") for line, row in enumerate(rows, start=2)]
    prediction = [read(line, row, "prediction") for line, row in enumerate(rows, start=2)]
    try:
      scores = [[float(row[name]) for name in score_columns] for row in rows]
      texts = {name: [row[name] for row in rows] for name in TEXT_COLUMNS if name in header}
      return cls(
        tuple(labels),
        np.array(truth),
        np.array(prediction),
        np.array(scores, np.float32) if score_columns else None,
        **texts,
      )
    except ValueError as error:
      raise InvalidPredictions(f"{path}: {error}") from error

  def _name(self, row: int) -> str:
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
  )


def _natural(text: str) -> list[tuple[int, int, str]]:
  """Sort key under which "s2" comes before "s10"."""
  return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", text) if p]
