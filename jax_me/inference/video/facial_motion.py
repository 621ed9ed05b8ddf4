"""Motion of facial regions relative to the head, by optical flow from reference frames.

Optical flow from a reference frame gives the motion of every part of the face. The motion of the
rigid head is subtracted: a robust fit over the whole face of an affine map and of the parallax of a
head that turns by a few degrees. The residual is averaged over twelve regions that expressions
move. Eyelids are not included: blinks are not expressions.

Reference frames are kept with the pose of the head. A frame is compared with the reference of the
nearest pose, so that values after a turn, an occlusion or an absence are comparable with those
before it. When the head turns further, or the face changes its look, a new reference is chained to
the last one. A region is measured where the flow leads forth and back to one point and both points
look alike; elsewhere, and where the head is turned too far, the motion is undefined (NaN).
"""

import collections
import dataclasses
import math

import cv2
import numpy as np

from jax_me.data.clip_inputs.optical_flow import optical_flow
from jax_me.faces.alignment import FaceChip
from jax_me.faces.head_pose import HeadPose
from jax_me.inference.video.face_region import FaceRegion

# Side of the face crops in pixels; the distance between the eyes is about 45.
CROP_SIZE = 128
# The flow is averaged over square cells of this side.
CELL = 8
# No part of a face moves further than this, in eye distances: larger values are tracking errors.
MAX_MOTION = 0.4
# Degrees: yaw up to which motion is measured; distance in yaw and pitch to a reference that it is
# compared with; distance from which a new reference is wanted. Pitch differs between people by its
# offset, so it has no limit of its own.
MAX_YAW = 25.0
MAX_TURN = 10.0
WANTED_TURN = 6.0
# A pose without a reference is given one, with a new origin, after this many seconds.
SETTLE_SECONDS = 0.5
MAX_REFERENCES = 12
# Change of the chip (fraction of its side, natural logarithm, radians) from which the face is
# cropped anew. Below, all frames are cropped alike: interpolation would add noise.
RECROP = 0.05
# Scale of the robust loss: cells with a larger residual get a low weight in the head motion fit.
ROBUST_PIXELS = 0.15
ROBUST_ROUNDS = 4
# Standard deviation of a region, as a fraction of the distance between the eyes.
REGION_WIDTH = 0.16
# Half the height of the area of an eye and its lids, which is left out.
EYE_HEIGHT = 0.18
# A cell is tracked if forward and backward flow agree to this many pixels and the normalised
# correlation over LOOK_WINDOW pixels is at least MIN_LOOK. Grey values have this noise.
MAX_RETURN_PIXELS = 1.5
MIN_LOOK = 0.35
LOOK_WINDOW = 15
GREY_NOISE = 5.0
# Weighted share of tracked cells from which a region is measured; number of regions (of twelve)
# and share of the face below which nothing is: a hand hides at least the mouth.
MIN_REGION = 0.6
MIN_REGIONS = 8
MIN_FACE = 0.6
# A blink pulls at the brows. They are not measured where the upper lids are lower than the median
# of this many seconds by this much, in eye distances.
BLINK_SECONDS = 0.5
BLINK = 0.012
# Share of tracked cells below which another reference is tried, or a new one chained.
GOOD_FACE = 0.8

REGIONS = (
  "left brow", "right brow", "brows", "left of the nose", "right of the nose",
  "left corner of the mouth", "right corner of the mouth", "upper lip", "lower lip", "chin",
  "left cheek", "right cheek",
)  # fmt: skip
_BROWS = [0, 1, 2]


