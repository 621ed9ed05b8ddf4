"""Whether arrays can be weights at all."""

from collections.abc import Mapping

import numpy as np


def check_arrays(arrays: Mapping[str, np.ndarray]) -> list[str]:
  """A line for every array that is not floating point, or not finite."""
  problems = []
  for key, array in arrays.items():
    if array.dtype.kind != "f":
      problems.append(f"{key}: {array.dtype} where weights are floating-point numbers")
    elif not np.isfinite(array).all():
      problems.append(f"{key}: {_bad(array)} of {array.size} values are not finite (NaN or inf)")
  return problems


def _bad(array: np.ndarray) -> int:
  return array.size - int(np.isfinite(array).sum())
