"""Video session: one video source to rows of predictions.csv, timeline, events, annotated copy."""

import collections
import dataclasses
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jax_me.faces.image_files import UnreadableImage, read_image
from jax_me.files import write_atomically
from jax_me.inference.model_input import InputSpec
from jax_me.inference.predictor import Predictor
from jax_me.inference.video.annotation import AnnotatedVideoWriter
from jax_me.inference.video.decimated_series import DecimatedSeries
from jax_me.inference.video.frame_stream import (
  FrameDetections,
  FrameStreamSettings,
  stream_detections,
)
from jax_me.inference.video.result_files import PredictionRow, PredictionsFile, event_record
from jax_me.inference.video.sources import VideoSource
from jax_me.inference.video.spotting import (
  ExpressionEvent,
  ExpressionSpotter,
  FrameCues,
  SpottingSettings,
)
from jax_me.inference.video.timeline import Timeline, draw_timeline
from jax_me.progress import Progress

# Bounds for long recordings with many people. Time series, for the timeline, are kept for the
# people with the most frames; spotting ends for people who have been absent for this long.
MAX_SERIES = 32
FORGET_SECONDS = 60.0
# At low frame rates, an absence is at least this many frame intervals.
ABSENCE_FRAMES = 2.5
# More intervals cannot be distinguished in the timeline.
MAX_INTERVALS = 1000


@dataclasses.dataclass(frozen=True)
class VideoSessionSettings:
  """Settings of a video session.

  Attributes:
    stream: detection and classification.
    spotting: expression spotting.
    timeline: path of the timeline figure.
    annotated: path of the annotated copy; None for no copy.
    seconds: stop after this many seconds; None reads to the end.
    quiet: show no progress.
  """

  stream: FrameStreamSettings
  spotting: SpottingSettings
  timeline: pathlib.Path
  annotated: pathlib.Path | None = None
  seconds: float | None = None
  quiet: bool = False


class _StatusIntervals:
  """Time intervals of consecutive frames with one status."""

  def __init__(self) -> None:
    self._intervals: list[list[float]] = []
    self._last_frame = -2

  def add(self, number: int, seconds: float, duration: float) -> None:
    if self._intervals and number == self._last_frame + 1:
      self._intervals[-1][1] = seconds + duration
    elif len(self._intervals) < MAX_INTERVALS:
      self._intervals.append([seconds, seconds + duration])
    self._last_frame = number

  def intervals(self) -> list[tuple[float, float]]:
    return [(start, end) for start, end in self._intervals]


