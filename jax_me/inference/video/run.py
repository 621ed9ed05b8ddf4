"""One input of `predict` from its first frame to its files."""

import collections
import dataclasses
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jax_me.faces.image_files import UnreadableImage, read_image
from jax_me.files import write_atomically
from jax_me.inference.model_input import InputForm
from jax_me.inference.predictor import Predictor
from jax_me.inference.video.annotation import AnnotatedVideo
from jax_me.inference.video.decimated_series import Course
from jax_me.inference.video.frame_stream import ObservationSettings, ObservedFrame, observe
from jax_me.inference.video.result_files import PredictionsFile, Row, event_record
from jax_me.inference.video.sources import Footage
from jax_me.inference.video.spotting import Event, Moment, Spotter, SpottingSettings
from jax_me.inference.video.timeline import Timeline, draw_timeline
from jax_me.progress import Progress

# A camera in a street sees thousands of people. Courses, for the timeline, are kept of those who
# stay longest; what was found of people who went away this long ago is settled.
MOST_COURSES = 32
FORGET_SECONDS = 60.0
# At low rates frames lie further apart than an absence may last; so many intervals are none.
ABSENT_FRAMES = 2.5


@dataclasses.dataclass(frozen=True)
class SessionSettings:
  """What is made of an input beside its rows.

  Attributes:
    observation: how it is watched.
    spotting: how expressions are found.
    timeline: where the picture goes.
    annotated: where the copy with boxes and labels goes; None for none.
    seconds: stop after so many; None reads to the end.
    quiet: show no progress.
  """

  observation: ObservationSettings
  spotting: SpottingSettings
  timeline: pathlib.Path
  annotated: pathlib.Path | None = None
  seconds: float | None = None
  quiet: bool = False


class _Stretches:
  """Stretches of frames with one status, joined while they follow each other."""

  def __init__(self) -> None:
    self._spans: list[list[float]] = []
    self._last = -2

  def add(self, number: int, seconds: float, length: float) -> None:
    if self._spans and number == self._last + 1:
      self._spans[-1][1] = seconds + length
    elif len(self._spans) < 1000:  # more cannot be told apart in a picture
      self._spans.append([seconds, seconds + length])
    self._last = number

  def spans(self) -> list[tuple[float, float]]:
    return [(start, end) for start, end in self._spans]


