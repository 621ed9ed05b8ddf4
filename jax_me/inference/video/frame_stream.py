"""Frame stream: detections, scores and facial motion for every frame of a video."""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator
from typing import Literal

import numpy as np

from jax_me.faces.alignment import FaceChip
from jax_me.faces.detector import Box
from jax_me.faces.head_pose import HeadPose
from jax_me.image_preparation import resize_image
from jax_me.inference.batched_inference import DEFAULT_BATCH, BatchedInference
from jax_me.inference.detection_threads import one_opencv_thread, read_ahead
from jax_me.inference.model_input import CroppableImage, InputBuilder, InputSpec
from jax_me.inference.video.face_region import FaceRegion
from jax_me.inference.video.face_tracker import ABSENCE_FRAMES, FaceTracker, TrackedFace
from jax_me.inference.video.facial_motion import CROP_SIZE, FacialMotionEstimator
from jax_me.inference.video.interval_segmentation import FrameCues
from jax_me.inference.video.sources import Frame, VideoSource
from jax_me.models.classifier import split_outputs
from jax_me.models.model_folder import SavedModel

Status = Literal["ok", "no_face", "not_searched", "unreadable", "skipped", "not_finite"]

# The input history of a person is reset after a longer absence (and ABSENCE_FRAMES).
ABSENCE_SECONDS = 0.25
# State of a person who has been absent for longer than this is dropped.
FORGET_SECONDS = 60.0
# Maximum number of frames that wait for a batch; bounds memory in videos with few faces.
MAX_PENDING_FRAMES = 64


@dataclasses.dataclass(frozen=True)
class FrameStreamSettings:
  """Settings of a frame stream.

  Attributes:
    every: process every k-th frame only, at least 1; the others get the status "skipped".
    motion: measure the motion of the facial regions.
    recognise: re-identify people who return, by face descriptors.
    smooth_seconds: time constant of an exponential moving average of the scores, 0 for none.
    batch: faces per model call.
    align: whether to detect and crop faces, see `InputSpec.from_model`.
  """

  every: int = 1
  motion: bool = True
  recognise: bool = True
  smooth_seconds: float = 0.0
  batch: int = DEFAULT_BATCH
  align: bool | None = None

  def __post_init__(self):
    if self.every < 1 or self.batch < 1 or not 0 <= self.smooth_seconds < 60:
      raise ValueError(
        f"every and batch must be at least 1 and smooth_seconds in [0, 60), got {self}"
      )


@dataclasses.dataclass
class Detection:
  """A person in a frame.

  Attributes:
    person: number of the person, from 1.
    box: (left, top, right, bottom) of the face; None for a model of whole images.
    scores: float [classes], in the order of the model's labels.
    motion: float [regions, 2] of `FacialMotionEstimator`, NaN where undefined; None if not
      measured.
    face: uint8 [S, S, 3] RGB, the face crop.
    distance: distance from the neutral face, of `ExpressionSpotter.push`; None if not measured or
      undefined.
    displacement: float [regions, 2] of `ExpressionSpotter`; None if not measured.
    pose: pose of the head; None without landmarks.
    origin, hidden: see `FacialMotionEstimator`.
    landmarks: float32 [68, 2], (x, y) in pixels of the frame; None for a model of whole images.
    affect: float32 [2], valence and arousal; None for a model without these outputs.
  """

  person: int
  box: Box | None
  scores: np.ndarray | None = None
  motion: np.ndarray | None = None
  face: np.ndarray | None = None
  distance: float | None = None
  displacement: np.ndarray | None = None
  landmarks: np.ndarray | None = None
  pose: HeadPose | None = None
  origin: int = 0
  hidden: bool = False
  affect: np.ndarray | None = None

  def cues(self, frame: Frame) -> FrameCues:
    """What expressions are spotted from, in the frame of this detection."""
    return FrameCues(
      frame.number, frame.seconds, self.motion, self.scores, self.origin, self.hidden, self.pose
    )


@dataclasses.dataclass(frozen=True)
class FrameDetections:
  """A frame with its detections.

  Attributes:
    frame: index, time and image. The image is None if it is unreadable.
    status: "ok" (at least one detection); "no_face"; "not_searched": the whole image was not
      searched, and the faces of the frames before and after are not in it; "unreadable"; "skipped"
      (see `every`); "not_finite": the model gave no finite scores for a face, so there is no label.
    detections: one per person, ordered by number; empty unless "ok".
  """

  frame: Frame
  status: Status
  detections: list[Detection]


