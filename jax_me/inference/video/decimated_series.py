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
    self._frames = 0
    # First frame and its time, maximum motion, number of scores, and their sum, per interval.
    self._rows: list[np.ndarray] = []
    self._faces: list[tuple[float, np.ndarray]] = []
    self._face_step = 0.0

  def __len__(self) -> int:
    """Number of frames of the person."""
    return self._frames

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
    row = np.zeros(4 + self._classes)
    row[:3] = number // self._every, seconds, np.nan if motion is None else motion
    if scores is not None:
      row[3], row[4:] = 1, scores
    self._append(row)
    self._frames += 1
    if len(self._rows) > MAX_POINTS:
      self._stride *= 2
      rows, self._rows = self._rows, []
      for row in rows:
        self._append(row)
    if face is not None and (not self._faces or seconds - self._faces[-1][0] >= self._face_step):
      small = cv2.resize(face, (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_AREA)
      self._faces.append((seconds, small))
      if len(self._faces) > MAX_FACES:
        self._faces = self._faces[::2]
        self._face_step = self._faces[1][0] - self._faces[0][0]

  def points(self) -> SeriesPoints:
    """The series so far; a NaN point marks each absence of the person."""
    table = np.stack(self._rows) if self._rows else np.zeros((0, 4 + self._classes))
    scores = np.full((len(table), self._classes), np.nan)
    np.divide(table[:, 4:], table[:, 3:4], out=scores, where=table[:, 3:4] > 0)
    seconds, motion = table[:, 1], table[:, 2]
    # A missing interval is an absence: the NaN point breaks the drawn line.
    breaks = np.flatnonzero(np.diff(table[:, 0] // self._stride) > 2) + 1
    middles = (seconds[breaks - 1] + seconds[breaks]) / 2
    return SeriesPoints(
      np.insert(seconds, breaks, middles),
      np.insert(scores, breaks, np.nan, axis=0),
      np.insert(motion, breaks, np.nan),
    )

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

  def _append(self, row: np.ndarray) -> None:
    """Adds a row, to the last one if both are in the same interval."""
    if self._rows and self._rows[-1][0] // self._stride == row[0] // self._stride:
      last = self._rows[-1]
      last[2] = np.fmax(last[2], row[2])
      last[3:] += row[3:]
    else:
      self._rows.append(row)
