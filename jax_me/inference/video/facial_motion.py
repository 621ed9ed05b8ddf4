"""What the parts of a face do, apart from what the head does.

Optical flow from a reference frame a moment ago gives the motion of every part of the face; the
motion of the head as a whole (shift, turn, scale: found robustly from all of the face) is taken
off; the rest is averaged over twelve regions that expressions move. References follow each other
every second and are chained, so that the course has no jumps. Eyelids are no region: blinks are
no expressions.
"""

import cv2
import numpy as np

from jax_me.data.clip_inputs.optical_flow import optical_flow
from jax_me.faces.alignment import FaceChip
from jax_me.inference.video.face_region import Patch

# Side of the faces that are compared, in pixels: the distance between the eyes is about 45.
SIDE = 128
# The flow is averaged over squares of this side.
CELL = 8
REFERENCE_SECONDS = 1.0
# A head that has moved this far, as a share of the face's side, needs a new reference at once.
FAR = 0.1
# Parts that move by more pixels than this against the head tell little about the head.
ROBUST_PIXELS = 0.15
ROBUST_ROUNDS = 4
# Width of a region, as a share of the distance between the eyes.
REGION_WIDTH = 0.16

REGIONS = (
  "left brow", "right brow", "brows", "left of the nose", "right of the nose",
  "left corner of the mouth", "right corner of the mouth", "upper lip", "lower lip", "chin",
  "left cheek", "right cheek",
)  # fmt: skip


class MotionMeter:
  """Measures the parts of one face from frame to frame."""

  def __init__(self) -> None:
    self._reference: _Reference | None = None
    self._so_far = np.zeros((len(REGIONS), 2))

  def update(
    self, patch: Patch, chip: FaceChip, landmarks: np.ndarray, seconds: float
  ) -> np.ndarray:
    """Where the regions are now.

    Args:
      patch: the face's surroundings in this frame.
      chip: the steady cut of the face, of any size.
      landmarks: float [68, 2] in pixels of the frame.
      seconds: time of the frame.

    Returns:
      float [regions, 2]: how far each has gone, right and down, since the first frame, against
      the head; 1 is the distance between the eyes. It drifts slowly: compare with a moment ago.
    """
    reference = self._reference
    far = True
    if reference is not None:
      moved, head = reference.displacement(patch)
      now = self._so_far + moved
      far = head > FAR
    else:
      now = self._so_far
    if reference is None or far or seconds - reference.seconds >= REFERENCE_SECONDS:
      self._so_far = now
      self._reference = _Reference(patch, chip, landmarks, seconds)
    return now.copy()

  def reset(self) -> None:
    """The next frame has nothing to do with the last one (the face was away)."""
    self.__init__()  # type: ignore[misc]


class _Reference:
  """A frame that others are compared with."""

  def __init__(self, patch: Patch, chip: FaceChip, landmarks: np.ndarray, seconds: float):
    self.seconds = seconds
    self._chip = FaceChip(chip.left, chip.top, chip.right, chip.bottom, chip.angle, SIDE)
    self._face = cv2.cvtColor(patch.cut(self._chip), cv2.COLOR_RGB2GRAY)
    matrix = self._chip.matrix()
    points = landmarks @ matrix[:, :2].T + matrix[:, 2]
    eyes = points[36:42].mean(0), points[42:48].mean(0)
    self._eye_distance = max(float(np.linalg.norm(eyes[1] - eyes[0])), 1.0)
    cells = _cell_centres()
    self._inside = _inside(cells, points, self._eye_distance)
    self._weights = _region_weights(cells, points, self._eye_distance)
    # u = a + c x - d y, v = b + d x + c y: shift, scale and turn.
    x, y = ((cells - SIDE / 2) / (SIDE / 2)).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    self._head = np.stack([np.stack([one, zero, x, -y], -1), np.stack([zero, one, y, x], -1)], 1)

  def displacement(self, patch: Patch) -> tuple[np.ndarray, float]:
    """Motion of the regions [R, 2] in eye distances, and the head's shift in face sides."""
    face = cv2.cvtColor(patch.cut(self._chip), cv2.COLOR_RGB2GRAY)
    flow = optical_flow(self._face, face, "auto")
    count = SIDE // CELL
    cells = flow.reshape(count, CELL, count, CELL, 2).mean((1, 3)).reshape(-1, 2).astype(float)
    weights = self._inside
    for _ in range(ROBUST_ROUNDS):
      # Iteratively reweighted least squares with Cauchy's weights.
      design = self._head * np.sqrt(weights)[:, None, None]
      target = cells * np.sqrt(weights)[:, None]
      motion = np.linalg.lstsq(design.reshape(-1, 4), target.ravel(), rcond=None)[0]
      rest = cells - self._head @ motion
      weights = self._inside / (1 + (rest**2).sum(-1) / ROBUST_PIXELS**2)
    return self._weights @ rest / self._eye_distance, float(np.abs(motion).max()) / SIDE


def _cell_centres() -> np.ndarray:
  """float [cells, 2], (x, y) row by row."""
  at = np.arange(SIDE // CELL) * CELL + (CELL - 1) / 2
  y, x = np.meshgrid(at, at, indexing="ij")
  return np.stack([x.ravel(), y.ravel()], -1)


def _inside(cells: np.ndarray, points: np.ndarray, eye_distance: float) -> np.ndarray:
  """1 for the cells on the face, the forehead included, 0 elsewhere."""
  low, high = points.min(0), points.max(0)
  low[1] -= 0.3 * eye_distance
  return ((cells > low) & (cells < high)).all(-1).astype(float)


def _region_weights(cells: np.ndarray, points: np.ndarray, eye_distance: float) -> np.ndarray:
  """float [regions, cells]; each row adds up to 1."""
  brow = np.array([0, -0.05 * eye_distance])
  beside = np.array([0.1 * eye_distance, 0])
  low_brow = np.array([0, 0.05 * eye_distance])
  left, right = points[48], points[54]
  middles = np.stack(
    [
      points[18:21].mean(0) + brow,
      points[23:26].mean(0) + brow,
      points[20:24].mean(0) + brow,
      points[31] - beside - low_brow,
      points[35] + beside - low_brow,
      left,
      right,
      points[50:53].mean(0),
      points[56:59].mean(0),
      (points[57] + points[8]) / 2,
      (points[40:42].mean(0) + left) / 2,
      (points[46:48].mean(0) + right) / 2,
    ]
  )
  squared = ((cells[None] - middles[:, None]) ** 2).sum(-1)
  weights = np.exp(-0.5 * squared / (REGION_WIDTH * eye_distance) ** 2)
  # A region beyond the cut (a face half out of the picture) stands still rather than divides by 0.
  return weights / np.maximum(weights.sum(-1, keepdims=True), 1e-9)
