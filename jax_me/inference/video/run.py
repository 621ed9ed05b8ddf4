"""Video session: one video source to rows of predictions.csv, timeline, report and events."""

import collections
import dataclasses
import math
import pathlib
from collections.abc import Iterator
from typing import Any

from jax_me.files import write_atomically
from jax_me.inference.model_input import InputSpec
from jax_me.inference.predictor import Predictor
from jax_me.inference.video.annotated_video import AnnotatedVideoWriter
from jax_me.inference.video.annotation import draw_detections
from jax_me.inference.video.decimated_series import DecimatedSeries
from jax_me.inference.video.expression_summary import ExpressionSummary
from jax_me.inference.video.face_tracker import ABSENCE_FRAMES
from jax_me.inference.video.frame_stream import (
  FORGET_SECONDS,
  FrameDetections,
  FrameStreamSettings,
  stream_detections,
)
from jax_me.inference.video.result_files import PredictionsFile, event_record, model_record
from jax_me.inference.video.sources import VideoSource
from jax_me.inference.video.spotting import (
  ExpressionEvent,
  ExpressionSpotter,
  SpottingSettings,
)
from jax_me.inference.video.thumbnails import FRAME_SIDE, FaceThumbnails, FrameThumbnails
from jax_me.inference.video.timeline import Timeline, draw_timeline
from jax_me.inference.video.video_report import FRAMES, ReportImages, video_report
from jax_me.progress import Progress
from jax_me.reports.document import to_html

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
    timeline: path of the timeline figure; None for none.
    report: path of the HTML report; None for none.
    annotated: path of the annotated copy; None for no copy.
    seconds: stop after this many seconds; None reads to the end.
    quiet: show no progress.
  """

  stream: FrameStreamSettings
  spotting: SpottingSettings = SpottingSettings()
  timeline: pathlib.Path | None = None
  report: pathlib.Path | None = None
  annotated: pathlib.Path | None = None
  seconds: float | None = None
  quiet: bool = False


class VideoSession:
  """Processes a video, a folder of frames or a camera.

  `run` may be interrupted by KeyboardInterrupt; `finish` then writes the results so far.

  Raises:
    VideoError: the video has too many frames.

  Attributes:
    events: the spotted expressions, in order of their onset; complete after `finish`.
    timeline: PNG of the timeline figure; drawn by `finish`.
  """

  def __init__(self, source: VideoSource, predictor: Predictor, settings: VideoSessionSettings):
    source.check_length(settings.seconds)
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
    self.events: list[ExpressionEvent] = []
    self.timeline = b""
    self._gaps: dict[str, list[tuple[float, float]]] = {"no_face": [], "unreadable": []}
    self._last_status = ""
    self._status_counts: collections.Counter[str] = collections.Counter()
    self._end = 0.0
    spec = InputSpec.from_model(predictor.saved, align=settings.stream.align)
    self._scores_at_rest = not spec.is_motion
    self._summary = ExpressionSummary(predictor.labels, interval, self._scores_at_rest)
    self._faces = FaceThumbnails() if settings.report else None
    self._frames = FrameThumbnails()
    self._copy = self._annotated_copy()

  def run(self, predictions: PredictionsFile) -> None:
    """Processes the source to its end and writes its rows."""
    progress = Progress(self._source.name, self._source.length, quiet=self._settings.quiet)
    try:
      for result in self.results():
        predictions.write(self._source.name, result)
        progress.advance()
    finally:
      progress.close()

  def results(self) -> Iterator[FrameDetections]:
    """Processes the source and yields every frame; memory does not grow with its length."""
    settings = self._settings
    for result in stream_detections(self._source, self._predictor.saved, settings.stream):
      if settings.seconds is not None and result.frame.seconds >= settings.seconds:
        break
      self._add(result)
      self._add_images(result)
      yield result

  def finish(self) -> dict[str, Any]:
    """Writes timeline and report, closes the annotated copy; returns the record for events.json."""
    self._finish_absent(-math.inf)
    events = self.events = sorted(self.events, key=lambda event: (event.onset, event.person))
    if self._copy:
      self._copy.close()
    timeline = Timeline(
      title=pathlib.PurePath(self._source.name).name,
      seconds=self._end,
      labels=self._predictor.labels,
      people=self._series,
      omitted=self._people - len(self._series),
      events=events,
      no_face=self._gaps["no_face"],
      unreadable=self._gaps["unreadable"],
      scores_at_rest=self._scores_at_rest,
    )
    self.timeline = draw_timeline(timeline)
    path = self._settings.timeline
    if path is not None:
      write_atomically(path, self.timeline)
    record = {
      "video": self._source.name,
      "kind": self._source.kind,
      "fps": self._source.fps,
      "frames": self._status_counts.total(),
      "seconds": round(self._end, 4),
      "statuses": dict(self._status_counts),
      "people": self._people,
      "note": self._note(),
      "scores_at_rest": self._scores_at_rest,
      "timeline": path.name if path else "",
      "events": [event_record(event) for event in events],
      "summary": self._summary.rows(events),
    }
    if self._settings.report:
      dark = draw_timeline(timeline, dark=True)
      self._write_report(self._settings.report, record, dark)
    return record

  def _annotated_copy(self) -> AnnotatedVideoWriter | None:
    if self._settings.annotated is None:
      return None
    source = self._source
    path, labels = self._settings.annotated, self._predictor.labels
    return AnnotatedVideoWriter(path, source.fps, labels, source.sound or None)

  def _add_images(self, result: FrameDetections) -> None:
    """Adds a frame to the annotated copy and to the images of the report."""
    if self._copy:
      self._copy.write(result)
    if self._faces is None or result.frame.image is None:
      return
    for detection in result.detections:
      if detection.face is not None and detection.person in self._series:
        motion = detection.distance
        self._faces.add(detection.person, result.frame.number, detection.face, motion)
    examined = result.status in ("ok", "no_face")
    if examined and self._frames.wants(result.frame.seconds):
      height, width = result.frame.image.shape[:2]
      scale = FRAME_SIDE / max(height, width)
      size = max(1, round(scale * width)), max(1, round(scale * height))
      frame = draw_detections(result, self._predictor.labels, size)
      self._frames.add(result.frame.seconds, frame)

  def _write_report(self, path: pathlib.Path, record: dict[str, Any], dark_timeline: bytes) -> None:
    assert self._faces is not None
    copy = self._settings.annotated
    images = ReportImages(
      timeline=self.timeline,
      dark_timeline=dark_timeline,
      frames=self._frames.frames(FRAMES),
      faces=self._faces,
      video=copy if copy is not None and copy.exists() else None,
    )
    model = model_record(self._predictor.saved, "")
    write_atomically(path, to_html(video_report(record, model, images)).encode())

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
        self.events += self._spotters.pop(person).finish()
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
    self._summary.add(result)
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
      detection.displacement = spotter.displacement
      if person in self._series:
        self._series[person].add(
          frame.number, frame.seconds, scores, detection.distance, detection.face
        )
