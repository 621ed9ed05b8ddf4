"""Expression spotting: onset, apex, offset, label and kind (micro or macro) of expressions.

Two cues are used. The *motion cue* is the displacement of facial regions from their recent
neutral position (`jax_me.inference.video.facial_motion`); it needs no trained model and has exact
times. The *score cue* is the probability that the face is not neutral, from models with a class
"neutral". Each cue is segmented by hysteresis thresholding: an expression starts where the cue
exceeds a high threshold and extends in both directions to where it falls below a low one. If both
cues find the same expression, the times of the motion cue and the label of the score cue are used.

The thresholds of `SpottingSettings` were chosen on synthetic videos (`benchmarks/spotting.py`
reports the scores on others). Expressions of at most half a second are micro-expressions (Yan et
al. 2013; MEGC), measured by frame times.
"""

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from jax_me.data.labels import canonical_label
from jax_me.evaluation.spotting_scores import interval_iou

MICRO_SECONDS = 0.5
MAX_EXTENSION_SECONDS = 0.1
# Time constant of the noise estimate of the neutral face.
NOISE_SECONDS = 2.0
# Frames of the rise above this fraction of the apex height contribute to the label.
NEAR_APEX = 0.7
# Class names of the neutral face.
NEUTRAL_LABELS = ("neutral", "none")


@dataclasses.dataclass(frozen=True)
class SpottingSettings:
  """Thresholds of expression spotting.

  Motion is in units of the distance between the eyes: the mean displacement of the two regions
  that moved most.

  Attributes:
    motion_open: motion that starts an expression.
    motion_noise: lower bound for that threshold, as a multiple of the motion noise of the neutral
      face.
    motion_close: fraction of the peak motion below which an expression ends.
    motion_reach: extension of both ends, as a fraction of their distance to the apex and at most
      MAX_EXTENSION_SECONDS: at a third of its height an expression has already begun.
    score_open, score_close: values of 1 - P(neutral) that start and end an expression.
    rest_seconds: window of the median that gives the neutral position.
    lag_seconds: the most recent frames are excluded from it: an expression may have begun.
    shortest, longest: limits of the duration in seconds. Shorter intervals are flicker; longer
      ones (MEGC: 4 s) are poses.
    gap_seconds: maximum absence of the face within an expression.
  """

  motion_open: float = 0.006
  motion_noise: float = 3.0
  motion_close: float = 0.3
  motion_reach: float = 0.3
  score_open: float = 0.6
  score_close: float = 0.4
  rest_seconds: float = 0.6
  lag_seconds: float = 0.15
  shortest: float = 0.08
  longest: float = 4.0
  gap_seconds: float = 0.25


@dataclasses.dataclass(frozen=True)
class FrameCues:
  """Motion and scores of one person in one frame.

  Attributes:
    frame: index of the frame.
    seconds: time of the frame.
    motion: float [regions, 2] of `FacialMotionEstimator`; None if not measured.
    scores: float [classes]; None without a model.
  """

  frame: int
  seconds: float
  motion: np.ndarray | None
  scores: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class ExpressionEvent:
  """A spotted expression.

  Attributes:
    person: number of the person.
    onset, apex, offset: indices of the first frame, the strongest frame and the last frame.
    onset_seconds, apex_seconds, offset_seconds: their times.
    kind: "micro" or "macro".
    label: the class; None without a model.
    score: mean probability of the class shortly before the apex; None without a model.
    confidence: in [0.5, 1): p / (p + threshold), where p is the height of the cue at the apex.
    evidence: cue that found the expression: "motion", "scores" or "both".
  """

  person: int
  onset: int
  apex: int
  offset: int
  onset_seconds: float
  apex_seconds: float
  offset_seconds: float
  kind: Literal["micro", "macro"]
  label: str | None
  score: float | None
  confidence: float
  evidence: Literal["motion", "scores", "both"]


