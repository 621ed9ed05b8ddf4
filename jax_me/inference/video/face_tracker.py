"""The people of a video: who is where in each frame, at a cost that keeps up with a camera.

A face that is known is looked for in its own surroundings, every frame: 2 ms where the whole
picture takes 9 to 80. The whole picture is looked at now and then, for people who come. Someone
who is lost for a moment is known again by the place; someone who comes back later, by the face
(`jax_me.faces.face_descriptor`).
"""

import dataclasses
import math

import numpy as np

from jax_me.faces import detector, face_descriptor
from jax_me.faces.alignment import FaceChip
from jax_me.inference.video.smoothing import SteadyChip

# Seconds between looks for newcomers, with and without somebody in the picture.
LOOK_SECONDS = 0.4
LOOK_SECONDS_EMPTY = 0.1
# Looks are at a copy of this longest side, which shows faces from an eighth of the picture on.
# While nobody is there, and looks are frequent, every other one is at detector.SMALL_SIDE, which
# takes a third of the time and shows faces from a quarter of the picture on.
LARGE_SIDE = 640
# A face that nobody has seen before has to be this clear, or be found in two looks that follow each
# other; one that is followed may get weaker.
NEW_SCORE = 0.25
FOLLOWED_SCORE = -0.3
# Faces are followed at this many pixels a side (the detector's window is 80), in surroundings of
# so many sides; where they are not found there, in the larger ones.
FOLLOW_SIDE = 90
SURROUNDINGS = (1.5, 2.4)
# Two boxes that overlap more than this show one face.
SAME_PLACE = 0.3
# Someone lost for up to this many seconds is known by the place: overlap, or a distance between
# the middles of at most one face.
PLACE_SECONDS = 1.0
# Share of the detector's new box in the box for the landmarks. Detected boxes jump from step to
# step of the detector's grid, and landmarks lean on their box.
BOX_SHARE = 0.2
# Descriptors closer than this show one person; below dlib's 0.6, for a wrong match joins two
# people, and a missed one only gives somebody a second number.
SAME_FACE = 0.5
# Ages, in seconds, at which somebody's face is described, and the most people that are remembered.
DESCRIBE_AT = (0.0, 0.5)
MOST_REMEMBERED = 64


@dataclasses.dataclass(frozen=True)
class Sighting:
  """A person in a frame.

  Attributes:
    person: number, from 1 in the order of their coming.
    face: box, score and landmarks in pixels of the frame.
    chip: the steady cut of the face.
  """

  person: int
  face: detector.Face
  chip: FaceChip


class _Track:
  """Somebody who is followed, or was a moment ago."""

  def __init__(self, person: int, face: detector.Face, seconds: float):
    self.person = person
    self.face = face
    self.box = np.array(face.box, float)
    self.born = self.seen = seconds
    self.described = 0
    self.steady = SteadyChip()

  def move(self, image: np.ndarray, found: tuple[detector.Box, float], seconds: float) -> None:
    """Takes over a detection, and finds the landmarks."""
    box, score = found
    if seconds - self.seen > PLACE_SECONDS / 4 or _overlap(self.box, box) < 0.5:
      self.box = np.array(box, float)
    else:
      self.box += BOX_SHARE * (np.array(box) - self.box)
    before = self.face.landmarks
    left, top, right, bottom = (round(side) for side in self.box)
    self.face = detector.fit_landmarks(image, (left, top, right, bottom), score)
    # Between two detections the box goes with the landmarks.
    shift = (self.face.landmarks - before).mean(0)
    if np.abs(shift).max() < 0.25 * (right - left):
      self.box += (1 - BOX_SHARE) * np.tile(shift, 2)
    self.seen = seconds

  def look(self, image: np.ndarray) -> tuple[detector.Box, float] | None:
    """The face near where it was."""
    for surroundings in SURROUNDINGS:
      box = _look_near(image, self.box, surroundings)
      if box is not None:
        return box
    return None