class VideoSession:
  """Processes a video, a folder of frames or a camera.

  `run` may be interrupted by KeyboardInterrupt; `finish` then writes the results so far.
  """

  def __init__(self, source: VideoSource, predictor: Predictor, settings: VideoSessionSettings):
    self._source = source
    self._predictor = predictor
    self._settings = settings
    interval = settings.stream.every / source.fps
    gap = max(settings.spotting.gap_seconds, ABSENCE_FRAMES * interval)
    self._spotting = dataclasses.replace(settings.spotting, gap_seconds=gap)
    self._spotters: dict[int, ExpressionSpotter] = {}
    self._series: dict[int, DecimatedSeries] = {}
    self._last_seen: dict[int, float] = {}
    self._people = 0
    self._events: list[ExpressionEvent] = []
    self._no_face, self._unreadable = _StatusIntervals(), _StatusIntervals()
    self._status_counts: collections.Counter[str] = collections.Counter()
    self._frames = 0
    self._end = 0.0
    path = settings.annotated
    self._copy = path and AnnotatedVideoWriter(path, source.fps, predictor.labels)

  def run(self, predictions: PredictionsFile) -> None:
    """Processes the source to its end and writes its rows."""
    settings = self._settings
    progress = Progress(self._source.name, self._source.length, quiet=settings.quiet)
    try:
      for result in stream_detections(self._source, self._predictor.saved, settings.stream):
        if settings.seconds is not None and result.frame.seconds >= settings.seconds:
          break
        predictions.write(list(self._rows(result)))
        if self._copy:
          self._copy.write(result)
        progress.advance()
    finally:
      progress.close()

  def finish(self) -> dict[str, Any]:
    """Writes the timeline, closes the annotated copy and returns the record for events.json."""
    self._finish_absent(-math.inf)
    events = sorted(self._events, key=lambda event: (event.onset, event.person))
    if self._copy:
      self._copy.close()
    spec = InputSpec.from_source(self._predictor.saved.source, self._predictor.saved.image_size)
    figure = draw_timeline(
      Timeline(
        title=pathlib.PurePath(self._source.name).name,
        seconds=self._end,
        labels=self._predictor.labels,
        people=self._series,
        omitted=self._people - len(self._series),
        events=events,
        no_face=self._no_face.intervals(),
        unreadable=self._unreadable.intervals(),
        scores_at_rest=not spec.is_motion,
      )
    )
    write_atomically(self._settings.timeline, figure)
    return {
      "video": self._source.name,
      "kind": self._source.kind,
      "fps": self._source.fps,
      "frames": self._frames,
      "seconds": round(self._end, 4),
      "statuses": dict(self._status_counts),
      "people": self._people,
      "note": self._note(),
      "timeline": self._settings.timeline.name,
      "events": [event_record(event) for event in events],
    }

  def _note(self) -> str:
    notes = [self._source.note] if self._source.note else []
    length = self._source.length
    if length is not None and self._frames != length and self._settings.seconds is None:
      notes.append(f"the file declares {length} frames, but {self._frames} were read")
    return "; ".join(notes)

  def _finish_absent(self, absence: float) -> None:
    """Finishes spotting for people who have been absent for more than `absence` seconds."""
    for person, seconds in list(self._last_seen.items()):
      if self._end - seconds > absence:
        self._events += self._spotters.pop(person).finish()
        del self._last_seen[person]

  def _spotter(self, person: int, seconds: float) -> ExpressionSpotter:
    if person not in self._spotters:
      self._finish_absent(FORGET_SECONDS)
      labels = self._predictor.labels
      self._spotters[person] = ExpressionSpotter(person, labels, self._spotting)
      self._people = max(self._people, person)
      if person not in self._series:
        if len(self._series) >= MAX_SERIES:
          del self._series[min(self._series, key=lambda number: len(self._series[number]))]
        self._series[person] = DecimatedSeries(len(labels), self._settings.stream.every)
    self._last_seen[person] = seconds
    return self._spotters[person]

  def _rows(self, result: FrameDetections) -> Iterator[PredictionRow]:
    frame, labels = result.frame, self._predictor.labels
    duration = 1 / self._source.fps
    self._frames += 1
    self._end = max(self._end, frame.seconds + duration)
    self._status_counts[result.status] += 1
    columns = (self._source.name, frame.number, frame.file, frame.seconds, result.status)
    if result.status == "no_face":
      self._no_face.add(frame.number, frame.seconds, duration)
    elif result.status == "unreadable":
      self._unreadable.add(frame.number, frame.seconds, duration)
    if not result.detections:
      yield PredictionRow(*columns)
    for detection in result.detections:
      person, scores = detection.person, detection.scores
      spotter = self._spotter(person, frame.seconds)
      motion = spotter.push(FrameCues(frame.number, frame.seconds, detection.motion, scores))
      if person in self._series:
        self._series[person].add(frame.number, frame.seconds, scores, motion, detection.face)
      label = None if scores is None else labels[int(scores.argmax())]
      yield PredictionRow(
        *columns, person=person, box=detection.box, label=label, motion=motion, scores=scores
      )


def photograph_rows(source: VideoSource, predictor: Predictor) -> list[PredictionRow]:
  """Rows of predictions.csv for an image: one per face, largest face first."""
  try:
    results = predictor.predict(read_image(source.name))
  except UnreadableImage:
    return [PredictionRow(source.name, 0, "", 0.0, "unreadable")]
  rows = []
  for number, result in enumerate(results, start=1):
    if result.status != "ok":
      rows.append(PredictionRow(source.name, 0, "", 0.0, result.status))
      continue
    scores = np.array([result.scores[label] for label in predictor.labels])
    rows.append(
      PredictionRow(source.name, 0, "", 0.0, "ok", number, result.box, result.label, None, scores)
    )
  return rows