class ExpressionSpotter:
  """Online spotting of the expressions of one person; keeps only the last few seconds of cues.

  Args:
    person: number of the person, for the events.
    labels: class names in the order of the scores; () without a model.
    settings: thresholds.
  """

  def __init__(
    self,
    person: int,
    labels: Sequence[str] = (),
    settings: SpottingSettings = SpottingSettings(),  # noqa: B008 (frozen)
  ):
    self._person = person
    self._labels = tuple(labels)
    self._settings = settings
    self._neutral_class = neutral_class_index(labels)
    self._baseline = _NeutralBaseline(settings)
    self._motion = _HysteresisSegmenter(0.0, settings.motion_close, settings)
    self._scores = _HysteresisSegmenter(settings.score_close, 0.0, settings)
    self._events: list[ExpressionEvent] = []
    self._first: FrameCues | None = None
    self._last: FrameCues | None = None

  def push(self, cues: FrameCues) -> float | None:
    """Adds the next frame in which the person is visible.

    Returns:
      distance from the neutral position, averaged over the two regions that moved most, in units
      of the distance between the eyes; None if motion is not measured.
    """
    distance = None
    if self._last is not None:
      if cues.seconds - self._last.seconds > self._settings.gap_seconds:
        self._close_intervals()
    self._first = self._first or cues
    self._last = cues
    if cues.motion is not None:
      height = distance = self._baseline.distance(cues.motion)
      high = max(self._settings.motion_open, self._settings.motion_noise * self._baseline.noise)
      if not self._baseline.is_ready:
        high = math.inf
      self._add_event("motion", self._motion.push(cues, height, high))
      if self._motion.discarded:
        self._baseline.reset_position()
      if not self._motion.is_open:
        self._baseline.update(cues.motion, height, cues.seconds)
    if cues.scores is not None and self._neutral_class is not None:
      height = 1 - float(cues.scores[self._neutral_class])
      self._add_event("scores", self._scores.push(cues, height, self._settings.score_open))
    return distance

  def finish(self) -> list[ExpressionEvent]:
    """Ends open intervals and returns all events, ordered by onset."""
    self._close_intervals()
    self._events = merge_cues(self._events)
    return self._events

  def _close_intervals(self) -> None:
    """Ends open intervals and clips all events to the last frame seen."""
    self._add_event("motion", self._motion.close())
    self._add_event("scores", self._scores.close())
    self._baseline.reset_position()
    if self._last is not None:
      frame, seconds = self._last.frame, self._last.seconds
      self._events = [
        dataclasses.replace(
          event,
          offset=min(event.offset, frame),
          offset_seconds=min(event.offset_seconds, seconds),
        )
        for event in self._events
      ]

  def _add_event(self, evidence: Literal["motion", "scores"], interval: "_Interval | None") -> None:
    if interval is None:
      return
    label, score = self._classify(interval)
    reach = self._settings.motion_reach if evidence == "motion" else 0.0
    onset, onset_seconds = self._extended(interval.apex, interval.frames[0], reach)
    offset, offset_seconds = self._extended(interval.apex, interval.frames[-1], reach)
    self._events.append(
      ExpressionEvent(
        person=self._person,
        onset=onset,
        apex=interval.apex.frame,
        offset=offset,
        onset_seconds=onset_seconds,
        apex_seconds=interval.apex.seconds,
        offset_seconds=offset_seconds,
        kind="micro" if offset_seconds - onset_seconds <= MICRO_SECONDS + 1e-6 else "macro",
        label=label,
        score=score,
        confidence=interval.height / (interval.height + interval.threshold),
        evidence=evidence,
      )
    )

  def _extended(self, apex: FrameCues, end: FrameCues, reach: float) -> tuple[int, float]:
    """Frame and time of an end moved away from the apex, not before the first frame."""
    assert self._first is not None
    duration = end.seconds - apex.seconds
    reach = min(reach, MAX_EXTENSION_SECONDS / max(abs(duration), 1e-9))
    frame = end.frame + round(reach * (end.frame - apex.frame))
    seconds = end.seconds + reach * duration
    return max(frame, self._first.frame), max(seconds, self._first.seconds)

  def _classify(self, interval: "_Interval") -> tuple[str | None, float | None]:
    """The class with the highest mean score near the apex, and that score.

    Only the rise is used: to a motion model, the fall is the expression in reverse.
    """
    scores = [cues.scores for cues in interval.near_apex if cues.scores is not None]
    if not scores or not self._labels:
      return None, None
    mean = np.mean(scores, axis=0)
    best = int(mean.argmax())
    return self._labels[best], float(mean[best])


def neutral_class_index(labels: Sequence[str]) -> int | None:
  """Index of the class of the neutral face; None if there is no such class."""
  names = [canonical_label(label) for label in labels]
  return next((names.index(name) for name in NEUTRAL_LABELS if name in names), None)


def merge_cues(events: Sequence[ExpressionEvent]) -> list[ExpressionEvent]:
  """Merges events of the motion cue and the score cue that overlap by at least half (IoU).

  A merged event has the times of the motion cue and the label of the score cue.
  """
  by_motion = [event for event in events if event.evidence != "scores"]
  merged = []
  for event in (event for event in events if event.evidence == "scores"):
    overlaps = [
      (interval_iou((m.onset, m.offset), (event.onset, event.offset)), m) for m in by_motion
    ]
    best, match = max(overlaps, key=lambda overlap: overlap[0], default=(0.0, None))
    if match is None or best < 0.5:
      merged.append(event)
      continue
    by_motion.remove(match)
    confidence = max(event.confidence, match.confidence)
    merged.append(
      dataclasses.replace(
        match, label=event.label, score=event.score, confidence=confidence, evidence="both"
      )
    )
  return sorted([*merged, *by_motion], key=lambda event: (event.onset, event.offset))


