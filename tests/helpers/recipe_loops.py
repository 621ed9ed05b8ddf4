"""Recorded training loops of the originals, and the weights and batches that they were given.

Weights are drawn from `numpy.random.default_rng([SEED, index of the key])`, batches from
`[SEED, stream, number]`; `tests/golden/recipes/record.py` gives them to the originals.
"""

import functools
import json
import pathlib

import numpy as np

RECORD = pathlib.Path(__file__).resolve().parents[1] / "golden" / "recipe_schedules.json"
SEED = 19
IMAGES, LABELS, NOISE = 10**6, 10**6 + 1, 10**6 + 2


@functools.cache
def recorded_loops() -> dict[str, dict]:
  """{recipe: record} of the file that tests/golden/README.md describes."""
  return json.loads(RECORD.read_text())


def loop_weight(key: str, shape: tuple[int, ...], index: int) -> np.ndarray:
  """Float64 array in torch layout that keeps the variance of activations.

  Args:
    key: of the state dictionary; "kernel" is a sparse convolution [k * k, ..., out].
    shape: of the array.
    index: number of the key in the state dictionary.
  """
  value = np.random.default_rng([SEED, index]).standard_normal(shape)
  if key.endswith("kernel"):
    return value / np.prod(shape[:-1]) ** 0.5
  if key.endswith("weight"):
    return value / np.prod(shape[1:]) ** 0.5 if len(shape) > 1 else 1 + 0.1 * value
  return 0.1 * value


def loop_weights(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
  """{key: array} of a whole state dictionary, see `loop_weight`."""
  return {
    key: loop_weight(key, tuple(shape), index) for index, (key, shape) in enumerate(shapes.items())
  }


def loop_images(number: int, count: int, side: int) -> np.ndarray:
  """Normalised images [count, 3, side, side] of a batch of an epoch."""
  return np.random.default_rng([SEED, IMAGES, number]).standard_normal((count, 3, side, side))


def loop_labels(number: int, count: int, classes: int) -> np.ndarray:
  """Labels [count] of a batch of an epoch."""
  return np.random.default_rng([SEED, LABELS, number]).integers(0, classes, count)


def loop_noise(number: int, shape: tuple[int, int]) -> np.ndarray:
  """Mask noise [images, patches] of a batch, counted over all epochs."""
  return np.random.default_rng([SEED, NOISE, number]).random(shape)
