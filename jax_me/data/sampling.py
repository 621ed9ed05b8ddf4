"""In which order training sees the examples: endless, reshuffled every epoch, random access.

An order maps a position in the endless stream to an example, as a pure function of the seed. So
a training run can be resumed anywhere, with another number of processes or workers, and still
sees what it would have seen.
"""

from collections.abc import Sequence

import numpy as np

# A batch reaches into two epochs, and another batch may be prepared beside it.
KEPT_EPOCHS = 3


class ShuffledSampler:
  """Every epoch is another permutation of the examples: each is seen exactly once in it.

  Attributes:
    indices: int64 [N] the examples.
    seed: start of all permutations; epoch e uses the generator seeded with (seed, e).
  """

  state_name = "ShuffledOrder"

  def __init__(self, indices: Sequence[int] | np.ndarray, seed: int):
    self.indices = checked_indices(indices)
    self.seed = checked_seed(seed)
    self._recent: dict[int, np.ndarray] = {}

  def __len__(self) -> int:
    """Examples in an epoch."""
    return len(self.indices)

  def epoch(self, epoch: int) -> np.ndarray:
    """int64 [N] examples of an epoch in the order in which they are seen."""
    known = self._recent.get(epoch)
    if known is None:
      known = np.random.default_rng([self.seed, epoch]).permutation(self.indices)
      kept = list(self._recent.items())[1 - KEPT_EPOCHS :]
      # A new dict instead of a change: several threads prepare batches.
      self._recent = {**dict(kept), epoch: known}
    return known

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

  Class c takes every C-th place of the stream (in an order reshuffled with every round of C
  places) and goes through its own examples in permutations, so that the examples of a rare class
  come several times an epoch, each equally often.
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
      self._classes[chosen].at(turn, 1)[0]
      for turn in rounds
      for chosen in np.random.default_rng([self.seed, turn, 1]).permutation(round_length)
    ]
    return np.array(drawn[skipped : skipped + count], np.int64)


def checked_indices(indices: Sequence[int] | np.ndarray) -> np.ndarray:
  """int64 copy of a non-empty list of different, non-negative example indices; else ValueError."""
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
    raise ValueError(f"indices must be different, but {values[counts > 1][0]} stands twice")
  return array


def checked_seed(seed: int) -> int:
  """The seed, if it is a non-negative integer; else ValueError."""
  if not isinstance(seed, int | np.integer) or seed < 0:
    raise ValueError(f"seed must be a non-negative integer, got {seed!r}")
  return int(seed)
