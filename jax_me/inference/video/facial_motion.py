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
import math

import numpy as np

from jax_me.faces.alignment import FaceChip
from jax_me.faces.head_pose import HeadPose
from jax_me.inference.video.face_region import FaceRegion
from jax_me.inference.video.reference_frame import (
  CROP_SIZE,
  MAX_MOTION,
  MIN_REGIONS,
  REGIONS,
  ReferenceFrame,
  Tracking,
)

__all__ = ["CROP_SIZE", "MAX_MOTION", "MIN_REGIONS", "REGIONS", "FacialMotionEstimator"]

# Yaw in degrees up to which motion is measured; pitch has an offset that differs between people.
MAX_YAW = 25.0
# Turn from a reference, in degrees, from which a new one is wanted.
WANTED_TURN = 6.0
# A face without a reference is given one, with a new origin, after this many seconds.
SETTLE_SECONDS = 0.5
MAX_REFERENCES = 12
# Number of them that are tried in a frame; seconds between two looks back from a chained one.
MAX_TRIED = 2
LOOK_BACK_SECONDS = 0.2
# After a break, motion is defined when two frames agree to this many eye distances. An absence of
# this many intervals between frames is a break.
CONFIRMED_MOTION = 0.03
BREAK_INTERVALS = 3.5
# Regions that were lost for a moment are measured while two others have moved this far.
EXPRESSION_MOTION = 0.02
# A blink pulls at the brows. They are not measured where the upper lids are lower than the median
# of this many seconds by this much, in eye distances.
BLINK_SECONDS = 0.5
BLINK = 0.012
_BROWS = [REGIONS.index(name) for name in ("left brow", "right brow", "brows")]


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
    self._references: list[ReferenceFrame] = []
    # A recent frame of a face that has moved too far from the references to be compared with them.
    self._chained: ReferenceFrame | None = None
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
    # What was lost for a moment counts only while the rest of the face shows an expression: a hand
    # that covers the mouth is not one.
    moved = np.linalg.norm(now - self._references[0].displacement, axis=-1)
    if np.sum(moved[~unsure] > EXPRESSION_MOTION) < 2:
      now[unsure] = np.nan
    return now

  def _best_tracking(
    self,
    region: FaceRegion,
    chip: FaceChip,
    landmarks: np.ndarray,
    pose: HeadPose,
    seconds: float,
  ) -> "tuple[ReferenceFrame, Tracking] | None":
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
      0, ReferenceFrame(region, chip, landmarks, pose, zero, 0.0, self.origin)
    )
    del self._references[MAX_REFERENCES:]

  def _blinks(self, lids: float, seconds: float) -> bool:
    """Whether the upper lids are lower than they were most of the time just before."""
    while self._lids and seconds - self._lids[0][0] > BLINK_SECONDS:
      self._lids.popleft()
    usual = float(np.median([height for _, height in self._lids])) if self._lids else lids
    self._lids.append((seconds, lids))
    return lids - usual > BLINK
