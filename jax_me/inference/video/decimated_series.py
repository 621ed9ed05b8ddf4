"""The course of a video, thinned as it grows, so that hours take no more memory than minutes."""

import dataclasses

import cv2
import numpy as np

MOST_POINTS = 2048
MOST_FACES = 128
FACE_SIDE = 112


@dataclasses.dataclass(frozen=True)
class Points:
  """A course as arrays of equal length, in order of time.

  Attributes:
    seconds: float [N], the beginnings of the intervals.
    scores: float [N, classes], means; NaN where there are none.
    motion: float [N], maxima; NaN where there is none.
  """

  seconds: np.ndarray
  scores: np.ndarray
  motion: np.ndarray


class Course:
  """Scores and motion of one person: every frame first, means of 2, 4, 8, ... frames later.

  Args:
    classes: number of scores.
    every: only every k-th frame is looked at.
  """

  def __init__(self, classes: int, every: int = 1):
    self._classes = classes
    self._every = every
    self._stride = 1
    self._points: list[np.ndarray] = []
    self._bin: list[np.ndarray] = []
    self._bin_end = -1
    self._faces: list[tuple[float, np.ndarray]] = []
    self._face_step = 0.0

  def __len__(self) -> int:
    """How many frames there are of the person, roughly once there are many."""
    return len(self._points) * self._stride + len(self._bin)

  def add(
    self,
    number: int,
    seconds: float,
    scores: np.ndarray | None,
    motion: float | None,
    face: np.ndarray | None,
  ) -> None:
    """Adds a frame of the person.

    Args:
      number, seconds: of the frame.
      scores: float [classes].
      motion: distance from rest.
      face: uint8 [S, S, 3] RGB.
    """
    missing = np.full(self._classes, np.nan) if scores is None else scores
    height = np.nan if motion is None else motion
    point = np.concatenate([[number // self._every, seconds, height], missing])
    if self._bin and point[0] // self._stride != self._bin[0][0] // self._stride:
      self._close_bin()
    self._bin.append(point)
    if len(self._points) >= MOST_POINTS:
      self._thin()
    if face is not None and (not self._faces or seconds - self._faces[-1][0] >= self._face_step):
      small = cv2.resize(face, (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_AREA)
      self._faces.append((seconds, small))
      if len(self._faces) > MOST_FACES:
        self._faces = self._faces[::2]
        self._face_step = self._faces[1][0] - self._faces[0][0]

  def points(self) -> Points:
    """What there is so far."""
    rows = [*self._points, *([_merged(self._bin)] if self._bin else [])]
    table = np.stack(rows) if rows else np.zeros((0, 3 + self._classes))
    # A bin that is missing is a stretch without the person: the line is to break there.
    places = table[:, 0] // self._stride
    breaks = np.flatnonzero(np.diff(places) > 2) + 1
    gaps = np.full((len(breaks), table.shape[1]), np.nan)
    gaps[:, 1] = (table[breaks - 1, 1] + table[breaks, 1]) / 2
    table = np.insert(table, breaks, gaps, axis=0)
    return Points(table[:, 1], table[:, 3:], table[:, 2])

  def faces(self, count: int, seconds: float) -> list[tuple[float, np.ndarray]]:
    """At most so many faces, spread over the length of the video and never close together.

    Args:
      count: how many.
      seconds: length of the video.

    Returns:
      (time, uint8 [112, 112, 3] RGB) in order of time.
    """
    step = seconds / max(count, 1)
    chosen: dict[int, tuple[float, np.ndarray]] = {}
    for at, face in self._faces:
      place = min(int(at / step) if step else 0, count - 1)
      middle = (place + 0.5) * step
      if place not in chosen or abs(at - middle) < abs(chosen[place][0] - middle):
        chosen[place] = (at, face)
    spread: list[tuple[float, np.ndarray]] = []
    for place in sorted(chosen):
      if not spread or chosen[place][0] - spread[-1][0] > 0.9 * step:
        spread.append(chosen[place])
    return spread

  def _close_bin(self) -> None:
    self._points.append(_merged(self._bin))
    self._bin = []

  def _thin(self) -> None:
    self._stride *= 2
    pairs: dict[int, list[np.ndarray]] = {}
    for point in self._points:
      pairs.setdefault(int(point[0]) // self._stride, []).append(point)
    self._points = [_merged(pair) for pair in pairs.values()]


def _merged(points: list[np.ndarray]) -> np.ndarray:
  """One point for several: the first one's place, the highest motion, the mean scores."""
  table = np.stack(points)
  merged = table[0].copy()
  if not np.isnan(table[:, 2]).all():
    merged[2] = np.nanmax(table[:, 2])
  known = table[~np.isnan(table[:, 3:]).any(1)]
  if len(known):
    merged[3:] = known[:, 3:].mean(0)
  return merged
