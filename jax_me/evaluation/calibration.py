"""Calibration of a classifier: expected calibration error (ECE) and reliability diagram bins.

Guo et al., "On calibration of modern neural networks" (ICML 2017, arXiv:1706.04599): the confidence
of a prediction is its probability. Predictions are sorted into M bins of equal width by confidence:

  ECE = sum over bins of (n_b / N) * |accuracy_b - mean confidence_b|
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 15
# Rows of softmax outputs sum to 1; tables from other programs may be rounded to few digits.
SUM_TOLERANCE = 0.02


class CalibrationBin(TypedDict):
  """One bin of the reliability diagram; `confidence` and `accuracy` are None in an empty bin."""

  low: float
  high: float
  examples: int
  confidence: float | None
  accuracy: float | None


class Calibration(TypedDict):
  """Calibration of N predictions, with the keys of `scores.json`.

  `by_chance` is the mean ECE of a perfectly calibrated model with the same confidences, None
  without resampling. `confidence` and `accuracy` are means over all predictions.
  """

  ece: float
  by_chance: float | None
  confidence: float
  accuracy: float
  bins: list[CalibrationBin]


def are_probabilities(scores: ArrayLike) -> bool:
  """Whether all [N, C] scores lie in [0, 1] and each row sums to 1 within `SUM_TOLERANCE`."""
  values = np.asarray(scores, np.float64)
  if values.ndim != 2 or not ((values >= 0) & (values <= 1)).all():
    return False
  return bool((np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE).all())


def expected_calibration_error(
  confidence: ArrayLike, correct: ArrayLike, *, bins: int = BINS, repeats: int = 200, seed: int = 0
) -> Calibration:
  """Computes the ECE, its value expected by chance, and the bins.

  With few examples per bin, the accuracy of a bin deviates from its confidence by chance, so the
  ECE of a perfectly calibrated model is above 0 too. `by_chance` estimates that value: the mean
  ECE of simulated predictions that have the same confidences and are right with exactly these
  probabilities (consistency resampling: Broecker & Smith, "Increasing the reliability of
  reliability diagrams", 2007).

  Args:
    confidence: [N] probability of the predicted class, in [0, 1].
    correct: [N] bool, whether the prediction was right.
    bins: number M of bins; bin m holds confidences in ((m - 1) / M, m / M], bin 1 also holds 0.
    repeats: number of simulations for `by_chance`; 0 skips them.
    seed: random seed of the simulations.

  Returns:
    ECE, mean confidence, accuracy and bins.

  Raises:
    ValueError: the lengths differ, the arrays are empty, or a confidence is outside [0, 1].
  """
  probability, right = np.asarray(confidence, np.float64), np.asarray(correct)
  if (
    probability.ndim != 1
    or not len(probability)
    or right.shape != probability.shape
    or right.dtype != bool
  ):
    raise ValueError(
      f"calibration needs confidence [N] and correct, bool [N], with N > 0; got "
      f"{probability.shape} and {right.dtype} {right.shape}"
    )
  if not ((probability >= 0) & (probability <= 1)).all() or bins < 1:
    raise ValueError(f"calibration needs probabilities in [0, 1] and bins >= 1, got {bins=}")
  edges = np.arange(1, bins + 1) / bins
  bin_of = np.minimum(np.searchsorted(edges, probability, side="left"), bins - 1)
  examples = np.bincount(bin_of, minlength=bins)
  expected = np.bincount(bin_of, probability, minlength=bins)
  observed = np.bincount(bin_of, right, minlength=bins)

  generator = np.random.default_rng(seed)
  simulated = [
    _absolute_error(
      expected,
      np.bincount(bin_of, generator.random(len(probability)) < probability, minlength=bins),
    )
    for _ in range(repeats)
  ]
  return {
    "ece": _absolute_error(expected, observed) / len(probability),
    "by_chance": float(np.mean(simulated)) / len(probability) if simulated else None,
    "confidence": float(probability.mean()),
    "accuracy": float(right.mean()),
    "bins": [
      {
        "low": b / bins,
        "high": (b + 1) / bins,
        "examples": int(examples[b]),
        "confidence": float(expected[b] / examples[b]) if examples[b] else None,
        "accuracy": float(observed[b] / examples[b]) if examples[b] else None,
      }
      for b in range(bins)
    ],
  }


def _absolute_error(expected: NDArray[np.number], observed: NDArray[np.number]) -> float:
  # n_b / N * |accuracy_b - confidence_b| = |observed_b - expected_b| / N, with sums over a bin.
  return float(np.abs(observed - expected).sum())