@dataclasses.dataclass(frozen=True)
class _Interval:
  """An interval above the hysteresis thresholds.

  Attributes:
    frames: all frames of the interval.
    near_apex: frames of the rise that are at least NEAR_APEX times as high as the apex.
    apex: the highest frame.
    height: height of the cue at the apex.
    threshold: the high threshold that was exceeded.
  """

  frames: Sequence[FrameCues]
  near_apex: Sequence[FrameCues]
  apex: FrameCues
  height: float
  threshold: float


class _HysteresisSegmenter:
  """Hysteresis thresholding of one cue.

  Args:
    floor: low threshold, absolute ...
    share: ... or as a fraction of the peak, whichever is higher.
    settings: limits of the duration.
  """

  def __init__(self, floor: float, share: float, settings: SpottingSettings):
    self._floor, self._share, self._settings = floor, share, settings
    self._history: collections.deque[tuple[FrameCues, float]] = collections.deque()
    self._open: list[tuple[FrameCues, float]] = []
    self._threshold = 0.0
    self.discarded = False

  @property
  def is_open(self) -> bool:
    return bool(self._open)

  def push(self, cues: FrameCues, height: float, high: float) -> _Interval | None:
    """Adds the next frame; returns the interval that ends with it.

    Sets `discarded` if an interval was dropped because it exceeded the maximum duration.
    """
    self.discarded = False
    if not self._open:
      self._history.append((cues, height))
      while cues.seconds - self._history[0][0].seconds > self._settings.longest / 4:
        self._history.popleft()
      if height >= high:
        self._threshold = high
        while self._history and self._history[-1][1] >= self._low_threshold(high):
          self._open.append(self._history.pop())
        self._open.reverse()
      return None
    if height < self._low_threshold(max(height for _, height in self._open)):
      interval = self.close()
      self._history.append((cues, height))
      return interval
    self._open.append((cues, height))
    if cues.seconds - self._open[0][0].seconds > self._settings.longest:
      self._open.clear()
      self.discarded = True
    return None

  def close(self) -> _Interval | None:
    """Ends the open interval; None if there is none or it is too short."""
    frames, self._open = self._open, []
    self._history.clear()
    if not frames:
      return None
    peak = max(range(len(frames)), key=lambda index: frames[index][1])
    # The low threshold of the rise depends on the peak, which was unknown when it was opened.
    first, low = peak, self._low_threshold(frames[peak][1])
    while first and frames[first - 1][1] >= low:
      first -= 1
    near_apex = [
      cues for cues, height in frames[first : peak + 1] if height >= NEAR_APEX * frames[peak][1]
    ]
    inside = [cues for cues, _ in frames[first:]]
    if inside[-1].seconds - inside[0].seconds < self._settings.shortest:
      return None
    return _Interval(inside, near_apex, frames[peak][0], frames[peak][1], self._threshold)

  def _low_threshold(self, peak: float) -> float:
    return max(self._floor, self._share * peak)


class _NeutralBaseline:
  """Position of the facial regions between expressions, and its noise."""

  def __init__(self, settings: SpottingSettings):
    self._settings = settings
    self._positions: collections.deque[tuple[float, np.ndarray]] = collections.deque()
    self._total_seconds = 0.0
    self.noise = 0.0

  @property
  def is_ready(self) -> bool:
    """Whether position and noise are based on enough frames."""
    if self._total_seconds < self._settings.rest_seconds or not self._positions:
      return False
    return self._positions[-1][0] - self._positions[0][0] >= 2 * self._settings.lag_seconds

  def distance(self, motion: np.ndarray) -> float:
    """Mean distance of the two regions that moved most; 0 without a baseline."""
    if not self._positions:
      return 0.0
    newest = self._positions[-1][0] - self._settings.lag_seconds
    positions = [position for seconds, position in self._positions if seconds <= newest]
    positions = positions or [self._positions[0][1]]
    distances = np.linalg.norm(motion - np.median(positions, axis=0), axis=-1)
    return float(np.sort(distances)[-2:].mean())

  def update(self, motion: np.ndarray, distance: float, seconds: float) -> None:
    """Adds a frame of the neutral face."""
    if self._positions:
      step = seconds - self._positions[-1][0]
      self._total_seconds += step
      # Cumulative mean at first, exponential moving average later.
      weight = step / max(1e-9, min(self._total_seconds, NOISE_SECONDS))
      self.noise += weight * (distance - self.noise)
    self._positions.append((seconds, motion))
    oldest = seconds - self._settings.rest_seconds - self._settings.lag_seconds
    while self._positions[0][0] < oldest:
      self._positions.popleft()

  def reset_position(self) -> None:
    """Discards the position but keeps the noise estimate."""
    self._positions.clear()
