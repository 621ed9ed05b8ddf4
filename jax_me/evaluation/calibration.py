"""Whether a model is right as often as its probabilities say.

Guo et al., "On calibration of modern neural networks" (ICML 2017, arXiv:1706.04599): the confidence
of a prediction is its probability; predictions are put into M bins of equal width by it, and

  ECE = sum over bins of (n_b / N) * |accuracy_b - mean confidence_b|
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 15
# Rows of softmax outputs add up to 1; others wrote theirs with few digits.
SUM_TOLERANCE = 0.02


def are_probabilities(scores: ArrayLike) -> bool:
  """Whether [N, C] scores lie in [0, 1] and add up to 1 in each row, give or take 0.02."""
  values = np.asarray(scores, np.float64)
  if values.ndim != 2 or not ((values >= 0) & (values <= 1)).all():
    return False
  return bool((np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE).all())


def calibration(
  confidence: ArrayLike, correct: ArrayLike, *, bins: int = BINS, repeats: int = 200, seed: int = 0
) -> dict[str, Any]:
  """The expected calibration error (ECE) and the bins that it is made of.

  With few examples a bin, the accuracy of a bin strays from its confidence by chance, so ECE is
  above 0 for a perfectly calibrated model too. `by_chance` says how far: the mean ECE of
  predictions with the same confidences that are right exactly as often as those say (consistency
  resampling: Broecker & Smith, "Increasing the reliability of reliability diagrams", 2007).

  Args:
    confidence: [N] probability of the predicted class, in [0, 1].
    correct: [N] bool, whether the prediction was right.
    bins: number M of bins; bin m holds confidences in ((m - 1) / M, m / M], the first 0 as well.
    repeats: draws for `by_chance`.
    seed: of those draws.

  Returns:
    A dict that JSON can hold: `ece`, `by_chance`, mean `confidence`, `accuracy` and `bins`, one
    dict each with `low`, `high`, `examples`, `confidence` and `accuracy` (None where empty).

  Raises:
    ValueError: lengths differ, nothing is given, or a confidence is no probability.
  """
  sure, right = np.asarray(confidence, np.float64), np.asarray(correct)
  if sure.ndim != 1 or not len(sure) or right.shape != sure.shape or right.dtype != bool:
    raise ValueError(
      f"calibration needs confidence [N] and correct, bool [N], with N > 0; got {sure.shape} and "
      f"{right.dtype} {right.shape}"
    )
  if not ((sure >= 0) & (sure <= 1)).all() or bins < 1:
    raise ValueError(f"calibration needs probabilities in [0, 1] and bins >= 1, got {bins=}")
  edges = np.arange(1, bins + 1) / bins
  place = np.minimum(np.searchsorted(edges, sure, side="left"), bins - 1)
  examples = np.bincount(place, minlength=bins)
  total_sure = np.bincount(place, sure, minlength=bins)
  total_right = np.bincount(place, right, minlength=bins)

  generator = np.random.default_rng(seed)
  chance = [
    _error(total_sure, np.bincount(place, generator.random(len(sure)) < sure, minlength=bins))
    for _ in range(repeats)
  ]
  return {
    "ece": _error(total_sure, total_right) / len(sure),
    "by_chance": float(np.mean(chance)) / len(sure) if chance else None,
    "confidence": float(sure.mean()),
    "accuracy": float(right.mean()),
    "bins": [
      {
        "low": b / bins,
        "high": (b + 1) / bins,
        "examples": int(examples[b]),
        "confidence": float(total_sure[b] / examples[b]) if examples[b] else None,
        "accuracy": float(total_right[b] / examples[b]) if examples[b] else None,
      }
      for b in range(bins)
    ],
  }


def _error(total_sure: NDArray[Any], total_right: NDArray[Any]) -> float:
  # n_b / N * |right_b / n_b - sure_b / n_b| = |right_b - sure_b| / N
  return float(np.abs(total_right - total_sure).sum())