class FacialMotionEstimator:
  """Estimates the motion of the regions of one face from frame to frame.

  Attributes:
    origin: number of the origin of the displacements. It increases where the connection to earlier
      frames was lost; displacements with different origins cannot be compared.
  """

  def __init__(self) -> None:
    self.origin = 0
    self._references: list[_ReferenceFrame] = []
    self._origins = 0
    self._undefined_since: float | None = None
    self._lids: collections.deque[tuple[float, float]] = collections.deque()

  def update(
    self,
    region: FaceRegion,
    chip: FaceChip,
    landmarks: np.ndarray,
    seconds: float,
    pose: HeadPose | None = None,
  ) -> np.ndarray:
    """Displacement of the regions in the next frame.

    Args:
      region: image region around the face in this frame.
      chip: smoothed face chip, of any size.
      landmarks: float [68, 2] in pixels of the frame.
      seconds: time of the frame.
      pose: pose of the head; computed from the landmarks if None.

    Returns:
      float [regions, 2]: displacement (right, down) since the first frame of this origin, relative
      to the head, in units of the distance between the eyes; NaN where it is undefined.
    """
    pose = pose or HeadPose.of_landmarks(landmarks)
    undefined = np.full((len(REGIONS), 2), np.nan)
    if pose is None or abs(pose.yaw) > MAX_YAW:
      self._undefined_since = seconds  # A new origin needs a pose that can be measured for a while.
      return undefined
    tracked = self._best_tracking(region, chip, pose)
    if tracked is None:
      return self._new_origin(region, chip, landmarks, seconds, pose)
    self._undefined_since = None
    reference, tracking = tracked
    now = reference.displacement + tracking.displacement
    self.origin = reference.origin
    # The reference in use is the first to be tried next, and the last to be dropped.
    self._references.remove(reference)
    self._references.insert(0, reference)
    if self._blinks(reference.lids + tracking.lids, seconds):
      now[_BROWS] = np.nan
    complete = np.isfinite(now).all()
    if complete and (tracking.share < GOOD_FACE or reference.turn(pose) > WANTED_TURN):
      lids = reference.lids + tracking.lids
      self._add(_ReferenceFrame(region, chip, landmarks, pose, now, lids, reference.origin))
    return now

  def _blinks(self, lids: float, seconds: float) -> bool:
    """Whether the upper lids are lower than they were most of the time just before."""
    while self._lids and seconds - self._lids[0][0] > BLINK_SECONDS:
      self._lids.popleft()
    usual = float(np.median([height for _, height in self._lids])) if self._lids else lids
    self._lids.append((seconds, lids))
    return lids - usual > BLINK

  def _best_tracking(
    self, region: FaceRegion, chip: FaceChip, pose: HeadPose
  ) -> "tuple[_ReferenceFrame, _Tracking] | None":
    """The tracking from the nearest reference, or from another one if the face looks different."""
    near = [reference for reference in self._references if reference.turn(pose) <= MAX_TURN]
    # References within a few degrees are equally near: the last one in use remains in use.
    near.sort(key=lambda reference: max(0.0, reference.turn(pose) - WANTED_TURN))
    best = None
    for reference in near[:3]:
      tracking = reference.track(region, chip)
      if tracking is not None and (best is None or tracking.share > best[1].share):
        best = reference, tracking
      if best is not None and best[1].share >= GOOD_FACE:
        break
    return best

  def _new_origin(
    self,
    region: FaceRegion,
    chip: FaceChip,
    landmarks: np.ndarray,
    seconds: float,
    pose: HeadPose,
  ) -> np.ndarray:
    """Starts a new origin at once in the first frame, otherwise when the pose has settled."""
    if self._undefined_since is None:
      self._undefined_since = seconds
    if self._references and seconds - self._undefined_since < SETTLE_SECONDS:
      return np.full((len(REGIONS), 2), np.nan)
    now = np.zeros((len(REGIONS), 2))
    self.origin = self._origins
    self._origins += 1
    self._undefined_since = None
    self._lids.clear()
    self._add(_ReferenceFrame(region, chip, landmarks, pose, now, 0.0, self.origin))
    return now

  def _add(self, reference: "_ReferenceFrame") -> None:
    self._references.insert(0, reference)
    del self._references[MAX_REFERENCES:]


@dataclasses.dataclass(frozen=True)
class _Tracking:
  """Motion from a reference frame.

  Attributes:
    displacement: float [regions, 2] in eye distances; NaN where it is undefined.
    lids: downward displacement of the upper eyelids in eye distances.
    share: fraction of the face that is tracked.
  """

  displacement: np.ndarray
  lids: float
  share: float


