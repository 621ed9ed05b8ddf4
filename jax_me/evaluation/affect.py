"""Predicted valence and arousal with their true values, and their scores: CCC and RMSE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jax_me.evaluation.metrics import percentile_interval
from jax_me.models.model_metadata import AFFECT

# Of a table of predictions: the predicted values, then the true ones.
AFFECT_COLUMNS = (*AFFECT, *(f"truth_{name}" for name in AFFECT))


@dataclass(frozen=True)
class AffectValues:
  """Valence and arousal of N examples, in this order.

  Attributes:
    truth: float32 [N, 2] in [-1, 1]; NaN where unknown.
    prediction: float32 [N, 2].
  """

  truth: NDArray[np.float32]
  prediction: NDArray[np.float32]

  def __post_init__(self) -> None:
    for name in ("truth", "prediction"):
      values = np.asarray(getattr(self, name), np.float32)
      if values.ndim != 2 or values.shape[1] != len(AFFECT):
        raise ValueError(f"{name} of valence and arousal must be [N, 2], got {values.shape}")
      object.__setattr__(self, name, values)
    if len(self.truth) != len(self.prediction):
      raise ValueError("valence and arousal need one prediction per example")

  def __len__(self) -> int:
    return len(self.truth)

  def take(self, rows: Sequence[int] | NDArray[np.int64]) -> AffectValues:
    """The values of some examples."""
    return AffectValues(self.truth[rows], self.prediction[rows])

  def concordance(self) -> dict[str, float]:
    """{"valence": CCC, "arousal": CCC} over the examples whose values are known."""
    known = self.take(np.flatnonzero(~np.isnan(self.truth).any(axis=1)))
    columns = zip(AFFECT, known.truth.T, known.prediction.T, strict=True)
    return {name: concordance(truth, prediction) for name, truth, prediction in columns}


def concatenate_affect(parts: Sequence[AffectValues]) -> AffectValues:
  """The values of several tables, in their order."""
  return AffectValues(
    np.concatenate([part.truth for part in parts]),
    np.concatenate([part.prediction for part in parts]),
  )


class AffectScore(TypedDict):
  """Scores of valence or of arousal, over the examples whose true value is known.

  Attributes:
    ccc: concordance correlation coefficient; None with fewer than two examples.
    ccc_interval: its bootstrap interval, None with fewer than two resampling units.
    rmse: root mean square error, None without examples.
    examples: their number.
  """

  ccc: float | None
  ccc_interval: tuple[float, float] | None
  rmse: float | None
  examples: int


def concordance(truth: ArrayLike, prediction: ArrayLike) -> float:
  """Concordance correlation coefficient (Lin 1989): 2 cov / (var + var + (difference of means)^2).

  It is 1 only for equal values: unlike Pearson's correlation it is lowered by another mean or
  spread. Variances are those of the population. It is 0 where both are constant.
  """
  x, y = np.asarray(truth, np.float64), np.asarray(prediction, np.float64)
  return float(_concordance_of_sums(_sums(x, y).sum(0)))


def affect_scores(
  values: AffectValues,
  units: Sequence[object],
  *,
  repeats: int,
  seed: int,
  level: float,
) -> dict[str, AffectScore]:
  """Scores of valence and of arousal, with bootstrap intervals over subjects.

  Args:
    values: of the examples.
    units: resampling unit of each example, such as its subject.
    repeats: number of bootstrap resamples.
    seed: of the bootstrap.
    level: of the intervals, such as 0.95.

  Returns:
    {"valence": ..., "arousal": ...}.
  """
  scores: dict[str, AffectScore] = {}
  for column, name in enumerate(AFFECT):
    truth, prediction = values.truth[:, column], values.prediction[:, column]
    rows = np.flatnonzero(~np.isnan(truth))
    x, y = truth[rows].astype(np.float64), prediction[rows].astype(np.float64)
    number: dict[object, int] = {}
    unit_of_row = np.array(
      [number.setdefault(units[row], len(number)) for row in rows.tolist()], np.int64
    )
    interval = None
    if len(number) >= 2:
      sums = np.zeros((len(number), 6))
      np.add.at(sums, unit_of_row, _sums(x, y))
      generator = np.random.default_rng(seed)
      # Row by row, as a matrix [repeats, units] of counts may be large.
      even = np.full(len(number), 1 / len(number))
      resampled = [generator.multinomial(len(number), even) @ sums for _ in range(repeats)]
      interval = percentile_interval(_concordance_of_sums(np.array(resampled)), level)
    scores[name] = {
      "ccc": concordance(x, y) if len(rows) >= 2 else None,
      "ccc_interval": interval,
      "rmse": float(np.sqrt(np.mean((x - y) ** 2))) if len(rows) else None,
      "examples": len(rows),
    }
  return scores


def _sums(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
  """[N, 6]: the terms of each example from whose sums the coefficient follows."""
  return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def _concordance_of_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
  """[..., 6] -> [...]."""
  count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
  count = np.maximum(count, 1)
  x, y = x / count, y / count
  spread = (xx / count - x * x) + (yy / count - y * y) + (x - y) ** 2
  covariance = xy / count - x * y
  return np.divide(2 * covariance, spread, out=np.zeros_like(spread), where=spread > 1e-15)
