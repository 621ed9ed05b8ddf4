"""Sampling order of training examples: endless, reshuffled every epoch, random access.

A sampler maps a position in the endless stream to an example, as a pure function of the seed. A
training run can therefore be resumed at any position, with another number of processes or workers,
and continues with the same examples.
"""

from collections.abc import Sequence

import numpy as np

# A batch may span two epochs while another batch is prepared in parallel.
CACHED_EPOCHS = 3


class ShuffledSampler:
  """Every epoch is a new permutation of the examples, each exactly once.

  Attributes:
    indices: int64 [N] the examples.
    seed: epoch e uses the generator seeded with (seed, e).
    state_name: identifies the sampler in saved data positions; must not change.
  """

  state_name = "ShuffledOrder"

  def __init__(self, indices: Sequence[int] | np.ndarray, seed: int):
    self.indices = validate_indices(indices)
    self.seed = validate_seed(seed)
    self._epochs: dict[int, np.ndarray] = {}

  def __len__(self) -> int:
    """Examples in an epoch."""
    return len(self.indices)

  def epoch(self, epoch: int) -> np.ndarray:
    """int64 [N] examples of an epoch in sampling order."""
    cached = self._epochs.get(epoch)
    if cached is None:
      cached = np.random.default_rng([self.seed, epoch]).permutation(self.indices)
      kept = list(self._epochs.items())[1 - CACHED_EPOCHS :]
      # A new dict instead of an update: several threads prepare batches.
      self._epochs = {**dict(kept), epoch: cached}
    return cached

  def at(self, start: int, count: int) -> np.ndarray:
    """int64 [count] examples at stream positions start, start + 1, ..."""
    pieces = []
    while count > 0:
      epoch, first = divmod(start, len(self))
      piece = self.epoch(epoch)[first : first + count]
      pieces.append(piece)
      start, count = start + len(piece), count - len(piece)
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64)


class BalancedSampler(ShuffledSampler):
  """Every class is drawn equally often; an epoch still has N draws.

  The stream consists of rounds of C positions, one for each of the C classes in random order. Each
  class has its own shuffled stream, so the examples of a rare class are repeated within an epoch,
  each equally often.
  """

  state_name = "BalancedOrder"

  def __init__(
    self, indices: Sequence[int] | np.ndarray, labels: Sequence[int] | np.ndarray, seed: int
  ):
    """Groups the examples by class.

    Args:
      indices: [N] examples.
      labels: [N] class of each of these examples.
      seed: as in ShuffledSampler.

    Raises:
      ValueError: indices and labels differ in length.
    """
    super().__init__(indices, seed)
    labels = np.asarray(labels)
    if labels.shape != self.indices.shape:
      raise ValueError(f"{len(self.indices)} indices but labels of shape {labels.shape}")
    groups = [self.indices[labels == label] for label in np.unique(labels)]
    self._classes = [ShuffledSampler(group, seed + number) for number, group in enumerate(groups)]

  def at(self, start: int, count: int) -> np.ndarray:
    """int64 [count] examples at stream positions start, start + 1, ..."""
    round_length = len(self._classes)
    first, skipped = divmod(start, round_length)
    rounds = range(first, (start + count - 1) // round_length + 1)
    drawn = [
      self._classes[label].at(number, 1)[0]
      for number in rounds
      for label in np.random.default_rng([self.seed, number, 1]).permutation(round_length)
    ]
    return np.array(drawn[skipped : skipped + count], np.int64)


def validate_indices(indices: Sequence[int] | np.ndarray) -> np.ndarray:
  """Returns an int64 copy of non-empty, unique, non-negative example indices.

  Raises:
    ValueError: the indices are invalid.
  """
  array = np.array(indices)
  if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
    raise ValueError(
      f"indices must be a non-empty list of integers, got shape {array.shape} of {array.dtype}"
    )
  array = array.astype(np.int64)
  if array.min() < 0:
    raise ValueError(f"indices must not be negative, got {array.min()}")
  values, counts = np.unique(array, return_counts=True)
  if (counts > 1).any():
    raise ValueError(f"indices must be unique, but {values[counts > 1][0]} occurs more than once")
  return array


def validate_seed(seed: int) -> int:
  """Returns the seed as int.

  Raises:
    ValueError: not a non-negative integer.
  """
  if not isinstance(seed, int | np.integer) or seed < 0:
    raise ValueError(f"seed must be a non-negative integer, got {seed!r}")
  return int(seed)