class VideoSession:
  """Reads a video, a folder of frames or a camera.

  `run` may be interrupted (ctrl-C); `finish` then makes the files of what was read.
  """

  def __init__(self, footage: Footage, predictor: Predictor, settings: SessionSettings):
    self._footage = footage
    self._predictor = predictor
    self._settings = settings
    interval = settings.observation.every / footage.fps
    gap = max(settings.spotting.gap_seconds, ABSENT_FRAMES * interval)
    self._spotting = dataclasses.replace(settings.spotting, gap_seconds=gap)
    self._spotters: dict[int, Spotter] = {}
    self._courses: dict[int, Course] = {}
    self._seen: dict[int, float] = {}
    self._people = 0
    self._events: list[Event] = []
    self._lost, self._broken = _Stretches(), _Stretches()
    self._counts: collections.Counter[str] = collections.Counter()
    self._frames = 0
    self._end = 0.0
    path = settings.annotated
    self._copy = path and AnnotatedVideo(path, footage.fps, predictor.labels)

  def run(self, predictions: PredictionsFile) -> None:
    """Reads the input to its end and writes its rows."""
    settings = self._settings
    progress = Progress(self._footage.name, self._footage.length, quiet=settings.quiet)
    try:
      for observed in observe(self._footage, self._predictor.saved, settings.observation):
        if settings.seconds is not None and observed.frame.seconds >= settings.seconds:
          break
        predictions.write(list(self._rows(observed)))
        if self._copy:
          self._copy.write(observed)
        progress.advance()
    finally:
      progress.close()

  def finish(self) -> dict[str, Any]:
    """Writes the picture and closes the copy; gives the record for events.json."""
    self._settle(-math.inf)
    events = sorted(self._events, key=lambda event: (event.onset, event.person))
    if self._copy:
      self._copy.close()
    form = InputForm.of_source(self._predictor.saved.source, self._predictor.saved.image_size)
    picture = draw_timeline(
      Timeline(
        title=pathlib.PurePath(self._footage.name).name,
        seconds=self._end,
        labels=self._predictor.labels,
        people=self._courses,
        left_out=self._people - len(self._courses),
        events=events,
        lost=self._lost.spans(),
        unreadable=self._broken.spans(),
        scores_at_rest=not form.is_motion,
      )
    )
    write_atomically(self._settings.timeline, picture)
    return {
      "video": self._footage.name,
      "kind": self._footage.kind,
      "fps": self._footage.fps,
      "frames": self._frames,
      "seconds": round(self._end, 4),
      "statuses": dict(self._counts),
      "people": self._people,
      "note": self._note(),
      "timeline": self._settings.timeline.name,
      "events": [event_record(event) for event in events],
    }

  def _note(self) -> str:
    notes = [self._footage.note] if self._footage.note else []
    length = self._footage.length
    if length is not None and self._frames != length and self._settings.seconds is None:
      notes.append(f"the file announces {length} frames, {self._frames} were read")
    return "; ".join(notes)

  def _settle(self, away: float) -> None:
    """Ends the expressions of those who have been away for longer than so many seconds."""
    for person, seen in list(self._seen.items()):
      if self._end - seen > away:
        self._events += self._spotters.pop(person).finish()
        del self._seen[person]

  def _spotter(self, person: int, seconds: float) -> Spotter:
    if person not in self._spotters:
      self._settle(FORGET_SECONDS)
      labels = self._predictor.labels
      self._spotters[person] = Spotter(person, labels, self._spotting)
      self._people = max(self._people, person)
      if person not in self._courses:
        if len(self._courses) >= MOST_COURSES:
          del self._courses[min(self._courses, key=lambda one: len(self._courses[one]))]
        self._courses[person] = Course(len(labels), self._settings.observation.every)
    self._seen[person] = seconds
    return self._spotters[person]

  def _rows(self, observed: ObservedFrame) -> Iterator[Row]:
    frame, labels = observed.frame, self._predictor.labels
    length = 1 / self._footage.fps
    self._frames += 1
    self._end = max(self._end, frame.seconds + length)
    self._counts[observed.status] += 1
    place = (self._footage.name, frame.number, frame.file, frame.seconds, observed.status)
    if observed.status == "no_face":
      self._lost.add(frame.number, frame.seconds, length)
    elif observed.status == "unreadable":
      self._broken.add(frame.number, frame.seconds, length)
    if not observed.people:
      yield Row(*place)
    for one in observed.people:
      spotter = self._spotter(one.person, frame.seconds)
      motion = spotter.push(Moment(frame.number, frame.seconds, one.motion, one.scores))
      if one.person in self._courses:
        self._courses[one.person].add(frame.number, frame.seconds, one.scores, motion, one.face)
      label = None if one.scores is None else labels[int(one.scores.argmax())]
      yield Row(
        *place, person=one.person, box=one.box, label=label, motion=motion, scores=one.scores
      )


def photograph_rows(footage: Footage, predictor: Predictor) -> list[Row]:
  """The faces of a photograph, the largest first, as `Predictor.predict` reads them."""
  try:
    readings = predictor.predict(read_image(footage.name))
  except UnreadableImage:
    return [Row(footage.name, 0, "", 0.0, "unreadable")]
  rows = []
  for number, reading in enumerate(readings, start=1):
    if reading.status != "ok":
      rows.append(Row(footage.name, 0, "", 0.0, reading.status))
      continue
    scores = np.array([reading.scores[label] for label in predictor.labels])
    rows.append(
      Row(footage.name, 0, "", 0.0, "ok", number, reading.box, reading.label, None, scores)
    )
  return rows