def with_finite_scores(result: FrameDetections) -> FrameDetections:
  """The frame; with the status "not_finite" and no detections if scores are not finite."""
  if all(d.scores is None or np.isfinite(d.scores).all() for d in result.detections):
    return result
  frame = dataclasses.replace(result.frame, reason="the scores of the model are not finite numbers")
  return FrameDetections(frame, "not_finite", [])


@dataclasses.dataclass
class _TrackedFrame:
  """A frame whose faces are tracked, and which the next search may show more faces of."""

  frame: Frame
  status: Status
  faces: list[TrackedFace]


@dataclasses.dataclass
class _PersonState:
  """State of a person between frames."""

  inputs: InputBuilder
  motion: FacialMotionEstimator
  last_seen: float
  scores: np.ndarray | None = None
  scores_seconds: float = 0.0


# Key of a face in a batch: its detection, the time of its frame, the state of its person.
_PendingFace = tuple[Detection, float, _PersonState]


def stream_detections(
  source: VideoSource,
  saved: SavedModel,
  settings: FrameStreamSettings = FrameStreamSettings(),  # noqa: B008
) -> Iterator[FrameDetections]:
  """Tracks and classifies the faces of a video as a stream.

  Args:
    source: frames of a video, a folder or a camera.
    saved: a classifier.
    settings: see `FrameStreamSettings`.

  Yields:
    every frame of the source, in order, with a delay of some frames: faces are classified in
    batches, and the next frames are read and searched for faces in a thread meanwhile. Memory does
    not grow with the length of the video.
  """
  stream = _FrameStream(saved, settings, settings.every / source.fps)
  with one_opencv_thread():
    try:
      with contextlib.closing(read_ahead(stream.track(source.frames()))) as searches:
        for _ in searches:
          yield from stream.classify()
    except KeyboardInterrupt:
      # The frames that wait are results too.
      yield from stream.finish()
      raise
    yield from stream.finish()


