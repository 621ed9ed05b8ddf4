"""Results of a photograph, and results of a video that is read when they are needed."""

import dataclasses
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from jax_me.inference.prediction_inputs import Photograph, UnusableInput, read_photograph
from jax_me.inference.results import FaceResult, FrameResult, Results
from jax_me.inference.video.annotation import draw_photograph
from jax_me.inference.video.frame_stream import FrameDetections, FrameStreamSettings
from jax_me.inference.video.sources import VideoSource
from jax_me.inference.video.spotting import ExpressionEvent

if TYPE_CHECKING:
  from jax_me.inference.predictor import Predictor
  from jax_me.inference.video.run import VideoSession


class PhotographResults(Results[FaceResult]):
  """The faces of a photograph, largest first; one result with another status if there is none.

  Args:
    photograph: is read again to be drawn.
    result: its detections.
    predictor: the model.
  """

  def __init__(
    self,
    photograph: Photograph | UnusableInput,
    result: FrameDetections,
    predictor: "Predictor",
  ):
    super().__init__(face_results(result, predictor.labels), photograph.name, predictor)
    self._photograph = photograph
    # Without the image, which would fill the memory.
    frame = dataclasses.replace(result.frame, image=None)
    self._result = dataclasses.replace(result, frame=frame)

  @property
  def status(self) -> str:
    """ "ok", "no_face" or "unreadable"."""
    return self._result.status

  def detections(self, *, image: bool = False) -> FrameDetections:
    """The photograph as a frame with its detections; `image` reads it again."""
    if not image or self.status == "unreadable":
      return self._result
    pixels, reason = read_photograph(self._photograph)
    frame = dataclasses.replace(self._result.frame, image=pixels, reason=reason)
    return dataclasses.replace(self._result, frame=frame)

  def to_records(self) -> list[dict[str, Any]]:
    # As in predictions.csv, the folder and the file have columns of their own.
    file = self._result.frame.file
    folder = os.path.dirname(self.name) if file else self.name
    return [face.to_record(folder) for face in self]

  def plot(self) -> Image.Image | None:
    assert self._predictor is not None
    drawn = draw_photograph(self.detections(image=True), self._predictor.labels)
    return None if drawn is None else Image.fromarray(drawn)

  def events(self) -> list[ExpressionEvent]:
    return []

  def _parts(self) -> "Iterator[PhotographResults | VideoResults]":
    yield self


class VideoResults(Results[FrameResult]):
  """The frames of a video, read when they are needed.

  A loop over the results reads the video as a stream and keeps nothing, so that memory does not
  grow. Everything else (`len`, an index, `to_df`, `plot`, `events`) reads it once to its end and
  keeps the results, but not the images.

  Args:
    source: the video.
    predictor: the model.
    stream: settings of detection and classification.
    seconds: stop after this many seconds; None reads to the end.
  """

  def __init__(
    self,
    source: VideoSource,
    predictor: "Predictor",
    stream: FrameStreamSettings,
    seconds: float | None = None,
  ):
    super().__init__((), source.name, predictor, source.note)
    self._items = None
    self.source = source
    self.stream = stream
    self.seconds = seconds
    self._session: VideoSession | None = None

  def collect(self) -> "VideoResults":
    """Reads the video to its end, if it was not read yet, and keeps its results; returns self.

    Raises:
      ValueError: a camera without a limit of seconds.
    """
    if self._items is None:
      if self.source.kind == "camera" and self.seconds is None:
        raise ValueError(f"{self.name} has no end: loop over the results, or give seconds=")
      session = self._new_session()
      self._items = list(self._results(session))
      session.finish()
      self._session = session
    return self

  def __iter__(self) -> Iterator[FrameResult]:
    if self._items is not None:
      return iter(self._items)
    return self._results(self._new_session())

  def __bool__(self) -> bool:
    return self._items is None or bool(self._items)

  def __repr__(self) -> str:
    if self._items is not None:
      return super().__repr__()
    length = "" if self.source.length is None else f"{self.source.length} frames, "
    return (
      f"Results, {self.source.kind} not read yet: {self.name} ({length}{self.source.fps:g} frames "
      "per second)\n"
      + (f"  {self.note}\n" if self.note else "")
      + "  loop over it to read it as a stream, or call collect()"
    )

  def plot(self) -> Image.Image:
    self.collect()
    assert self._session is not None
    return Image.open(io.BytesIO(self._session.timeline))

  def events(self) -> list[ExpressionEvent]:
    self.collect()
    assert self._session is not None
    return list(self._session.events)

  def _new_session(self) -> "VideoSession":
    # Imported here: it imports the predictor, and photographs do not need it.
    from jax_me.inference.video.run import VideoSession, VideoSessionSettings

    assert self._predictor is not None
    settings = VideoSessionSettings(stream=self.stream, seconds=self.seconds, quiet=True)
    return VideoSession(self.source, self._predictor, settings)

  def _results(self, session: "VideoSession") -> Iterator[FrameResult]:
    assert self._predictor is not None
    for result in session.results():
      yield from frame_results(result, self._predictor.labels)

  def _parts(self) -> "Iterator[PhotographResults | VideoResults]":
    yield self


def face_results(result: FrameDetections, labels: Sequence[str]) -> list[FaceResult]:
  """One result per face of a photograph; without any, one with the status and the reason."""
  return _make_results(FaceResult, result, labels, {})


def frame_results(result: FrameDetections, labels: Sequence[str]) -> list[FrameResult]:
  """One result per person of a frame; without any, one with the status and the reason."""
  frame = result.frame
  return _make_results(
    FrameResult, result, labels, {"frame": frame.number, "seconds": frame.seconds}
  )


def _make_results(
  kind: Callable[..., Any], result: FrameDetections, labels: Sequence[str], when: dict[str, Any]
) -> list[Any]:
  common = {**when, "file": result.frame.file}
  if not result.detections:
    return [kind(None, {}, None, result.status, reason=result.frame.reason, **common)]
  results = []
  for detection in result.detections:
    assert detection.scores is not None
    scores = {name: float(x) for name, x in zip(labels, detection.scores, strict=True)}
    label = labels[int(detection.scores.argmax())]
    valence, arousal = (None, None) if detection.affect is None else map(float, detection.affect)
    results.append(
      kind(
        label,
        scores,
        detection.box,
        result.status,
        person=detection.person,
        landmarks=detection.landmarks,
        motion=detection.distance,
        pose=detection.pose,
        valence=valence,
        arousal=arousal,
        **common,
      )
    )
  return results
