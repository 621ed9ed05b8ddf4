"""The course of a video: every frame, the people in it, and what a model makes of them."""

import collections
import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np

from jax_me.data.decoding import resize_image
from jax_me.faces.alignment import FaceChip
from jax_me.faces.detector import Box
from jax_me.inference.model_input import InputForm, InputMaker
from jax_me.inference.video.batch_scorer import BatchScorer
from jax_me.inference.video.face_region import Patch
from jax_me.inference.video.face_tracker import Tracker
from jax_me.inference.video.facial_motion import SIDE, MotionMeter
from jax_me.inference.video.sources import Footage, Frame
from jax_me.models.model_folder import SavedModel

Status = Literal["ok", "no_face", "unreadable", "skipped"]

# Somebody who was away for longer, and for more than so many of the frames that are looked at, is
# measured anew.
AWAY_SECONDS = 0.25
AWAY_FRAMES = 2.5
# Frames that may wait for the model: a video with few faces must not fill the memory.
MOST_WAITING = 64


@dataclasses.dataclass(frozen=True)
class ObservationSettings:
  """How a video is watched.

  Attributes:
    every: look at every k-th frame only, at least 1; the others are "skipped".
    motion: measure the motion of the face's regions.
    recognise: know people who come back by their faces.
    smooth_seconds: time constant of an exponential mean over the scores, 0 for none.
    batch: faces that the model sees at once. On a CPU more of them are slower: caches are small.
  """

  every: int = 1
  motion: bool = True
  recognise: bool = True
  smooth_seconds: float = 0.0
  batch: int = 4

  def __post_init__(self):
    if self.every < 1 or self.batch < 1 or not 0 <= self.smooth_seconds < 60:
      raise ValueError(
        f"every and batch must be at least 1 and smooth_seconds in [0, 60), got {self}"
      )


@dataclasses.dataclass
class Observation:
  """A person in a frame.

  Attributes:
    person: number, from 1.
    box: (left, top, right, bottom) of the face; None for a model of whole pictures.
    scores: float32 [classes], in the order of the model's labels.
    motion: float [regions, 2] of `MotionMeter`; None where it is not measured.
    face: uint8 [S, S, 3] RGB, the cut face; None unless asked for.
  """

  person: int
  box: Box | None
  scores: np.ndarray | None = None
  motion: np.ndarray | None = None
  face: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class ObservedFrame:
  """A frame and the people in it.

  Attributes:
    frame: number, time and image. The image is None where it cannot be read.
    status: "ok" (somebody is seen), "no_face", "unreadable", or "skipped" (see `every`).
    people: by number; empty unless "ok".
  """

  frame: Frame
  status: Status
  people: list[Observation]


@dataclasses.dataclass
class _Person:
  """What is remembered of somebody between frames."""

  inputs: InputMaker
  meter: MotionMeter
  seen: float
  scores: np.ndarray | None = None
  scored: float = 0.0


def observe(
  footage: Footage,
  saved: SavedModel,
  settings: ObservationSettings = ObservationSettings(),  # noqa: B008
) -> Iterator[ObservedFrame]:
  """Watches a video.

  Args:
    footage: frames in their order, of a video, a folder or a camera.
    saved: a classifier.
    settings: see there.

  Yields:
    every frame of the footage, in order, some frames after it was read (the model takes faces in
    batches). Memory does not grow with the length of the video.
  """
  observer = _Observer(saved, settings, settings.every / footage.fps)
  for frame in footage.frames():
    yield from observer.take(frame)
  yield from observer.finish()


class _Observer:
  def __init__(self, saved: SavedModel, settings: ObservationSettings, interval: float):
    self._settings = settings
    self._form = InputForm.of_source(saved.source, saved.image_size)
    self._scorer = BatchScorer(saved, settings.batch)
    self._away = max(AWAY_SECONDS, AWAY_FRAMES * interval)
    self._tracker = Tracker(
      max(self._form.cut, SIDE), recognise=settings.recognise, interval=interval
    )
    self._people: dict[int, _Person] = {}
    self._waiting: collections.deque[ObservedFrame] = collections.deque()

  def take(self, frame: Frame) -> list[ObservedFrame]:
    """Looks at a frame; gives the frames that are complete."""
    people: list[Observation] = []
    status: Status = "ok"
    if frame.image is None:
      status = "unreadable"
    elif frame.number % self._settings.every:
      status = "skipped"
    elif self._form.align:
      people = self._see_faces(frame.image, frame.seconds)
      status = "ok" if people else "no_face"
    else:
      people = [self._see_picture(frame.image, frame.seconds)]
    self._waiting.append(ObservedFrame(frame, status, people))
    if len(self._waiting) > MOST_WAITING:
      self._receive(self._scorer.flush())
    return self._complete()

  def finish(self) -> list[ObservedFrame]:
    """The frames that are still waiting."""
    self._receive(self._scorer.flush())
    return self._complete()

  def _see_faces(self, image: np.ndarray, seconds: float) -> list[Observation]:
    people = []
    for sighting in self._tracker.update(image, seconds):
      person = self._person(sighting.person, seconds)
      patch = Patch.around(image, sighting.chip)
      one = Observation(sighting.person, sighting.face.box)
      if self._settings.motion:
        one.motion = person.meter.update(patch, sighting.chip, sighting.face.landmarks, seconds)
      one.face = patch.cut(sighting.chip)
      self._show(one, person.inputs.make(patch, sighting.chip, seconds), seconds)
      people.append(one)
    return people

  def _see_picture(self, image: np.ndarray, seconds: float) -> Observation:
    """The whole picture as one person, for models that were trained so."""
    person = self._person(1, seconds)
    view = _WholePicture(image)
    one = Observation(1, None)
    chip = FaceChip(0, 0, 1, 1, 0, self._form.cut)
    one.face = view.cut(chip)
    self._show(one, person.inputs.make(view, chip, seconds), seconds)
    return one

  def _person(self, number: int, seconds: float) -> _Person:
    person = self._people.get(number)
    if person is None or seconds - person.seen > self._away:
      person = _Person(InputMaker(self._form), MotionMeter(), seconds)
      self._people = {n: p for n, p in self._people.items() if seconds - p.seen < 60}
      self._people[number] = person
    person.seen = seconds
    return person

  def _show(self, one: Observation, picture: np.ndarray, seconds: float) -> None:
    self._receive(self._scorer.put(picture, (one, seconds, self._people[one.person])))

  def _receive(self, scored: list) -> None:
    for (one, seconds, person), scores in scored:
      if self._settings.smooth_seconds and person.scores is not None:
        share = 1 - np.exp(-(seconds - person.scored) / self._settings.smooth_seconds)
        scores = person.scores + share * (scores - person.scores)
      one.scores = person.scores = scores
      person.scored = seconds

  def _complete(self) -> list[ObservedFrame]:
    done = []
    while self._waiting and all(one.scores is not None for one in self._waiting[0].people):
      done.append(self._waiting.popleft())
    return done


@dataclasses.dataclass(frozen=True)
class _WholePicture:
  image: np.ndarray

  def cut(self, chip: FaceChip) -> np.ndarray:
    return resize_image(self.image, chip.size)
