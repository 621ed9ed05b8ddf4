"""Video session: one video source to rows of predictions.csv, timeline, events, annotated copy."""

import collections
import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from jax_me.files import write_atomically
from jax_me.inference.model_input import InputSpec
from jax_me.inference.predictor import Predictor
from jax_me.inference.video.annotation import AnnotatedVideoWriter
from jax_me.inference.video.decimated_series import DecimatedSeries
from jax_me.inference.video.face_tracker import ABSENCE_FRAMES
from jax_me.inference.video.frame_stream import (
  FORGET_SECONDS,
  Detection,
  FrameDetections,
  FrameStreamSettings,
  stream_detections,
)
from jax_me.inference.video.result_files import PredictionsFile, event_record
from jax_me.inference.video.sources import VideoSource
from jax_me.inference.video.spotting import (
  ExpressionEvent,
  ExpressionSpotter,
  SpottingSettings,
)
from jax_me.inference.video.timeline import Timeline, draw_timeline
from jax_me.progress import Progress

# Time series, for the timeline, are kept for the people with the most frames.
MAX_SERIES = 32
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
    self._gaps: dict[str, list[tuple[float, float]]] = {"no_face": [], "unreadable": []}
    self._last_status = ""
    self._status_counts: collections.Counter[str] = collections.Counter()
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
        self._add(result)
        predictions.write(self._source.name, result)
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
    spec = InputSpec.from_model(self._predictor.saved)
    figure = draw_timeline(
      Timeline(
        title=pathlib.PurePath(self._source.name).name,
        seconds=self._end,
        labels=self._predictor.labels,
        people=self._series,
        omitted=self._people - len(self._series),
        events=events,
        no_face=self._gaps["no_face"],
        unreadable=self._gaps["unreadable"],
        scores_at_rest=not spec.is_motion,
      )
    )
    write_atomically(self._settings.timeline, figure)
    return {
      "video": self._source.name,
      "kind": self._source.kind,
      "fps": self._source.fps,
      "frames": self._status_counts.total(),
      "seconds": round(self._end, 4),
      "statuses": dict(self._status_counts),
      "people": self._people,
      "note": self._note(),
      "timeline": self._settings.timeline.name,
      "events": [event_record(event) for event in events],
    }

  def _note(self) -> str:
    notes = [self._source.note] if self._source.note else []
    length, frames = self._source.length, self._status_counts.total()
    if length is not None and frames != length and self._settings.seconds is None:
      notes.append(f"the file declares {length} frames, but {frames} were read")
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

  def _add(self, result: FrameDetections) -> None:
    """Counts a frame, and adds the people in it to their spotters and time series."""
    frame = result.frame
    end = frame.seconds + 1 / self._source.fps
    self._end = max(self._end, end)
    self._status_counts[result.status] += 1
    # The timeline does not distinguish frames in which no face was searched.
    status = "no_face" if result.status == "not_searched" else result.status
    if (gaps := self._gaps.get(status)) is not None:
      if gaps and status == self._last_status:
        gaps[-1] = (gaps[-1][0], end)
      elif len(gaps) < MAX_INTERVALS:
        gaps.append((frame.seconds, end))
    self._last_status = status
    for detection in result.detections:
      person, scores = detection.person, detection.scores
      spotter = self._spotter(person, frame.seconds)
      detection.distance = spotter.push(detection.cues(frame))
      if person in self._series:
        self._series[person].add(
          frame.number, frame.seconds, scores, detection.distance, detection.face
        )


def classify_photograph(source: VideoSource, predictor: Predictor) -> FrameDetections:
  """The faces of an image, largest face first."""
  (frame,) = source.frames()
  if frame.image is None:
    return FrameDetections(frame, "unreadable", [])
  faces = [face for face in predictor.predict(frame.image) if face.status == "ok"]
  detections = [
    Detection(number, face.box, np.array(list(face.scores.values())))
    for number, face in enumerate(faces, start=1)
  ]
  return FrameDetections(frame, "ok" if faces else "no_face", detections)
