"""Motion of facial regions relative to the head, by optical flow.

Optical flow from a reference frame up to a second ago gives the motion of every part of the face.
The rigid motion of the head (shift, rotation, scale; a robust fit over the whole face) is
subtracted, and the residual is averaged over twelve regions that expressions move. The reference
is replaced every second and the displacements are chained, so that the time series has no jumps.
Eyelids are not included: blinks are not expressions.
"""

import dataclasses

import cv2
import numpy as np

from jax_me.data.clip_inputs.optical_flow import optical_flow
from jax_me.faces.alignment import FaceChip
from jax_me.inference.video.face_region import FaceRegion

# Side of the face crops in pixels; the distance between the eyes is about 45.
CROP_SIZE = 128
# The flow is averaged over square cells of this side.
CELL = 8
REFERENCE_SECONDS = 1.0
# A head motion beyond this fraction of the face side requires a new reference.
MAX_HEAD_MOTION = 0.1
# Scale of the robust loss: cells with a larger residual get a low weight in the head motion fit.
ROBUST_PIXELS = 0.15
ROBUST_ROUNDS = 4
# Standard deviation of a region, as a fraction of the distance between the eyes.
REGION_WIDTH = 0.16

REGIONS = (
  "left brow", "right brow", "brows", "left of the nose", "right of the nose",
  "left corner of the mouth", "right corner of the mouth", "upper lip", "lower lip", "chin",
  "left cheek", "right cheek",
)  # fmt: skip


class FacialMotionEstimator:
  """Estimates the motion of the regions of one face from frame to frame."""

  def __init__(self) -> None:
    self._reference: _ReferenceFrame | None = None
    self._accumulated = np.zeros((len(REGIONS), 2))

  def update(
    self, region: FaceRegion, chip: FaceChip, landmarks: np.ndarray, seconds: float
  ) -> np.ndarray:
    """Displacement of the regions in the next frame.

    Args:
      region: image region around the face in this frame.
      chip: smoothed face chip, of any size.
      landmarks: float [68, 2] in pixels of the frame.
      seconds: time of the frame.

    Returns:
      float [regions, 2]: displacement (right, down) since the first frame, relative to the head,
      in units of the distance between the eyes. It drifts slowly; compare with recent values only.
    """
    reference = self._reference
    head_moved = True
    if reference is not None:
      displacement, head_motion = reference.displacement(region)
      now = self._accumulated + displacement
      head_moved = head_motion > MAX_HEAD_MOTION
    else:
      now = self._accumulated
    if reference is None or head_moved or seconds - reference.seconds >= REFERENCE_SECONDS:
      self._accumulated = now
      self._reference = _ReferenceFrame(region, chip, landmarks, seconds)
    return now.copy()


class _ReferenceFrame:
  """A frame that later frames are compared with."""

  def __init__(self, region: FaceRegion, chip: FaceChip, landmarks: np.ndarray, seconds: float):
    self.seconds = seconds
    self._chip = dataclasses.replace(chip, size=CROP_SIZE)
    self._face = cv2.cvtColor(region.crop(self._chip), cv2.COLOR_RGB2GRAY)
    matrix = self._chip.matrix()
    points = landmarks @ matrix[:, :2].T + matrix[:, 2]
    eyes = points[36:42].mean(0), points[42:48].mean(0)
    self._eye_distance = max(float(np.linalg.norm(eyes[1] - eyes[0])), 1.0)
    cells = _cell_centres()
    self._face_mask = _face_mask(cells, points, self._eye_distance)
    self._weights = _region_weights(cells, points, self._eye_distance)
    # Similarity transform: u = a + c x - d y, v = b + d x + c y.
    x, y = ((cells - CROP_SIZE / 2) / (CROP_SIZE / 2)).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    self._head = np.stack([np.stack([one, zero, x, -y], -1), np.stack([zero, one, y, x], -1)], 1)

  def displacement(self, region: FaceRegion) -> tuple[np.ndarray, float]:
    """Displacement of the regions [R, 2] in eye distances, and head motion in face sides."""
    face = cv2.cvtColor(region.crop(self._chip), cv2.COLOR_RGB2GRAY)
    flow = optical_flow(self._face, face, "auto")
    count = CROP_SIZE // CELL
    cells = flow.reshape(count, CELL, count, CELL, 2).mean((1, 3)).reshape(-1, 2).astype(float)
    weights = self._face_mask
    for _ in range(ROBUST_ROUNDS):
      # Iteratively reweighted least squares with Cauchy weights.
      design = self._head * np.sqrt(weights)[:, None, None]
      target = cells * np.sqrt(weights)[:, None]
      motion = np.linalg.lstsq(design.reshape(-1, 4), target.ravel(), rcond=None)[0]
      residual = cells - self._head @ motion
      weights = self._face_mask / (1 + (residual**2).sum(-1) / ROBUST_PIXELS**2)
    return self._weights @ residual / self._eye_distance, float(np.abs(motion).max()) / CROP_SIZE


def _cell_centres() -> np.ndarray:
  """float [cells, 2], (x, y) in row order."""
  centres = np.arange(CROP_SIZE // CELL) * CELL + (CELL - 1) / 2
  y, x = np.meshgrid(centres, centres, indexing="ij")
  return np.stack([x.ravel(), y.ravel()], -1)


def _face_mask(cells: np.ndarray, points: np.ndarray, eye_distance: float) -> np.ndarray:
  """1 for cells on the face including the forehead, 0 elsewhere."""
  low, high = points.min(0), points.max(0)
  low[1] -= 0.3 * eye_distance
  return ((cells > low) & (cells < high)).all(-1).astype(float)


def _region_weights(cells: np.ndarray, points: np.ndarray, eye_distance: float) -> np.ndarray:
  """float [regions, cells]; each row sums to 1."""
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
  # Regions outside the crop (the face is partly outside the image) get zero motion, not NaN.
  return weights / np.maximum(weights.sum(-1, keepdims=True), 1e-9)
