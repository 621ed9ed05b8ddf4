"""Accuracy, UAR and UF1 of a classifier from its confusion matrix, by the rules of MEGC 2019.

Confusion matrices can be summed over batches, processes and cross-validation folds; scores cannot
be averaged (but see `mean_of_scores`). The score of a cross-validation is that of the summed matrix
("pooled"), as the challenge requires (See et al., "MEGC 2019 - the second facial micro-expressions
grand challenge", FG 2019):

  UF1 = mean over classes of F1_c,      F1_c = 2 TP_c / (2 TP_c + FP_c + FN_c)
  UAR = mean over classes of recall_c,  recall_c = TP_c / n_c

Classes without examples: the challenge's data contain every class, so its text does not define the
case n_c = 0, but a subset (one subject, one database) can lack a class. Here a ratio 0/0 is
undefined: it is reported as None, never as 0 or 1, and excluded from the mean, with a sentence in
`notes`:

  - n_c = 0: recall_c is undefined and UAR is the mean over the other classes;
  - n_c = 0 and never predicted: F1_c is undefined and UF1 is the mean over the other classes;
  - n_c = 0 but predicted: F1_c = 0 by its formula (every such prediction is a false positive), and
    it counts in UF1.

scikit-learn's `f1_score(average="macro")` and `balanced_accuracy_score` follow the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

ScoreName = Literal["uf1", "uar", "accuracy"]
SCORE_NAMES: tuple[ScoreName, ...] = ("uf1", "uar", "accuracy")
Intervals = dict[ScoreName, tuple[float, float]]
MAX_DRAWS = 10_000_000  # Counts of a bootstrap that are in memory at once.


class MainScores(TypedDict):
  """The three scores of MEGC 2019, each in [0, 1]."""

  uf1: float
  uar: float
  accuracy: float


class ClassScores(TypedDict):
  """Scores of one class: `support` = n_c, `predicted` = TP + FP; ratios are None where 0/0."""

  label: str
  support: int
  predicted: int
  precision: float | None
  recall: float | None
  f1: float | None


class Scores(MainScores):
  """Scores of one confusion matrix, with the keys of `scores.json`.

  `notes` are sentences about classes that lack examples or are excluded from a mean.
  """

  examples: int
  per_class: list[ClassScores]
  notes: list[str]


def confusion_matrix(
  truth: ArrayLike, prediction: ArrayLike, num_classes: int, mask: ArrayLike | None = None
) -> NDArray[np.int64]:
  """Counts the predicted classes of each true class.

  Args:
    truth: [N] integer labels in [0, num_classes).
    prediction: [N] integer labels in [0, num_classes).
    num_classes: number of classes C.
    mask: [N] bool, False on padding, whose labels are ignored. None: all rows count.

  Returns:
    [C, C] int64; row = truth, column = prediction.

  Raises:
    ValueError: shapes differ, labels are not integers, or one is out of range.
  """
  if num_classes < 1:
    raise ValueError(f"confusion_matrix needs num_classes >= 1, got {num_classes}")
  true, predicted = _labels("truth", truth), _labels("prediction", prediction)
  if true.shape != predicted.shape:
    raise ValueError(f"truth and prediction differ in length: {true.shape} and {predicted.shape}")
  if mask is not None:
    keep = np.asarray(mask)
    if keep.shape != true.shape or keep.dtype != bool:
      raise ValueError(f"mask must be bool {true.shape}, got {keep.dtype} {keep.shape}")
    true, predicted = true[keep], predicted[keep]
  for name, values in (("truth", true), ("prediction", predicted)):
    outside = (values < 0) | (values >= num_classes)
    if outside.any():
      first = int(np.argmax(outside))
      raise ValueError(
        f"{name}[{first}] is {values[first]}, not one of the classes 0..{num_classes - 1}"
      )
  cells = np.bincount(true * num_classes + predicted, minlength=num_classes * num_classes)
  return cells.reshape(num_classes, num_classes).astype(np.int64)


def scores(confusion: ArrayLike, labels: Sequence[str] | None = None) -> Scores:
  """Computes accuracy, UAR, UF1 and the per-class scores of one confusion matrix.

  Args:
    confusion: [C, C] counts, row = truth, column = prediction; may be a sum of matrices.
    labels: C class names; None names them "0", "1", ...

  Returns:
    A JSON-serialisable dict with `per_class` in label order.

  Raises:
    ValueError: not a square matrix of counts, no examples, or a wrong number of labels.
  """
  counts = np.asarray(confusion)
  if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
    raise ValueError(f"a confusion matrix must be square, [C, C], got shape {counts.shape}")
  if not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
    raise ValueError("a confusion matrix must contain counts: non-negative integers")
  total = int(counts.sum())
  if total == 0:
    raise ValueError("the confusion matrix is empty: there is no example to score")
  names = [str(i) for i in range(len(counts))] if labels is None else list(labels)
  if len(names) != len(counts):
    raise ValueError(f"{len(names)} labels for a confusion matrix of {len(counts)} classes")

  rates = _rates(counts)
  support, predicted = counts.sum(axis=1), counts.sum(axis=0)
  per_class: list[ClassScores] = []
  notes = []
  for c, label in enumerate(names):
    per_class.append(
      {
        "label": label,
        "support": int(support[c]),
        "predicted": int(predicted[c]),
        "precision": _defined(rates.precision[c]),
        "recall": _defined(rates.recall[c]),
        "f1": _defined(rates.f1[c]),
      }
    )
    if support[c] == 0 and predicted[c] == 0:
      notes.append(f"{label}: no examples and never predicted; excluded from UAR and UF1.")
    elif support[c] == 0:
      notes.append(
        f"{label}: no examples, so it has no recall and is excluded from UAR; predicted "
        f"{predicted[c]} time{'s' * bool(predicted[c] != 1)}, so its F1 is 0 and counts in UF1."
      )
  return {
    "examples": total,
    "accuracy": float(rates.accuracy),
    "uar": float(rates.uar),
    "uf1": float(rates.uf1),
    "per_class": per_class,
    "notes": notes,
  }


def subject_bootstrap(
  truth: ArrayLike,
  prediction: ArrayLike,
  subjects: Sequence[object],
  num_classes: int,
  *,
  repeats: int = 2000,
  level: float = 0.95,
  seed: int = 0,
) -> Intervals:
  """Computes percentile bootstrap intervals of the pooled scores by resampling subjects.

  The clips of one subject are correlated, so resampling single clips would make the intervals too
  narrow. Subjects are drawn with all of their examples (cluster bootstrap: Field & Welsh,
  "Bootstrapping clustered data", JRSS B 69, 2007). Each resample is pooled and scored by the rules
  of this module, even if it lacks a class.

  Args:
    truth: [N] integer labels in [0, num_classes).
    prediction: [N] integer labels in [0, num_classes).
    subjects: [N] hashable names; equal names are one subject.
    num_classes: number of classes C.
    repeats: number of resamples.
    level: coverage, in (0, 1).
    seed: random seed; the same seed gives the same intervals.

  Returns:
    {"uf1": (low, high), "uar": ..., "accuracy": ...}.

  Raises:
    ValueError: fewer than two subjects, or a value out of range.
  """
  if not 0 < level < 1:
    raise ValueError(f"subject_bootstrap needs 0 < level < 1, got {level}")
  resamples = bootstrap_scores(
    truth, [prediction], subjects, num_classes, repeats=repeats, seed=seed
  )
  return {name: percentile_interval(resamples[name][:, 0], level) for name in SCORE_NAMES}


def bootstrap_scores(
  truth: ArrayLike,
  predictions: Sequence[ArrayLike],
  subjects: Sequence[object],
  num_classes: int,
  *,
  repeats: int = 2000,
  seed: int = 0,
) -> dict[ScoreName, NDArray[np.float64]]:
  """Pooled scores of resamples of the subjects, for one or several classifiers.

  All classifiers are scored on the same resamples, so that the differences of their columns are
  those of a paired bootstrap (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993).

  Args:
    truth: [N] integer labels in [0, num_classes).
    predictions: for each of R classifiers [N] integer labels in [0, num_classes).
    subjects: [N] hashable names; equal names are one subject.
    num_classes: number of classes C.
    repeats: number of resamples; each has as many subjects, drawn with replacement.
    seed: random seed.

  Returns:
    {"uf1": [repeats, R], "uar": ..., "accuracy": ...}.

  Raises:
    ValueError: fewer than two subjects, or a value out of range.
  """
  if repeats < 1:
    raise ValueError(f"a bootstrap needs repeats >= 1, got {repeats}")
  for prediction in predictions:
    confusion_matrix(truth, prediction, num_classes)  # checks the labels
  true = _labels("truth", truth)
  if len(subjects) != len(true):
    raise ValueError(f"{len(subjects)} subjects for {len(true)} examples")
  numbers: dict[object, int] = {}
  row = np.array([numbers.setdefault(name, len(numbers)) for name in subjects], np.int64)
  if len(numbers) < 2:
    raise ValueError(f"a bootstrap over subjects needs at least 2 of them, got {len(numbers)}")

  shape = (len(predictions), num_classes, num_classes)
  matrices = np.zeros((len(numbers), len(predictions), num_classes * num_classes), np.int32)
  for number, prediction in enumerate(predictions):
    cells = true * num_classes + _labels("prediction", prediction)
    np.add.at(matrices[:, number], (row, cells), 1)
  # Subjects with equal matrices are interchangeable, so counts of the distinct matrices are drawn.
  # This stays small when every example is a subject of its own.
  flat = matrices.reshape(len(numbers), -1)
  distinct, frequency = np.unique(flat, axis=0, return_counts=True)
  generator = np.random.default_rng(seed)
  block = max(1, MAX_DRAWS // len(distinct))
  parts = []
  for first in range(0, repeats, block):
    size = min(block, repeats - first)
    draws = generator.multinomial(len(numbers), frequency / len(numbers), size=size)
    parts.append(_rates((draws @ distinct.astype(np.int64)).reshape(size, *shape)))
  return {name: np.concatenate([getattr(part, name) for part in parts]) for name in SCORE_NAMES}


def percentile_interval(values: NDArray[np.float64], level: float) -> tuple[float, float]:
  """The interval between the percentiles that leave (1 - level) / 2 of the values on each side."""
  tail = (1 - level) / 2
  low, high = np.quantile(values, [tail, 1 - tail])
  return (float(low), float(high))


def mean_of_scores(parts: Sequence[MainScores]) -> MainScores:
  """Averages `uf1`, `uar` and `accuracy` over folds or subjects.

  Only to be reported next to the pooled scores, under a name that distinguishes it: a fold with few
  examples lacks most classes, each part is scored over different classes, and the mean can be far
  above or below the pooled score. It is not the score of the protocol.
  """
  if not parts:
    raise ValueError("mean_of_scores needs at least one part")
  uf1, uar, accuracy = (float(np.mean([part[name] for part in parts])) for name in SCORE_NAMES)
  return {"uf1": uf1, "uar": uar, "accuracy": accuracy}


class _Rates(NamedTuple):
  accuracy: NDArray[np.float64]
  uar: NDArray[np.float64]
  uf1: NDArray[np.float64]
  precision: NDArray[np.float64]
  recall: NDArray[np.float64]
  f1: NDArray[np.float64]


def _rates(confusion: NDArray[np.integer]) -> _Rates:
  """[..., C, C] counts -> scores [...] and per-class scores [..., C], NaN where 0/0."""
  hits = np.diagonal(confusion, axis1=-2, axis2=-1)
  support, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
  precision, recall = _ratio(hits, predicted), _ratio(hits, support)
  f1 = _ratio(2 * hits, support + predicted)  # 2TP + FP + FN = (TP + FN) + (TP + FP)
  accuracy = _ratio(hits.sum(axis=-1), support.sum(axis=-1))
  return _Rates(accuracy, _mean_defined(recall), _mean_defined(f1), precision, recall, f1)


def _ratio(part: NDArray[np.integer], whole: NDArray[np.integer]) -> NDArray[np.float64]:
  return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
  """Mean over the last axis without NaN; at least one value is defined if N > 0."""
  defined = ~np.isnan(values)
  return np.where(defined, values, 0).sum(axis=-1) / np.maximum(defined.sum(axis=-1), 1)


def _defined(value: np.float64) -> float | None:
  return None if np.isnan(value) else float(value)


def _labels(name: str, values: ArrayLike) -> NDArray[np.int64]:
  array = np.asarray(values)
  if array.ndim != 1 or not (np.issubdtype(array.dtype, np.integer) or array.size == 0):
    raise ValueError(f"{name} must be integer labels [N], got {array.dtype} {array.shape}")
  return array.astype(np.int64)
