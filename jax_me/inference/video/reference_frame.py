"""Reference frame of a face: optical flow to later frames, and whether it can be trusted."""

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
# Distance in pixels of the patches that the flow is computed from. The cells average over more, so
# that a denser grid takes twice the time and spots no more expressions.
FLOW_STRIDE = 6
# No part of a face moves further than this, in eye distances: larger values are tracking errors.
MAX_MOTION = 0.4
# Degrees of yaw or pitch, since the errors grow with a turn: from the frame in which the
# displacements began, and from the reference itself.
MAX_HOME_TURN = 15.0
MAX_TURN = 10.0
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
# A tracking with a smaller share of tracked cells, or with a larger motion in eye distances, is
# far: another reference is wanted.
GOOD_FACE = 0.9
FAR_MOTION = 0.05

REGIONS = (
  "left brow", "right brow", "brows", "left of the nose", "right of the nose",
  "left corner of the mouth", "right corner of the mouth", "upper lip", "lower lip", "chin",
  "left cheek", "right cheek",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tracking:
  """Motion from a reference frame to another frame.

  Attributes:
    displacement: float [regions, 2] in eye distances; NaN where it is undefined.
    filled: the same, with the less exact displacement of the landmarks where it is undefined.
    lids: downward displacement of the upper eyelids in eye distances.
    share: fraction of the face that is tracked.
  """

  displacement: np.ndarray
  filled: np.ndarray
  lids: float
  share: float

  @property
  def is_far(self) -> bool:
    """Whether the face differs so much that a nearer reference is wanted."""
    motion = np.linalg.norm(self.displacement, axis=-1)
    return self.share < GOOD_FACE or not bool((motion <= FAR_MOTION).all())


class ReferenceFrame:
  """A frame that later frames are compared with.

  Args:
    region: image region around the face.
    chip: smoothed face chip, of any size.
    landmarks: float [68, 2] in pixels of the frame.
    pose: pose of the head.
    displacement: float [regions, 2], displacement of the regions since the origin.
    lids: downward displacement of the upper eyelids since the origin.
    origin: number of the origin.

  Attributes:
    home: the first reference of the origin.
    unsure: bool [regions], whether the displacement was not measured without a break.
  """

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
    self.home: ReferenceFrame = self
    self.unsure = np.zeros(len(REGIONS), bool)
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
    self._middles = _region_middles(points, self._eye_distance)
    self._weights = _region_weights(cells, self._middles, self._eye_distance, beside_eyes)
    self._head = _head_motions(cells, points, self._eye_distance)
    self._middle_motions = _head_motions(self._middles, points, self._eye_distance)

  def turn(self, pose: HeadPose) -> float:
    """Angle in degrees between the poses, the larger of yaw and pitch."""
    return max(abs(self._pose.yaw - pose.yaw), abs(self._pose.pitch - pose.pitch))

  def can_show(self, pose: HeadPose) -> bool:
    """Whether a face in this pose can be compared with the reference."""
    return self.turn(pose) <= MAX_TURN and self.home.turn(pose) <= MAX_HOME_TURN

  def followed_by(
    self,
    region: FaceRegion,
    chip: FaceChip,
    landmarks: np.ndarray,
    pose: HeadPose,
    displacement: np.ndarray,
    lids: float,
  ) -> "ReferenceFrame":
    """A later frame as a reference of the same origin.

    Args:
      region, chip, landmarks, pose, displacement, lids: as of the class.

    Returns:
      the reference.
    """
    new = ReferenceFrame(region, chip, landmarks, pose, displacement, lids, self.origin)
    new.home = self.home
    return new

  def track(self, region: FaceRegion, chip: FaceChip, landmarks: np.ndarray) -> Tracking | None:
    """The motion from the reference to a frame; None if the face cannot be tracked.

    Args:
      region: image region around the face in the frame.
      chip: its face chip.
      landmarks: its landmarks, float [68, 2].

    Returns:
      The motion.
    """
    if _chip_change(self._chip, chip) > RECROP:
      self._chip = dataclasses.replace(chip, size=CROP_SIZE)
    face = cv2.cvtColor(region.crop(self._chip), cv2.COLOR_RGB2GRAY)
    flow = optical_flow(self._face, face, "auto", patch_stride=FLOW_STRIDE)
    tracked = _cell_means(_tracked_pixels(self._face, face, flow))[:, 0] > 0.5
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
    matrix = self._chip.matrix()
    middles = _region_middles(landmarks @ matrix[:, :2].T + matrix[:, 2], self._eye_distance)
    by_landmarks = middles - self._middles - self._middle_motions @ motion
    filled = np.where(np.isfinite(displacement), displacement, by_landmarks / self._eye_distance)
    lids = float(self._upper_lids @ residual[:, 1] / self._eye_distance)
    return Tracking(displacement, filled, lids, share)


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
  # The check is coarse, so the flow back is too: a twentieth of the time of the full resolution.
  engine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
  back = np.asarray(engine.calc(after, before, np.zeros_like(flow)), np.float32)
  x, y = cv2.split(_PIXELS + flow)
  returned = cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
  returns = cv2.magnitude(*cv2.split(flow + returned)) <= MAX_RETURN_PIXELS
  moved = cv2.remap(after, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
  one, other = before.astype(np.float32), moved.astype(np.float32)
  window = (LOOK_WINDOW, LOOK_WINDOW)
  mean, other_mean = cv2.blur(one, window), cv2.blur(other, window)
  variance = cv2.blur(one * one, window) - mean**2
  other_variance = cv2.blur(other * other, window) - other_mean**2
  covariance = cv2.blur(one * other, window) - mean * other_mean
  # Plain skin correlates by chance; the noise term makes it count as alike.
  spread = np.sqrt(np.maximum(variance, 0) * np.maximum(other_variance, 0))
  look = (covariance + GREY_NOISE**2) / (spread + GREY_NOISE**2)
  return (returns & (look >= MIN_LOOK)).astype(np.float32)


# (x, y) of every pixel of a crop: float32 [S, S, 2].
_PIXELS = np.stack(np.meshgrid(*[np.arange(CROP_SIZE, dtype=np.float32)] * 2), -1)


def _cell_means(image: np.ndarray) -> np.ndarray:
  """Means over the cells: float32 [S, S] or [S, S, C] -> float [cells, C]."""
  count = CROP_SIZE // CELL
  means = cv2.resize(image, (count, count), interpolation=cv2.INTER_AREA)
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


def _region_middles(points: np.ndarray, eye_distance: float) -> np.ndarray:
  """float [regions, 2], (x, y) of the middles of the regions of a face with these landmarks."""
  brow = np.array([0, -0.05 * eye_distance])
  beside = np.array([0.1 * eye_distance, 0])
  low_brow = np.array([0, 0.05 * eye_distance])
  left, right = points[48], points[54]
  return np.stack(
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


def _region_weights(
  cells: np.ndarray, middles: np.ndarray, eye_distance: float, allowed: np.ndarray
) -> np.ndarray:
  """float [regions, cells], 0 outside the allowed cells; each row sums to 1."""
  squared = ((cells[None] - middles[:, None]) ** 2).sum(-1)
  weights = np.exp(-0.5 * squared / (REGION_WIDTH * eye_distance) ** 2) * allowed
  # A region outside the crop (the face is partly outside the image) has no weight: not measured.
  return weights / np.maximum(weights.sum(-1, keepdims=True), 1e-9)