class _ReferenceFrame:
  """A frame that later frames are compared with."""

  def __init__(
    self,
    region: FaceRegion,
    chip: FaceChip,
    landmarks: np.ndarray,
    pose: HeadPose,
    displacement: np.ndarray,
    lids: float,
    origin: int,
  ):
    self.displacement = displacement
    self.lids = lids
    self.origin = origin
    self._pose = pose
    self._chip = dataclasses.replace(chip, size=CROP_SIZE)
    self._face = cv2.cvtColor(region.crop(self._chip), cv2.COLOR_RGB2GRAY)
    matrix = self._chip.matrix()
    points = landmarks @ matrix[:, :2].T + matrix[:, 2]
    eyes = points[36:42].mean(0), points[42:48].mean(0)
    self._eye_distance = max(float(np.linalg.norm(eyes[1] - eyes[0])), 1.0)
    cells = _cell_centres()
    eyes_area = _eye_cells(cells, points, self._eye_distance)
    self._upper_lids = eyes_area * (cells[:, 1] < points[36:48, 1].mean())
    self._upper_lids /= max(self._upper_lids.sum(), 1.0)
    beside_eyes = 1 - eyes_area
    self._face_mask = _face_mask(cells, points, self._eye_distance) * beside_eyes
    self._weights = _region_weights(cells, points, self._eye_distance, beside_eyes)
    self._head = _head_motions(cells, points, self._eye_distance)

  def turn(self, pose: HeadPose) -> float:
    """Angle in degrees between the poses, the larger of yaw and pitch."""
    return max(abs(self._pose.yaw - pose.yaw), abs(self._pose.pitch - pose.pitch))

  def track(self, region: FaceRegion, chip: FaceChip) -> _Tracking | None:
    """The motion from the reference to a frame; None if the face cannot be tracked."""
    if _chip_change(self._chip, chip) > RECROP:
      self._chip = dataclasses.replace(chip, size=CROP_SIZE)
    face = cv2.cvtColor(region.crop(self._chip), cv2.COLOR_RGB2GRAY)
    flow = optical_flow(self._face, face, "auto")
    tracked = _cell_means(_tracked_pixels(self._face, face, flow)[..., None])[:, 0] > 0.5
    share = float((tracked * self._face_mask).sum() / max(self._face_mask.sum(), 1.0))
    measured = self._weights @ tracked >= MIN_REGION
    if share < MIN_FACE or measured.sum() < MIN_REGIONS:
      return None
    cells = _cell_means(flow)
    mask = self._face_mask * tracked
    weights = mask
    for _ in range(ROBUST_ROUNDS):
      # Iteratively reweighted least squares with Cauchy weights.
      design = self._head * np.sqrt(weights)[:, None, None]
      target = cells * np.sqrt(weights)[:, None]
      motion = np.linalg.lstsq(design.reshape(-1, design.shape[-1]), target.ravel(), rcond=None)[0]
      residual = cells - self._head @ motion
      weights = mask / (1 + (residual**2).sum(-1) / ROBUST_PIXELS**2)
    visible = self._weights * tracked
    visible /= np.maximum(visible.sum(-1, keepdims=True), 1e-9)
    displacement = visible @ residual / self._eye_distance
    possible = np.linalg.norm(displacement, axis=-1) <= MAX_MOTION
    displacement[~(measured & possible)] = np.nan
    if (measured & possible).sum() < MIN_REGIONS:
      return None
    lids = float(self._upper_lids @ residual[:, 1] / self._eye_distance)
    return _Tracking(displacement, lids, share)


def _chip_change(one: FaceChip, other: FaceChip) -> float:
  """Largest of the changes of position (in sides), logarithm of the size, and angle."""
  sides = one.right - one.left, other.right - other.left
  shift = math.hypot(
    one.left + one.right - other.left - other.right, one.top + one.bottom - other.top - other.bottom
  )
  angle = math.remainder(one.angle - other.angle, math.tau)
  return max(shift / 2 / sides[0], abs(math.log(sides[1] / sides[0])), abs(angle))