class _FrameStream:
  def __init__(self, saved: SavedModel, settings: FrameStreamSettings, interval: float):
    self._settings = settings
    self._saved = saved
    self._spec = InputSpec.from_model(saved, align=settings.align)
    self._inference: BatchedInference[_PendingFace] = BatchedInference(saved, settings.batch)
    self._max_absence = max(ABSENCE_SECONDS, ABSENCE_FRAMES * interval)
    self._tracker = FaceTracker(
      max(self._spec.crop_size, CROP_SIZE),
      recognise=settings.recognise,
      interval=interval,
      detectors=self._spec.detector,
    )
    self._people: dict[int, _PersonState] = {}
    self._pending: collections.deque[FrameDetections] = collections.deque()
    # Written by the thread of `track`.
    self._tracked: list[_TrackedFrame] = []
    self._complete: collections.deque[_TrackedFrame] = collections.deque()

  def track(self, frames: Iterator[Frame]) -> Generator[None, None, None]:
    """Tracks the faces of all frames; yields when there are frames for `classify`.

    It may run in another thread than the other methods.
    """
    for frame in frames:
      if frame.image is None:
        self._tracked.append(_TrackedFrame(frame, "unreadable", []))
      elif frame.number % self._settings.every:
        # The image may be large, and nothing looks at it again.
        self._tracked.append(_TrackedFrame(frame, "skipped", []))
      elif self._spec.align:
        self._track(frame, frame.image)
      else:
        self._tracked.append(_TrackedFrame(frame, "ok", []))
      # Until the next search, frames wait: it may show a face that is in them already.
      if not self._spec.align or self._tracker.searched or len(self._tracked) > MAX_PENDING_FRAMES:
        self._complete.extend(self._tracked)
        self._tracked = []
        yield

  def classify(self) -> list[FrameDetections]:
    """Classifies the faces of the tracked frames; returns the frames whose scores are complete."""
    while self._complete:
      self._classify(self._complete.popleft())
    if len(self._pending) > MAX_PENDING_FRAMES:
      self._assign_scores(self._inference.flush())
    return self._complete_frames()

  def finish(self) -> list[FrameDetections]:
    """Returns the frames that are still pending, when `track` has ended."""
    self._complete.extend(self._tracked)
    self._tracked = []
    complete = self.classify()
    self._assign_scores(self._inference.flush())
    return complete + self._complete_frames()

  def _track(self, frame: Frame, image: np.ndarray) -> None:
    """Tracks the faces of a frame, and new ones in the frames since the last search."""
    faces = self._tracker.update(image, frame.seconds)
    waiting = [one for one in reversed(self._tracked) if one.status in ("ok", "not_searched")]
    images = [one.frame.image for one in waiting if one.frame.image is not None]
    for one, earlier in zip(waiting, self._tracker.look_back(images), strict=True):
      one.faces = sorted([*one.faces, *earlier], key=lambda face: face.person)
      one.status = "ok" if one.faces else one.status
    status: Status = "no_face" if self._tracker.searched else "not_searched"
    self._tracked.append(_TrackedFrame(frame, "ok" if faces else status, faces))

  def _classify(self, one: _TrackedFrame) -> None:
    detections = []
    if one.frame.image is not None and one.status == "ok":
      if self._spec.align:
        detections = self._detections(one.frame.image, one.frame.seconds, one.faces)
      else:
        detections = [self._whole_image_detection(one.frame.image, one.frame.seconds)]
    self._pending.append(FrameDetections(one.frame, one.status, detections))

  def _detections(
    self, image: np.ndarray, seconds: float, faces: list[TrackedFace]
  ) -> list[Detection]:
    detections = []
    for tracked in faces:
      state = self._person_state(tracked.person, seconds)
      region = FaceRegion.around(image, tracked.chip)
      landmarks = tracked.face.landmarks
      pose = HeadPose.of_landmarks(landmarks)
      detection = Detection(tracked.person, tracked.face.box, pose=pose, landmarks=landmarks)
      if self._settings.motion:
        motion = state.motion
        detection.motion = motion.update(region, tracked.chip, landmarks, seconds, pose)
        detection.origin, detection.hidden = motion.origin, motion.hidden
      detection.face = region.crop(tracked.chip)
      self._submit(detection, state, region, tracked.chip, seconds)
      detections.append(detection)
    return detections

  def _whole_image_detection(self, image: np.ndarray, seconds: float) -> Detection:
    """The whole image as one person, for models trained without alignment."""
    whole = _WholeImage(image, None if self._spec.is_motion else self._saved.prepare)
    chip = FaceChip(0, 0, 1, 1, 0, self._spec.crop_size)
    detection = Detection(1, None, face=whole.crop(chip))
    self._submit(detection, self._person_state(1, seconds), whole, chip, seconds)
    return detection

  def _person_state(self, number: int, seconds: float) -> _PersonState:
    state = self._people.get(number)
    if state is None or seconds - state.last_seen > self._max_absence:
      # The motion goes on from the references of before.
      motion = FacialMotionEstimator() if state is None else state.motion
      state = _PersonState(InputBuilder(self._spec), motion, seconds)
      self._people = {
        n: s for n, s in self._people.items() if seconds - s.last_seen < FORGET_SECONDS
      }
      self._people[number] = state
    state.last_seen = seconds
    return state

  def _submit(
    self,
    detection: Detection,
    state: _PersonState,
    image: CroppableImage,
    chip: FaceChip,
    seconds: float,
  ) -> None:
    model_input = state.inputs.build(image, chip, seconds)
    self._assign_scores(self._inference.submit(model_input, (detection, seconds, state)))

  def _assign_scores(self, ready: list[tuple[_PendingFace, np.ndarray]]) -> None:
    for (detection, seconds, state), scores in ready:
      if self._settings.smooth_seconds and state.scores is not None:
        weight = 1 - np.exp(-(seconds - state.scores_seconds) / self._settings.smooth_seconds)
        scores = state.scores + weight * (scores - state.scores)
      detection.scores, detection.affect = split_outputs(scores, self._saved.affect)
      if np.isfinite(scores).all():
        state.scores, state.scores_seconds = scores, seconds

  def _complete_frames(self) -> list[FrameDetections]:
    complete = []
    while self._pending and all(d.scores is not None for d in self._pending[0].detections):
      complete.append(with_finite_scores(self._pending.popleft()))
    return complete


@dataclasses.dataclass(frozen=True)
class _WholeImage:
  """An image as a model takes it that was trained on whole images, or on their motion."""

  image: np.ndarray
  prepare: Callable[[np.ndarray], np.ndarray] | None

  def crop(self, chip: FaceChip) -> np.ndarray:
    return self.prepare(self.image) if self.prepare else resize_image(self.image, chip.size)
