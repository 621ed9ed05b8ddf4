"""Intervals of a cue: hysteresis thresholds for motion and for scores, and the neutral position."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from jax_me.faces.head_pose import HeadPose

# Time constant of the noise estimate of the neutral face.
NOISE_SECONDS = 2.0
# Fraction of the peak at which an apex is reached, and above which frames of the rise contribute to
# the label, for this many seconds.
APEX = 0.95
NEAR_APEX = 0.7
RISE_SECONDS = 0.5
# An expression by motion may have begun this long before it exceeded the high threshold.
HISTORY_SECONDS = 1.0

# Positions of the neutral face that are kept, at these intervals.
SAMPLES, SAMPLE_SECONDS = 6, 2.0


@dataclasses.dataclass(frozen=True)
class FrameCues:
  """Motion and scores of one person in one frame.

  Attributes:
    frame: index of the frame.
    seconds: time of the frame.
    motion: float [regions, 2] of `FacialMotionEstimator`, NaN where undefined; None if motion is
      not measured at all.
    scores: float [classes]; None without a model.
    origin: origin of the motion, of `FacialMotionEstimator`.
    hidden: whether the face is covered or blurred, so that the scores mean nothing.
    pose: pose of the head; None if unknown.
  """

  frame: int
  seconds: float
  motion: np.ndarray | None
  scores: np.ndarray | None
  origin: int = 0
  hidden: bool = False
  pose: HeadPose | None = None


@dataclasses.dataclass(frozen=True)
class Interval:
  """An interval above the hysteresis thresholds.

  Attributes:
    first, apex, last: its first, highest and last frame.
    frames: number of frames.
    scores: float [classes], mean scores of the frames that give the label; None without a model.
    height: height of the cue at the apex.
    threshold: the high threshold that was exceeded.
  """

  first: FrameCues
  apex: FrameCues
  last: FrameCues
  frames: int
  scores: np.ndarray | None
  height: float
  threshold: float


class MotionSegmenter:
  """Hysteresis thresholding of the motion; the low threshold is a fraction of the peak.

  Args:
    share: that fraction.
    longest: a longer interval is a new pose; seconds.
  """

  def __init__(self, share: float, longest: float):
    self._share, self._longest = share, longest
    self._history: collections.deque[tuple[FrameCues, float]] = collections.deque()
    self._open: list[tuple[FrameCues, float]] = []
    self._threshold = 0.0
    self._peak = 0.0
    self.discarded = False

  @property
  def is_open(self) -> bool:
    return bool(self._open)

  @property
  def low_threshold(self) -> float:
    """Height below which the open interval ends."""
    return self._share * self._peak

  def push(self, cues: FrameCues, height: float, high: float) -> Interval | None:
    """Adds the next frame; sets `discarded` if an interval exceeded the maximum duration.

    Args:
      cues: the frame.
      height: its motion in eye distances.
      high: threshold that starts an interval.

    Returns:
      the interval that ends before the frame, or None.
    """
    self.discarded = False
    if not self._open:
      self._history.append((cues, height))
      while cues.seconds - self._history[0][0].seconds > HISTORY_SECONDS:
        self._history.popleft()
      if height >= high:
        self._threshold, self._peak = high, height
        while self._history and self._history[-1][1] >= self._share * high:
          self._open.append(self._history.pop())
        self._open.reverse()
      return None
    self._peak = max(self._peak, height)
    if height < self.low_threshold:
      interval = self.close()
      self._history.append((cues, height))
      return interval
    self._open.append((cues, height))
    if cues.seconds - self._open[0][0].seconds > self._longest:
      self._open.clear()
      self.discarded = True
    return None

  def close(self) -> Interval | None:
    """Ends the open interval; None if there is none."""
    frames, self._open = self._open, []
    self._history.clear()
    if not frames:
      return None
    height = self._peak
    low = self._share * height
    first = next(index for index, (_, one) in enumerate(frames) if one >= low)
    # A held expression has its apex where it is reached first.
    apex = next(index for index, (_, one) in enumerate(frames) if one >= APEX * height)
    # Only the rise is used: to a motion model, the fall is the expression in reverse.
    rise = [cues for cues, one in frames[first : apex + 1] if one >= NEAR_APEX * height]
    scores = [
      cues.scores
      for cues in rise
      if cues.scores is not None and cues.seconds - rise[0].seconds <= RISE_SECONDS
    ]
    return Interval(
      frames[first][0],
      frames[apex][0],
      frames[-1][0],
      len(frames) - first,
      np.mean(scores, axis=0) if scores else None,
      height,
      self._threshold,
    )


class ScoreSegmenter:
  """Hysteresis thresholding of scores, of intervals of any length.

  Args:
    high: threshold that an interval must exceed.
    low: threshold at which it begins and ends.
  """

  def __init__(self, high: float, low: float):
    self._high, self._low = high, low
    self._open: Interval | None = None
    self._above = 0

  def push(self, cues: FrameCues, height: float) -> Interval | None:
    """Adds the next frame; returns the interval that ends before it."""
    assert cues.scores is not None
    if height < self._low:
      return self.close()
    now = self._open or Interval(cues, cues, cues, 0, 0 * cues.scores, 0.0, self._high)
    assert now.scores is not None
    mean = now.scores
    if height >= self._high:
      self._above += 1
      mean = mean + (cues.scores - mean) / self._above
    higher = height > now.height
    self._open = dataclasses.replace(
      now,
      apex=cues if higher else now.apex,
      last=cues,
      frames=now.frames + 1,
      scores=mean,
      height=height if higher else now.height,
    )
    return None

  def close(self) -> Interval | None:
    """Ends the open interval; None if there is none above the high threshold."""
    interval, self._open, self._above = self._open, None, 0
    return interval if interval is not None and interval.height >= self._high else None


class NeutralBaseline:
  """Position of the facial regions between expressions: just now, and over a longer time.

  Args:
    rest_seconds: window of the median that gives the position just now.
    lag_seconds: the most recent frames are excluded from it: an expression may have begun.
  """

  def __init__(self, rest_seconds: float, lag_seconds: float):
    self._rest_seconds, self._lag_seconds = rest_seconds, lag_seconds
    self._positions: collections.deque[tuple[float, np.ndarray]] = collections.deque()
    self._poses: collections.deque[HeadPose] = collections.deque()
    self._samples: collections.deque[tuple[float, np.ndarray]] = collections.deque(maxlen=SAMPLES)

  @property
  def is_ready(self) -> bool:
    """Whether the position is based on enough frames."""
    if not self._positions:
      return False
    return self._positions[-1][0] - self._positions[0][0] >= 2 * self._lag_seconds

  def displacements(self, motion: np.ndarray) -> np.ndarray:
    """Displacement of each region from the nearer neutral position.

    Args:
      motion: float [regions, 2], NaN where undefined.

    Returns:
      float [regions, 2], NaN where undefined; 0 without a baseline.
    """
    if not self._positions:
      return 0 * motion
    newest = self._positions[-1][0] - self._lag_seconds
    positions = [position for seconds, position in self._positions if seconds <= newest]
    neutral = [positions or [self._positions[0][1]]]
    # Speech or a turn may have moved the position of just now.
    neutral += [[position for _, position in self._samples]] if self._samples else []
    return min((motion - _median(some) for some in neutral), key=_largest_motion)

  def turn(self, pose: HeadPose | None) -> float:
    """Angle in degrees from the poses of the window, the larger of yaw and pitch; 0 if unknown."""
    if pose is None or not self._poses:
      return 0.0
    turns = [max(abs(pose.yaw - p.yaw), abs(pose.pitch - p.pitch)) for p in self._poses]
    # Nearly the largest: the position follows a turn only when the window has passed it.
    return float(np.quantile(turns, 0.9))

  def update(self, cues: FrameCues, *, quiet: bool) -> None:
    """Adds a frame of the neutral face, whose motion is measured.

    Args:
      cues: the frame.
      quiet: whether the face is at rest for certain.
    """
    assert cues.motion is not None
    self._positions.append((cues.seconds, cues.motion))
    if cues.pose is not None:
      self._poses.append(cues.pose)
    oldest = cues.seconds - self._rest_seconds - self._lag_seconds
    while self._positions[0][0] < oldest:
      self._positions.popleft()
    while len(self._poses) > len(self._positions):
      self._poses.popleft()
    if quiet and (not self._samples or cues.seconds - self._samples[-1][0] >= SAMPLE_SECONDS):
      self._samples.append((cues.seconds, cues.motion))

  def clear(self) -> None:
    """Forgets the position."""
    self._positions.clear()
    self._poses.clear()
    self._samples.clear()


def _largest_motion(displacements: np.ndarray) -> float:
  distances = np.linalg.norm(displacements, axis=-1)
  return float(np.sum(distances[leading_regions(distances)]))


def leading_regions(distances: np.ndarray) -> np.ndarray:
  """Indices of the two regions that moved most, of distances [regions], NaN where undefined."""
  return np.argsort(-np.nan_to_num(distances, nan=-1.0))[:2]


class NeutralNoise:
  """Mean distance of the neutral face from its position: a cumulative mean, then a moving one."""

  def __init__(self) -> None:
    self.value = 0.0
    self.total_seconds = 0.0
    self._last: float | None = None

  def update(self, distance: float, seconds: float, longest_step: float) -> None:
    """Adds a frame of the neutral face.

    Args:
      distance: distance from the neutral position.
      seconds: time of the frame.
      longest_step: largest weight in seconds; the time of a gap does not count.
    """
    if self._last is not None:
      step = min(seconds - self._last, longest_step)
      self.total_seconds += step
      weight = step / max(1e-9, min(self.total_seconds, NOISE_SECONDS))
      self.value += weight * (distance - self.value)
    self._last = seconds


def _median(positions: Sequence[np.ndarray]) -> np.ndarray:
  """Median of the defined values; NaN where there are none."""
  stacked = np.stack(positions)
  if np.isfinite(stacked).all():
    return np.median(stacked, axis=0)
  masked = np.ma.median(np.ma.masked_invalid(stacked), axis=0)
  return np.ma.filled(masked.astype(float), np.nan)
