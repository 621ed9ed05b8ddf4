"""Motion of facial regions relative to the head, by optical flow from reference frames.

Optical flow from a reference frame gives the motion of every part of the face. The motion of the
rigid head is subtracted: a robust fit over the whole face of an affine map and of the parallax of a
head that turns by a few degrees. The residual is averaged over twelve regions that expressions
move. Eyelids are not included: blinks are not expressions.

Reference frames are kept with the pose of the head. A frame is compared with the reference of the
nearest pose, so that values after a turn, an occlusion or an absence are comparable with those
before it. When the head turns further, or the face moves far, a new reference is chained to the
last one. A region is measured where the flow leads forth and back to one point and both points
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
# Degrees of yaw or pitch: yaw up to which motion is measured (pitch has an offset that differs
# between people); distance up to which it is from the pose in which the displacements began, since
# the errors of chained references add up; distance to the reference that a frame is compared with;
# distance from which a new reference is wanted.
MAX_YAW = 25.0
MAX_HOME_TURN = 15.0
MAX_TURN = 10.0
WANTED_TURN = 6.0
# A pose without a reference is given one, with a new origin, after this many seconds.
SETTLE_SECONDS = 0.5
MAX_REFERENCES = 12
# Number of them that are tried in a frame; seconds between two looks back from a chained one.
MAX_TRIED = 2
LOOK_BACK_SECONDS = 0.2
# Change of the chip (fraction of its side, natural logarithm, radians) from which the face is
# cropped anew. Below, all frames are cropped alike: interpolation would add noise.
RECROP = 0.05
# Scale of the robust loss: cells with a larger residual get a low weight in the head motion fit.
ROBUST_PIXELS = 0.15
ROBUST_ROUNDS = 4
# Standard deviation of a region, as a fraction of the distance between the eyes.
REGION_WIDTH = 0.16
# After a break, motion is defined when two frames agree to this many eye distances. An absence of
# this many intervals between frames is a break.
CONFIRMED_MOTION = 0.03
BREAK_INTERVALS = 3.5
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
# A tracking with a smaller share of tracked cells, or with a larger motion in eye distances, is not
# continued: the frame becomes a reference chained to the one before.
GOOD_FACE = 0.9
FAR_MOTION = 0.05

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
    hidden: whether the face of the last frame could not be tracked although its pose allows it:
      something covers it, or it is blurred.
    turn: angle in degrees between the pose of the last frame and that of the first frame of the
      origin; errors of the displacements grow with it.
  """

  def __init__(self) -> None:
    self.origin = 0
    self.hidden = False
    self.turn = 0.0
    # References of different poses, the last one in use first.
    self._references: list[_ReferenceFrame] = []
    # A recent frame of a face that has moved too far from the references to be compared with them.
    self._chained: _ReferenceFrame | None = None
    self._last_look_back = 0.0
    self._origins = 0
    self._undefined_since: float | None = None
    # Time and motion of the last frame that was tracked, and whether motion was defined then.
    self._last: tuple[float, np.ndarray] | None = None
    self._confirmed = False
    self._interval = math.inf
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
    self.hidden = False
    if pose is None or abs(pose.yaw) > MAX_YAW:
      # A new origin needs a pose that can be measured for a while.
      self._undefined_since = self._last = None
      self._confirmed = False
      return undefined
    tracked = self._best_tracking(region, chip, landmarks, pose, seconds)
    if tracked is None:
      return self._without_tracking(region, chip, landmarks, seconds, pose)
    reference, tracking = tracked
    now = reference.displacement + tracking.displacement
    # A region that is lost for a moment can be measured again from the next reference.
    filled = reference.displacement + tracking.filled
    unsure = reference.unsure | ~np.isfinite(tracking.displacement).all(-1)
    if unsure.sum() > len(REGIONS) - MIN_REGIONS:
      # Tracked from frame to frame, but what happened before is unknown: a hand came or went.
      return self._without_tracking(region, chip, landmarks, seconds, pose)
    self._undefined_since = None
    self.origin, self.turn = reference.origin, reference.home.turn(pose)
    lids = reference.lids + tracking.lids
    if not self._is_confirmed(now, seconds):
      return undefined
    if tracking.is_far or reference.turn(pose) > WANTED_TURN:
      new = reference.followed_by(region, chip, landmarks, pose, filled, lids)
      new.unsure = unsure
      if tracking.is_far or reference is self._chained:
        self._chained = new
      else:
        self._references.insert(0, new)
        del self._references[MAX_REFERENCES:]
    if self._blinks(lids, seconds):
      now[_BROWS] = np.nan
    return now

  def _best_tracking(
    self,
    region: FaceRegion,
    chip: FaceChip,
    landmarks: np.ndarray,
    pose: HeadPose,
    seconds: float,
  ) -> "tuple[_ReferenceFrame, _Tracking] | None":
    """The tracking from the reference that shows the face most alike."""
    near = [reference for reference in self._references if reference.can_show(pose)]
    # References within a few degrees are equally near: the last one in use remains in use.
    near.sort(key=lambda reference: max(0.0, reference.turn(pose) - WANTED_TURN))
    near = near[:MAX_TRIED]
    chained = self._chained
    if chained is not None and chained.can_show(pose):
      # Chained displacements drift; the references are used again as soon as possible.
      look_back = seconds - self._last_look_back >= LOOK_BACK_SECONDS
      near = [*near[:1], chained, *near[1:]] if look_back else [chained, *near]
      self._last_look_back = seconds if look_back else self._last_look_back
    best = None
    for reference in near:
      tracking = reference.track(region, chip, landmarks)
      if tracking is not None and (best is None or tracking.share > best[1].share):
        best = reference, tracking
        if not tracking.is_far:
          break
    if best is not None and best[0] is not chained:
      if not best[1].is_far:
        self._chained = None
      # The reference in use is the first to be tried next, and the last to be dropped.
      self._references.remove(best[0])
      self._references.insert(0, best[0])
    return best

  def _is_confirmed(self, now: np.ndarray, seconds: float) -> bool:
    """Whether the motion follows defined motion, or agrees with that of the frame before."""
    last, self._last = self._last, (seconds, now)
    if last is None:
      return False
    change = np.linalg.norm(now - last[1], axis=-1)
    agrees = bool(np.nanmax(change, initial=0.0) <= CONFIRMED_MOTION)
    step = seconds - last[0]
    self._interval = min(self._interval, step)
    self._confirmed = (self._confirmed and step <= BREAK_INTERVALS * self._interval) or agrees
    return self._confirmed

  def _without_tracking(
    self,
    region: FaceRegion,
    chip: FaceChip,
    landmarks: np.ndarray,
    seconds: float,
    pose: HeadPose,
  ) -> np.ndarray:
    """Undefined motion; after a while, a new origin."""
    self._last, self._confirmed = None, False
    if self._undefined_since is None:
      self._undefined_since = seconds
    if self._references and seconds - self._undefined_since < SETTLE_SECONDS:
      self.hidden = any(reference.can_show(pose) for reference in self._references)
      return np.full((len(REGIONS), 2), np.nan)
    self._start_origin(region, chip, landmarks, pose)
    self._last, self._confirmed = (seconds, np.zeros((len(REGIONS), 2))), True
    return np.zeros((len(REGIONS), 2))

  def _start_origin(
    self, region: FaceRegion, chip: FaceChip, landmarks: np.ndarray, pose: HeadPose
  ) -> None:
    self.origin = self._origins
    self._origins += 1
    self._undefined_since = self._chained = None
    self.turn = 0.0
    self._lids.clear()
    zero = np.zeros((len(REGIONS), 2))
    self._references.insert(
      0, _ReferenceFrame(region, chip, landmarks, pose, zero, 0.0, self.origin)
    )
    del self._references[MAX_REFERENCES:]

  def _blinks(self, lids: float, seconds: float) -> bool:
    """Whether the upper lids are lower than they were most of the time just before."""
    while self._lids and seconds - self._lids[0][0] > BLINK_SECONDS:
      self._lids.popleft()
    usual = float(np.median([height for _, height in self._lids])) if self._lids else lids
    self._lids.append((seconds, lids))
    return lids - usual > BLINK


@dataclasses.dataclass(frozen=True)
class _Tracking:
  """Motion from a reference frame.

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
    self.home: _ReferenceFrame = self
    # Regions whose displacement was not measured without a break.
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
  ) -> "_ReferenceFrame":
    """A later frame as a reference of the same origin; the arguments are those of the class."""
    new = _ReferenceFrame(region, chip, landmarks, pose, displacement, lids, self.origin)
    new.home = self.home
    return new

  def track(self, region: FaceRegion, chip: FaceChip, landmarks: np.ndarray) -> _Tracking | None:
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
    matrix = self._chip.matrix()
    middles = _region_middles(landmarks @ matrix[:, :2].T + matrix[:, 2], self._eye_distance)
    by_landmarks = middles - self._middles - self._middle_motions @ motion
    filled = np.where(np.isfinite(displacement), displacement, by_landmarks / self._eye_distance)
    lids = float(self._upper_lids @ residual[:, 1] / self._eye_distance)
    return _Tracking(displacement, filled, lids, share)


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