class Tracker:
  """Follows the people of one video.

  Args:
    size: side of the cut faces, in pixels.
    recognise: know people who come back by their faces (85 ms for each person who comes).
    interval: seconds between two frames, where they are few.
  """

  def __init__(self, size: int, *, recognise: bool = True, interval: float = 0.0):
    self._size = size
    self._recognise = recognise
    self._place_seconds = max(PLACE_SECONDS, 2.5 * interval)
    self._tracks: list[_Track] = []
    self._people = 0
    self._remembered: dict[int, list[np.ndarray]] = {}
    self._looked = -math.inf
    self._looks = 0
    self._doubtful: list[detector.Box] = []

  def update(self, image: np.ndarray, seconds: float) -> list[Sighting]:
    """The people in the next frame.

    Args:
      image: uint8 [H, W, 3] RGB.
      seconds: its time, not before that of the last frame.

    Returns:
      one `Sighting` a person who is seen, in the order of their numbers.
    """
    detector.check_image(image)
    image = np.ascontiguousarray(image)
    self._tracks = [t for t in self._tracks if seconds - t.seen <= self._place_seconds]
    for track in self._tracks:
      if found := track.look(image):
        track.move(image, found, seconds)
    self._part_those_in_one_place(seconds)
    present = [track for track in self._tracks if track.seen == seconds]
    pause = LOOK_SECONDS if present else LOOK_SECONDS_EMPTY
    # Half a frame at 1000 frames a second: sums of floats must not put a look off by a frame.
    if seconds - self._looked >= pause - 5e-4:
      self._looked = seconds
      self._welcome(image, seconds, bool(present))
    sightings = []
    for track in self._tracks:
      if track.seen == seconds:
        self._describe(image, track, seconds)
        chip = FaceChip.of_face(track.face, self._size)
        sightings.append(Sighting(track.person, track.face, track.steady.update(chip, seconds)))
    return sorted(sightings, key=lambda sighting: sighting.person)

  def _welcome(self, image: np.ndarray, seconds: float, somebody: bool) -> None:
    """Looks at the whole picture for people who are not followed."""
    doubtful, self._doubtful = self._doubtful, []
    for box, score in self._look(image, somebody):
      if any(t.seen == seconds and _overlap(t.box, box) > SAME_PLACE for t in self._tracks):
        continue
      lost = [t for t in self._tracks if t.seen < seconds and _near(t.box, box)]
      if lost:
        max(lost, key=lambda track: _overlap(track.box, box)).move(image, (box, score), seconds)
      elif score < NEW_SCORE and not any(_near(box, before) for before in doubtful):
        self._doubtful.append(box)
      else:
        face = detector.fit_landmarks(image, box, score)
        self._tracks.append(_Track(self._number(image, face), face, seconds))

  def _look(self, image: np.ndarray, somebody: bool) -> list[tuple[detector.Box, float]]:
    longest = max(image.shape[:2])
    self._looks += 1
    found = []
    if not somebody:
      found = detector.find_boxes(image, min(1.0, detector.SMALL_SIDE / longest))
    # Weak faces of the small copy are at the limit of its resolution.
    clear = any(score >= detector.CLEAR_SCORE for _, score in found)
    if not clear and (somebody or found or self._looks % 2):
      found = detector.find_boxes(image, min(2.0, LARGE_SIDE / longest)) or found
    return sorted(found, key=lambda one: one[1], reverse=True)

  def _number(self, image: np.ndarray, face: detector.Face) -> int:
    """The number of somebody who comes: an old one where the face is known."""
    if self._recognise:
      seen = {track.person for track in self._tracks}
      away = {person: faces for person, faces in self._remembered.items() if person not in seen}
      if away:
        here = face_descriptor.describe_face(image, face)
        distances = {
          person: min(float(np.linalg.norm(here - there)) for there in faces)
          for person, faces in away.items()
        }
        person = min(distances, key=lambda person: distances[person])
        if distances[person] < SAME_FACE:
          return person
    self._people += 1
    return self._people

  def _describe(self, image: np.ndarray, track: _Track, seconds: float) -> None:
    """Notes down what somebody looks like, early and once again."""
    if not self._recognise or track.described == len(DESCRIBE_AT):
      return
    if seconds - track.born < DESCRIBE_AT[track.described]:
      return
    track.described += 1
    faces = self._remembered.pop(track.person, [])
    descriptor = face_descriptor.describe_face(image, track.face)
    assert descriptor is not None  # the face is given
    faces.append(descriptor)
    self._remembered[track.person] = faces[-2 * len(DESCRIBE_AT) :]  # the last one is the newest
    while len(self._remembered) > MOST_REMEMBERED:
      del self._remembered[next(iter(self._remembered))]

  def _part_those_in_one_place(self, seconds: float) -> None:
    """Of two who follow one face, the one who came first stays."""
    kept: list[_Track] = []
    for track in self._tracks:
      here = track.seen == seconds
      if here and any(t.seen == seconds and _overlap(t.box, track.box) > 0.6 for t in kept):
        continue
      kept.append(track)
    self._tracks = kept


def _look_near(
  image: np.ndarray, box: np.ndarray, surroundings: float
) -> tuple[detector.Box, float] | None:
  middle, side = (box[:2] + box[2:]) / 2, box[2] - box[0] + 1
  half = surroundings * side / 2
  low = np.maximum(np.floor(middle - half), 0).astype(int)
  high = np.minimum(np.ceil(middle + half), image.shape[1::-1]).astype(int)
  if (high - low).min() < side / 2:
    return None
  region = image[low[1] : high[1], low[0] : high[0]]
  found = detector.find_boxes(region, FOLLOW_SIDE / side, FOLLOWED_SCORE)
  shift = (int(low[0]), int(low[1]), int(low[0]), int(low[1]))
  boxes = [(_shifted(here, shift), score) for here, score in found]
  boxes = [one for one in boxes if _near(box, one[0])]
  return max(boxes, key=lambda one: _overlap(box, one[0]), default=None)


def _shifted(box: detector.Box, shift: detector.Box) -> detector.Box:
  return (box[0] + shift[0], box[1] + shift[1], box[2] + shift[2], box[3] + shift[3])


def _overlap(one: np.ndarray | detector.Box, other: np.ndarray | detector.Box) -> float:
  """Intersection over union of two boxes."""
  a, b = np.asarray(one, float), np.asarray(other, float)
  inside = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + 1, 0, None).prod()
  return float(inside / ((a[2:] - a[:2] + 1).prod() + (b[2:] - b[:2] + 1).prod() - inside))


def _near(one: np.ndarray | detector.Box, other: np.ndarray | detector.Box) -> bool:
  """Whether a face may have gone from one box to the other within a moment."""
  a, b = np.asarray(one, float), np.asarray(other, float)
  sides = a[2] - a[0] + 1, b[2] - b[0] + 1
  distance = float(np.linalg.norm((a[:2] + a[2:] - b[:2] - b[2:]) / 2))
  return max(sides) < 2 * min(sides) and distance <= min(sides)
