"""McNemar's test of two classifiers on the same examples, and Holm's correction of p values."""

from __future__ import annotations

import math
from collections.abc import Sequence

EXACT_BELOW = 25  # Discordant examples below which the binomial distribution is used.


def mcnemar_test(only_first: int, only_second: int) -> float:
  """Two-sided p value of McNemar's test (Psychometrika 12, 1947).

  Under the hypothesis that both classifiers are right equally often, each of the examples that only
  one of them predicts correctly is as likely to be of the one as of the other. Fewer than
  `EXACT_BELOW` of them are tested with the binomial distribution, more by the chi-squared
  distribution with continuity correction (Edwards, Psychometrika 13, 1948).

  Args:
    only_first: number of examples that only the first classifier predicts correctly.
    only_second: number of examples that only the second one predicts correctly.

  Returns:
    p in [0, 1]; 1 without such examples.

  Raises:
    ValueError: a negative number.
  """
  if only_first < 0 or only_second < 0:
    raise ValueError(f"numbers of examples must be 0 or more, got {only_first}, {only_second}")
  total, fewer = only_first + only_second, min(only_first, only_second)
  if total < EXACT_BELOW:
    return min(1.0, 2 * sum(math.comb(total, k) for k in range(fewer + 1)) / 2**total)
  statistic = max(abs(only_first - only_second) - 1, 0) ** 2 / total
  return math.erfc(math.sqrt(statistic / 2))  # Upper tail of chi-squared with 1 degree of freedom.


def holm_correction(p_values: Sequence[float]) -> list[float]:
  """Adjusts p values of several tests (Holm, Scandinavian Journal of Statistics 6, 1979)."""
  adjusted, largest = [0.0] * len(p_values), 0.0
  for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
    largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
    adjusted[index] = largest
  return adjusted
