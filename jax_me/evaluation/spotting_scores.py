"""How well expressions were found in long videos: the rule of the MEGC spotting tasks.

A found interval W is right when it meets a true interval G with

  |W and G| / |W or G| >= 0.5,

both counted in frames, ends included; a true interval can be found once. Over all videos together,
TP are the found intervals that are right, FP those that are not, FN the true ones that nobody
found, and F1 = 2 TP / (2 TP + FP + FN) (He et al., "Spotting macro- and micro-expression intervals
in long video sequences", FG 2020; used by MEGC 2020 to 2022).
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

OVERLAP = 0.5

Interval = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class SpottingScore:
  """Counts over videos.

  Attributes:
    right: found intervals that meet a true one (TP).
    wrong: found intervals that meet none (FP).
    missed: true intervals that were not found (FN).
  """

  right: int
  wrong: int
  missed: int

  @property
  def f1(self) -> float:
    """2 TP / (2 TP + FP + FN); 0 where nothing was found and nothing was there."""
    return _ratio(2 * self.right, 2 * self.right + self.wrong + self.missed)

  @property
  def precision(self) -> float:
    return _ratio(self.right, self.right + self.wrong)

  @property
  def recall(self) -> float:
    return _ratio(self.right, self.right + self.missed)


def overlap(one: Interval, other: Interval) -> float:
  """Intersection over union of two intervals of frames, ends included."""
  inside = min(one[1], other[1]) - max(one[0], other[0]) + 1
  if inside <= 0:
    return 0.0
  return inside / (one[1] - one[0] + other[1] - other[0] + 2 - inside)


def match_intervals(
  found: Sequence[Interval], true: Sequence[Interval], least: float = OVERLAP
) -> list[tuple[int, int]]:
  """Which found interval is which true one.

  Pairs are made in the order of their overlap, so that no interval is taken twice; with `least`
  at 0.5 or above each can meet hardly more than one anyway.

  Args:
    found, true: (first, last) frame of the intervals of one video.
    least: overlap that a pair must have, in (0, 1].

  Returns:
    (place in found, place in true) of each pair.

  Raises:
    ValueError: an interval that ends before it begins, `least` out of range.
  """
  if not 0 < least <= 1:
    raise ValueError(f"the least overlap must be in (0, 1], got {least}")
  for first, last in (*found, *true):
    if last < first:
      raise ValueError(f"an interval must not end before it begins, got {first} to {last}")
  pairs = sorted(
    (
      (overlap(one, other), i, j)
      for i, one in enumerate(found)
      for j, other in enumerate(true)
      if overlap(one, other) >= least
    ),
    key=lambda pair: (-pair[0], pair[1], pair[2]),
  )
  matched: list[tuple[int, int]] = []
  for _, i, j in pairs:
    if all(i != a and j != b for a, b in matched):
      matched.append((i, j))
  return matched


def score_spotting(
  found: Mapping[str, Iterable[Interval]],
  true: Mapping[str, Iterable[Interval]],
  least: float = OVERLAP,
) -> SpottingScore:
  """Pools the counts of all videos.

  Args:
    found, true: name of the video -> intervals (first, last frame). A video that is missing in
      one of them has none there.
    least: overlap that counts as right.
  """
  right = wrong = missed = 0
  for video in sorted({*found, *true}):
    here, there = list(found.get(video, ())), list(true.get(video, ()))
    pairs = len(match_intervals(here, there, least))
    right, wrong, missed = right + pairs, wrong + len(here) - pairs, missed + len(there) - pairs
  return SpottingScore(right, wrong, missed)


def _ratio(part: int, whole: int) -> float:
  return part / whole if whole else 0.0
