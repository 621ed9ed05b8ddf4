"""Multi-face tracker for videos, fast enough for a camera.

In every frame, each tracked face is detected in the region around its last position: 2 ms, against
9 to 80 ms for the whole image. The whole image is searched at intervals, for new faces; a new face
is then followed backwards through the frames since the last search. A face
that was lost for a moment is matched by position; a person who returns later is re-identified by
face descriptor (`jax_me.faces.face_descriptor`).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from jax_me.faces import detector, face_descriptor, yunet
from jax_me.faces.alignment import FaceChip
from jax_me.inference.video.smoothing import OneEuroFilter

# Seconds between searches of the whole image, with and without a face in view.
SEARCH_SECONDS = 0.4
SEARCH_SECONDS_EMPTY = 0.1
# Frames after which the image is searched in any case: the caller keeps the frames since then.
MAX_UNSEARCHED_FRAMES = 12
# HOG searches a copy with this longest side, which shows faces from an eighth of the image on.
# Without a face in view searches are frequent, and every other one is at detector.SMALL_SIDE,
# which takes a third of the time and shows faces from a quarter of the image on.
LARGE_SIDE = 640
# Minimum detector score that starts a track at once; a weaker face must be detected in two
# consecutive searches. A tracked face may have a lower score.
NEW_SCORE = 0.25
TRACKED_SCORE = -0.3
# Tracked faces are detected at this many pixels per side (the detector's window is 80), in a
# region of this many face sides; the larger region is used if the smaller one has no face.
TRACKING_SIDE = 90
REGION_SIDES = (1.5, 2.4)
# Detections whose IoU with a track exceeds this belong to that track.
MATCH_IOU = 0.3
# Tracks whose IoU exceeds this follow the same face.
DUPLICATE_IOU = 0.6
# A face lost for up to this long is matched by position: overlap, or a distance of at most one
# face side between the centres.
LOST_SECONDS = 1.0
# At low frame rates, an absence is at least this many intervals between processed frames.
ABSENCE_FRAMES = 2.5
# Weight of the new detection in the box for the landmarks. Detected boxes jump between steps of
# the detector's grid, and landmarks are biased towards their box.
BOX_WEIGHT = 0.2
# Maximum descriptor distance between faces of one person. Lower than dlib's 0.6: a false match
# merges two people, while a missed match only gives a person a second number. Within a minute a
# person is more likely to return than another to appear, and dlib's 0.6 is used: expressions and
# hands change the descriptor by up to that.
SAME_PERSON_DISTANCE = 0.5
RECENT_SECONDS = 60.0
# Ages of a track, in seconds, at which its face is described; maximum number of people kept.
DESCRIBE_AGES = (0.0, 0.5, 3.0, 10.0)
MAX_KNOWN_PEOPLE = 64


# Box, score and roll of a detection.
_Found = tuple[detector.Box, float, float]


@dataclasses.dataclass(frozen=True)
class TrackedFace:
  """A person in a frame.

  Attributes:
    person: number of the person, from 1 in order of first appearance.
    face: box, score and landmarks in pixels of the frame.
    chip: smoothed face chip.
  """

  person: int
  face: detector.Face
  chip: FaceChip


class _FaceTrack:
  """The track of one person."""

  def __init__(self, person: int, face: detector.Face, roll: float, seconds: float):
    self.person = person
    self.face = face
    self.roll = roll
    self.box = np.array(face.box, float)
    self.first_seen = self.last_seen = seconds
    self.descriptors = 0
    self.chip_filter = OneEuroFilter()

  def update(self, image: np.ndarray, found: _Found, seconds: float) -> None:
    """Updates the track with a detection and fits the landmarks."""
    box, score, self.roll = found
    if seconds - self.last_seen > LOST_SECONDS / 4 or _iou(self.box, box) < 0.5:
      self.box = np.array(box, float)
    else:
      self.box += BOX_WEIGHT * (np.array(box) - self.box)
    before = self.face.landmarks
    left, top, right, bottom = (round(side) for side in self.box)
    self.face = _fit_landmarks(image, ((left, top, right, bottom), score, self.roll))
    # Between two detections the box moves with the landmarks.
    shift = (self.face.landmarks - before).mean(0)
    if np.abs(shift).max() < 0.25 * (right - left):
      self.box += (1 - BOX_WEIGHT) * np.tile(shift, 2)
    self.last_seen = seconds

  def detect(self, image: np.ndarray, detectors: str) -> _Found | None:
    """Detects the face near its last position."""
    if "hog" in detectors and abs(self.roll) < yunet.MAX_ROLL:
      for region_sides in REGION_SIDES:
        found = _detect_near(image, self.box, region_sides)
        if found is not None:
          return found
    if "yunet" in detectors:
      left, top, right, bottom = (round(side) for side in self.box)
      place = detector.place_of_box((left, top, right, bottom), self.roll)
      near = yunet.find_near(image, place)
      return None if near is None else _found(near)
    return None


class FaceTracker:
  """Tracks the faces of one video.

  Args:
    size: side of the face chips in pixels.
    recognise: re-identify people who return, by face descriptors (85 ms per new track).
    interval: seconds between two processed frames; matters at low frame rates.
    detectors: one of `detector.DETECTORS`. Of both, HOG comes first near tracked faces.

  Attributes:
    searched: whether the last frame was searched as a whole.
  """

  def __init__(
    self,
    size: int,
    *,
    recognise: bool = True,
    interval: float = 0.0,
    detectors: str = detector.DEFAULT_DETECTOR,
  ):
    detector.check_detector(detectors)
    self.searched = False
    self._detectors = detectors
    self._unsearched = 0
    self._new_tracks: list[_FaceTrack] = []
    self._size = size
    self._recognise = recognise
    self._lost_seconds = max(LOST_SECONDS, ABSENCE_FRAMES * interval)
    self._tracks: list[_FaceTrack] = []
    self._people = 0
    self._known_people: dict[int, list[np.ndarray]] = {}
    self._last_seen: dict[int, float] = {}
    self._last_search = -math.inf
    self._searches = 0
    self._weak_boxes: list[detector.Box] = []

  def update(self, image: np.ndarray, seconds: float) -> list[TrackedFace]:
    """Tracks all faces in the next frame.

    Args:
      image: uint8 [H, W, 3] RGB.
      seconds: time of the frame; must not decrease.

    Returns:
      one `TrackedFace` per visible person, ordered by number.
    """
    detector.check_image(image)
    image = np.ascontiguousarray(image)
    self._tracks = [t for t in self._tracks if seconds - t.last_seen <= self._lost_seconds]
    for track in self._tracks:
      if found := track.detect(image, self._detectors):
        track.update(image, found, seconds)
    self._suppress_overlaps(seconds)
    visible = [track for track in self._tracks if track.last_seen == seconds]
    pause = SEARCH_SECONDS if visible else SEARCH_SECONDS_EMPTY
    # Tolerance of half a frame at 1000 frames per second: rounding errors must not delay a search.
    self._new_tracks = []
    self._unsearched += 1
    self.searched = (
      seconds - self._last_search >= pause - 5e-4 or self._unsearched >= MAX_UNSEARCHED_FRAMES
    )
    if self.searched:
      self._last_search, self._unsearched = seconds, 0
      self._search_new_faces(image, seconds, bool(visible))
    faces = []
    for track in self._tracks:
      if track.last_seen == seconds:
        self._last_seen[track.person] = seconds
        self._describe(image, track, seconds)
        chip = FaceChip.of_face(track.face, self._size)
        faces.append(TrackedFace(track.person, track.face, track.chip_filter.update(chip, seconds)))
    return sorted(faces, key=lambda face: face.person)

  def look_back(self, images: Sequence[np.ndarray]) -> list[list[TrackedFace]]:
    """Follows the faces that the last frame showed for the first time backwards.

    Args:
      images: uint8 [H, W, 3] RGB, the frames before the last one, newest first.

    Returns:
      the new faces in each of these frames.
    """
    earlier: list[list[TrackedFace]] = [[] for _ in images]
    for track in self._new_tracks:
      copy = _FaceTrack(track.person, track.face, track.roll, 0.0)
      for faces, image in zip(earlier, images, strict=True):
        found = copy.detect(np.ascontiguousarray(image), self._detectors)
        if found is None:
          break
        copy.update(np.ascontiguousarray(image), found, 0.0)
        faces.append(TrackedFace(track.person, copy.face, FaceChip.of_face(copy.face, self._size)))
    return earlier

  def _search_new_faces(self, image: np.ndarray, seconds: float, any_visible: bool) -> None:
    """Detects faces in the whole image; resumes lost tracks and starts new ones."""
    weak_before, self._weak_boxes = self._weak_boxes, []
    for found in self._detect_all(image, any_visible):
      box, score, roll = found
      if any(t.last_seen == seconds and _iou(t.box, box) > MATCH_IOU for t in self._tracks):
        continue
      lost = [t for t in self._tracks if t.last_seen < seconds and _is_near(t.box, box)]
      if lost:
        max(lost, key=lambda track: _iou(track.box, box)).update(image, found, seconds)
      elif score < NEW_SCORE and not any(_is_near(box, weak) for weak in weak_before):
        self._weak_boxes.append(box)
      else:
        face = _fit_landmarks(image, found)
        track = _FaceTrack(self._identify(image, face, seconds), face, roll, seconds)
        self._tracks.append(track)
        self._new_tracks.append(track)

  def _detect_all(self, image: np.ndarray, any_visible: bool) -> list[_Found]:
    if self._detectors != "hog":
      faces = [_found(face) for face in yunet.find_faces(image)]
      return sorted(faces, key=lambda found: found[1], reverse=True)
    longest = max(image.shape[:2])
    self._searches += 1
    found = []
    if not any_visible:
      found = detector.find_boxes(image, min(1.0, detector.SMALL_SIDE / longest))
    # A weak score in the small copy may be due to its resolution.
    clear = any(score >= detector.CLEAR_SCORE for _, score in found)
    if not clear and (any_visible or found or self._searches % 2):
      found = detector.find_boxes(image, min(2.0, LARGE_SIDE / longest)) or found
    found = sorted(found, key=lambda detection: detection[1], reverse=True)
    return [(box, score, 0.0) for box, score in found]

  def _identify(self, image: np.ndarray, face: detector.Face, seconds: float) -> int:
    """The number of the person of a new track: an old number if the face is known."""
    if self._recognise:
      tracked = {track.person for track in self._tracks}
      absent = {
        person: descriptors
        for person, descriptors in self._known_people.items()
        if person not in tracked
      }
      if absent:
        descriptor = face_descriptor.describe_face(image, face)
        distances = {
          person: min(float(np.linalg.norm(descriptor - known)) for known in descriptors)
          for person, descriptors in absent.items()
        }
        person = min(distances, key=lambda person: distances[person])
        recent = seconds - self._last_seen[person] <= RECENT_SECONDS
        limit = face_descriptor.SAME_PERSON if recent else SAME_PERSON_DISTANCE
        if distances[person] < limit:
          return person
    self._people += 1
    return self._people

  def _describe(self, image: np.ndarray, track: _FaceTrack, seconds: float) -> None:
    """Stores face descriptors of a track at the ages DESCRIBE_AGES."""
    if not self._recognise or track.descriptors == len(DESCRIBE_AGES):
      return
    if seconds - track.first_seen < DESCRIBE_AGES[track.descriptors]:
      return
    track.descriptors += 1
    descriptors = self._known_people.pop(track.person, [])
    descriptor = face_descriptor.describe_face(image, track.face)
    assert descriptor is not None  # the face is given
    descriptors.append(descriptor)
    # Re-inserted at the end: the first entry is the least recently described person.
    self._known_people[track.person] = descriptors[-2 * len(DESCRIBE_AGES) :]
    while len(self._known_people) > MAX_KNOWN_PEOPLE:
      oldest = next(iter(self._known_people))
      del self._known_people[oldest], self._last_seen[oldest]

  def _suppress_overlaps(self, seconds: float) -> None:
    """Non-maximum suppression of tracks: of two tracks on one face, the older one is kept."""
    kept: list[_FaceTrack] = []
    for track in self._tracks:
      visible = track.last_seen == seconds
      if visible and any(
        t.last_seen == seconds and _iou(t.box, track.box) > DUPLICATE_IOU for t in kept
      ):
        continue
      kept.append(track)
    self._tracks = kept


def _found(face: yunet.YuNetFace) -> _Found:
  return detector.box_of(face), face.score, face.roll


def _fit_landmarks(image: np.ndarray, found: _Found) -> detector.Face:
  box, score, roll = found
  if abs(math.remainder(roll, 2 * math.pi)) < yunet.MAX_ROLL:
    return detector.fit_landmarks(image, box, score)
  place = dataclasses.replace(detector.place_of_box(box, roll), score=score)
  return detector.fit_upright_landmarks(image, place)


def _detect_near(image: np.ndarray, box: np.ndarray, region_sides: float) -> _Found | None:
  """The detection of HOG in the region around a box that overlaps it most."""
  middle, side = (box[:2] + box[2:]) / 2, box[2] - box[0] + 1
  half = region_sides * side / 2
  low = np.maximum(np.floor(middle - half), 0).astype(int)
  high = np.minimum(np.ceil(middle + half), image.shape[1::-1]).astype(int)
  if (high - low).min() < side / 2:
    return None
  region = image[low[1] : high[1], low[0] : high[0]]
  found = detector.find_boxes(region, TRACKING_SIDE / side, TRACKED_SCORE)
  x, y = (int(coordinate) for coordinate in low)
  detections = [
    ((left + x, top + y, right + x, bottom + y), score, 0.0)
    for (left, top, right, bottom), score in found
  ]
  detections = [detection for detection in detections if _is_near(box, detection[0])]
  return max(detections, key=lambda detection: _iou(box, detection[0]), default=None)


def _iou(box: np.ndarray | detector.Box, other: np.ndarray | detector.Box) -> float:
  """Intersection over union of two boxes."""
  a, b = np.asarray(box, float), np.asarray(other, float)
  inside = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + 1, 0, None).prod()
  return float(inside / ((a[2:] - a[:2] + 1).prod() + (b[2:] - b[:2] + 1).prod() - inside))


def _is_near(box: np.ndarray | detector.Box, other: np.ndarray | detector.Box) -> bool:
  """Whether boxes of neighbouring frames may show one face: similar size, close centres."""
  a, b = np.asarray(box, float), np.asarray(other, float)
  sides = a[2] - a[0] + 1, b[2] - b[0] + 1
  distance = float(np.linalg.norm((a[:2] + a[2:] - b[:2] - b[2:]) / 2))
  return max(sides) < 2 * min(sides) and distance <= min(sides)
