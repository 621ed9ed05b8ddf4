"""Time series of one person with bounded length: decimated as the video grows."""

import dataclasses

import cv2
import numpy as np

MAX_POINTS = 2048
MAX_FACES = 128
FACE_SIDE = 112


@dataclasses.dataclass(frozen=True)
class SeriesPoints:
  """A time series as arrays of equal length, in order of time.

  Attributes:
    seconds: float [N], start times of the intervals.
    scores: float [N, classes], mean per interval; NaN if missing.
    motion: float [N], maximum per interval; NaN if missing.
  """

  seconds: np.ndarray
  scores: np.ndarray
  motion: np.ndarray


class DecimatedSeries:
  """Scores and motion of one person: one point per frame at first, later per 2, 4, 8, ... frames.

  Args:
    classes: number of scores.
    every: number of frames between two processed frames.
  """

  def __init__(self, classes: int, every: int = 1):
    self._classes = classes
    self._every = every
    self._stride = 1
    self._points: list[np.ndarray] = []
    self._bin: list[np.ndarray] = []
    self._faces: list[tuple[float, np.ndarray]] = []
    self._face_step = 0.0

  def __len__(self) -> int:
    """Number of frames of the person; approximate after decimation."""
    return len(self._points) * self._stride + len(self._bin)

  def add(
    self,
    number: int,
    seconds: float,
    scores: np.ndarray | None,
    motion: float | None,
    face: np.ndarray | None,
  ) -> None:
    """Adds a frame in which the person is visible.

    Args:
      number: index of the frame.
      seconds: time of the frame.
      scores: float [classes].
      motion: distance from the neutral face; see `ExpressionSpotter.push`.
      face: uint8 [S, S, 3] RGB.
    """
    missing = np.full(self._classes, np.nan) if scores is None else scores
    height = np.nan if motion is None else motion
    point = np.concatenate([[number // self._every, seconds, height], missing])
    if self._bin and point[0] // self._stride != self._bin[0][0] // self._stride:
      self._close_bin()
    self._bin.append(point)
    if len(self._points) >= MAX_POINTS:
      self._decimate()
    if face is not None and (not self._faces or seconds - self._faces[-1][0] >= self._face_step):
      small = cv2.resize(face, (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_AREA)
      self._faces.append((seconds, small))
      if len(self._faces) > MAX_FACES:
        self._faces = self._faces[::2]
        self._face_step = self._faces[1][0] - self._faces[0][0]

  def points(self) -> SeriesPoints:
    """The series so far; a NaN point marks each absence of the person."""
    rows = [*self._points, *([_merge_points(self._bin)] if self._bin else [])]
    table = np.stack(rows) if rows else np.zeros((0, 3 + self._classes))
    # A missing bin is an absence: the NaN point breaks the drawn line.
    bins = table[:, 0] // self._stride
    breaks = np.flatnonzero(np.diff(bins) > 2) + 1
    gaps = np.full((len(breaks), table.shape[1]), np.nan)
    gaps[:, 1] = (table[breaks - 1, 1] + table[breaks, 1]) / 2
    table = np.insert(table, breaks, gaps, axis=0)
    return SeriesPoints(table[:, 1], table[:, 3:], table[:, 2])

  def faces(self, count: int, seconds: float) -> list[tuple[float, np.ndarray]]:
    """At most `count` faces, spread over the length of the video without close neighbours.

    Args:
      count: maximum number of faces.
      seconds: length of the video.

    Returns:
      (time, uint8 [112, 112, 3] RGB) in order of time.
    """
    step = seconds / max(count, 1)
    chosen: dict[int, tuple[float, np.ndarray]] = {}
    for time, face in self._faces:
      slot = min(int(time / step) if step else 0, count - 1)
      middle = (slot + 0.5) * step
      if slot not in chosen or abs(time - middle) < abs(chosen[slot][0] - middle):
        chosen[slot] = (time, face)
    spread: list[tuple[float, np.ndarray]] = []
    for slot in sorted(chosen):
      if not spread or chosen[slot][0] - spread[-1][0] > 0.9 * step:
        spread.append(chosen[slot])
    return spread

  def _close_bin(self) -> None:
    self._points.append(_merge_points(self._bin))
    self._bin = []

  def _decimate(self) -> None:
    self._stride *= 2
    pairs: dict[int, list[np.ndarray]] = {}
    for point in self._points:
      pairs.setdefault(int(point[0]) // self._stride, []).append(point)
    self._points = [_merge_points(pair) for pair in pairs.values()]


def _merge_points(points: list[np.ndarray]) -> np.ndarray:
  """Merges points: frame and time of the first one, maximum motion, mean scores."""
  table = np.stack(points)
  merged = table[0].copy()
  if not np.isnan(table[:, 2]).all():
    merged[2] = np.nanmax(table[:, 2])
  valid = table[~np.isnan(table[:, 3:]).any(1)]
  if len(valid):
    merged[3:] = valid[:, 3:].mean(0)
  return merged