def _tracked_pixels(before: np.ndarray, after: np.ndarray, flow: np.ndarray) -> np.ndarray:
  """Whether pixels are tracked, float32 [S, S]: flow forth and back agrees, and the look does."""
  # The check is coarse, so the flow back is too: a quarter of the time of the full resolution.
  back = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(after, before, None)
  at = _pixels() + flow
  returned = cv2.remap(back, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
  error = np.linalg.norm(flow + returned, axis=-1)
  moved = cv2.remap(after, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
  one, other = before.astype(np.float32), moved.astype(np.float32)
  window = (LOOK_WINDOW, LOOK_WINDOW)
  mean, other_mean = cv2.blur(one, window), cv2.blur(other, window)
  variance = cv2.blur(one * one, window) - mean**2
  other_variance = cv2.blur(other * other, window) - other_mean**2
  covariance = cv2.blur(one * other, window) - mean * other_mean
  # Plain skin correlates by chance; the noise term makes it count as alike.
  spread = np.sqrt(np.maximum(variance, 0) * np.maximum(other_variance, 0))
  look = (covariance + GREY_NOISE**2) / (spread + GREY_NOISE**2)
  return ((error <= MAX_RETURN_PIXELS) & (look >= MIN_LOOK)).astype(np.float32)


def _pixels() -> np.ndarray:
  """(x, y) of every pixel of a crop: float32 [S, S, 2]."""
  return np.stack(np.meshgrid(*[np.arange(CROP_SIZE, dtype=np.float32)] * 2), -1)


def _cell_means(image: np.ndarray) -> np.ndarray:
  """Means over the cells: [S, S, C] -> float [cells, C]."""
  count = CROP_SIZE // CELL
  means = image.reshape(count, CELL, count, CELL, -1).mean((1, 3))
  return means.reshape(count * count, -1).astype(float)


def _cell_centres() -> np.ndarray:
  """float [cells, 2], (x, y) in row order."""
  centres = np.arange(CROP_SIZE // CELL) * CELL + (CELL - 1) / 2
  y, x = np.meshgrid(centres, centres, indexing="ij")
  return np.stack([x.ravel(), y.ravel()], -1)


def _head_motions(cells: np.ndarray, points: np.ndarray, eye_distance: float) -> np.ndarray:
  """Motion [cells, 2, 8] of a rigid head: affine map, and parallax by yaw and pitch.

  Points near the camera move more when a head turns; the depth is that of a cylinder with a nose.
  """
  x, y = ((cells - CROP_SIZE / 2) / (CROP_SIZE / 2)).T
  u, v = ((cells - points[30]) / eye_distance).T
  across = np.clip((cells[:, 0] - points[27, 0]) / eye_distance, -1, 1)
  depth = 0.4 * np.exp(-0.5 * ((u / 0.3) ** 2 + (v / 0.4) ** 2)) - 0.55 * across**2
  zero = np.zeros_like(x)
  one = np.ones_like(x)
  right = np.stack([one, x, y, zero, zero, zero, depth, zero], -1)
  down = np.stack([zero, zero, zero, one, x, y, zero, depth], -1)
  return np.stack([right, down], 1)


def _face_mask(cells: np.ndarray, points: np.ndarray, eye_distance: float) -> np.ndarray:
  """1 for cells on the face including the forehead, 0 elsewhere."""
  low, high = points.min(0), points.max(0)
  low[1] -= 0.3 * eye_distance
  return ((cells > low) & (cells < high)).all(-1).astype(float)


def _eye_cells(cells: np.ndarray, points: np.ndarray, eye_distance: float) -> np.ndarray:
  """1 for cells on the eyes and their lids, which blinks and glances move, 0 elsewhere."""
  inside = np.zeros(len(cells))
  for eye in (points[36:42], points[42:48]):
    half = np.array([np.ptp(eye[:, 0]) / 2, EYE_HEIGHT * eye_distance])
    inside += (np.abs(cells - (eye.min(0) + eye.max(0)) / 2) < half).all(-1)
  return np.minimum(inside, 1)


def _region_weights(
  cells: np.ndarray, points: np.ndarray, eye_distance: float, allowed: np.ndarray
) -> np.ndarray:
  """float [regions, cells], 0 outside the allowed cells; each row sums to 1."""
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
  weights = np.exp(-0.5 * squared / (REGION_WIDTH * eye_distance) ** 2) * allowed
  # A region outside the crop (the face is partly outside the image) has no weight: not measured.
  return weights / np.maximum(weights.sum(-1, keepdims=True), 1e-9)
