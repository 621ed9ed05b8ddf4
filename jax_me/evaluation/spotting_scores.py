"""Interval F1 score for expression spotting in long videos (rule of the MEGC spotting tasks).

A detected interval W is correct when its overlap with a true interval G satisfies

  IoU = |W and G| / |W or G| >= 0.5,

counted in frames, both ends included; a true interval can be matched once. Over all videos, TP are
the correct detections, FP the other detections, FN the true intervals without a match, and
F1 = 2 TP / (2 TP + FP + FN) (He et al., "Spotting macro- and micro-expression intervals in long
video sequences", FG 2020; used by MEGC 2020 to 2022).
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

MIN_IOU = 0.5

Interval = tuple[int, int]  # First and last frame.


@dataclasses.dataclass(frozen=True)
class SpottingScore:
  """Interval counts summed over videos: TP, FP and FN."""

  true_positives: int
  false_positives: int
  false_negatives: int

  @property
  def f1(self) -> float:
    """2 TP / (2 TP + FP + FN); 0 where there are neither detections nor true intervals."""
    twice = 2 * self.true_positives
    return _ratio(twice, twice + self.false_positives + self.false_negatives)

  @property
  def precision(self) -> float:
    return _ratio(self.true_positives, self.true_positives + self.false_positives)

  @property
  def recall(self) -> float:
    return _ratio(self.true_positives, self.true_positives + self.false_negatives)


def interval_iou(one: Interval, other: Interval) -> float:
  """Intersection over union of two intervals of frames, both ends included."""
  inside = min(one[1], other[1]) - max(one[0], other[0]) + 1
  if inside <= 0:
    return 0.0
  return inside / (one[1] - one[0] + other[1] - other[0] + 2 - inside)


def match_intervals(
  found: Sequence[Interval], true: Sequence[Interval], min_iou: float = MIN_IOU
) -> list[tuple[int, int]]:
  """Matches detected to true intervals one to one, greedily by descending IoU.

  Args:
    found: detected intervals of one video.
    true: true intervals of the same video.
    min_iou: smallest IoU of a match, in (0, 1].

  Returns:
    (index in found, index in true) of each match.

  Raises:
    ValueError: an interval ends before it begins, or `min_iou` is out of range.
  """
  if not 0 < min_iou <= 1:
    raise ValueError(f"the minimum overlap must be in (0, 1], got {min_iou}")
  for first, last in (*found, *true):
    if last < first:
      raise ValueError(f"an interval must not end before it begins, got {first} to {last}")
  pairs = sorted(
    (
      (interval_iou(one, other), i, j)
      for i, one in enumerate(found)
      for j, other in enumerate(true)
      if interval_iou(one, other) >= min_iou
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
  min_iou: float = MIN_IOU,
) -> SpottingScore:
  """Sums TP, FP and FN over all videos.

  Args:
    found: video name -> detected intervals; a missing video has none.
    true: video name -> true intervals; a missing video has none.
    min_iou: smallest IoU of a correct detection, in (0, 1].

  Returns:
    The counts, with F1, precision and recall as properties.
  """
  matched = detected = existing = 0
  for video in sorted({*found, *true}):
    ours, theirs = list(found.get(video, ())), list(true.get(video, ()))
    matched += len(match_intervals(ours, theirs, min_iou))
    detected += len(ours)
    existing += len(theirs)
  return SpottingScore(matched, detected - matched, existing - matched)


def _ratio(part: int, whole: int) -> float:
  return part / whole if whole else 0.0
