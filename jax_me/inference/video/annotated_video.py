"""Annotated copy of a video in a format that browsers play.

With PyAV (extra `video`): H.264 in MP4 with the times and the sound of the source. Without it: VP9
in WebM by OpenCV, smaller and without sound; the H.264 encoder is not part of OpenCV's wheel.
"""

import contextlib
import fractions
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import cv2
import numpy as np

from jax_me.inference.video.annotation import draw_detections
from jax_me.inference.video.frame_stream import FrameDetections

# Longer sides are downscaled. OpenCV's VP9 encoder takes 0.1 s per frame at 640 x 360, and has no
# faster setting.
MAX_SIDE = {".mp4": 1280, ".webm": 640}
DEFAULT_SUFFIX = ".webm"  # needs no further package
MIME = {".mp4": "video/mp4", ".webm": "video/webm"}
# Unit of the times of frames in seconds; fits milliseconds and all usual frame rates.
_TIME_BASE = fractions.Fraction(1, 90_000)


def annotated_suffix() -> str:
  """ ".mp4" if PyAV with an H.264 encoder is installed, else ".webm"."""
  try:
    import av
  except ImportError:
    return DEFAULT_SUFFIX
  return ".mp4" if "libx264" in av.codecs_available else DEFAULT_SUFFIX


def partial_path(path: pathlib.Path) -> pathlib.Path:
  """The temporary file of a copy; its suffix selects the container."""
  return path.with_name(f".{path.stem}.partial{path.suffix}")


class _Encoder(Protocol):
  def write(self, image: np.ndarray, seconds: float) -> None: ...
  def close(self) -> None: ...


class AnnotatedVideoWriter:
  """Writes the annotated copy to a temporary file, renamed to `path` when it is closed.

  Args:
    path: of the copy, with the suffix of `annotated_suffix`, which selects the format.
    fps: frames per second.
    labels: class names.
    sound: video file whose sound is copied (MP4 only); None for none.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    fps: float,
    labels: Sequence[str],
    sound: str | os.PathLike | None = None,
  ):
    self.path = pathlib.Path(path)
    self._partial = partial_path(self.path)
    self._fps = fps
    self._labels = labels
    self._sound = sound
    self._encoder: _Encoder | None = None
    self._size = (640, 480)
    self._unwritten: list[FrameDetections] = []

  def write(self, result: FrameDetections) -> None:
    """Adds a frame.

    Raises:
      OSError: the file cannot be written.
    """
    if self._encoder is None:
      if result.frame.image is None:  # the frame size is not known yet
        self._unwritten.append(result)
        return
      self._encoder = self._open(result.frame.image)
    for frame in (*self._unwritten, result):
      self._encoder.write(draw_detections(frame, self._labels, self._size), frame.frame.seconds)
    self._unwritten.clear()

  def _open(self, image: np.ndarray) -> _Encoder:
    height, width = image.shape[:2]
    scale = min(1.0, MAX_SIDE[self.path.suffix] / max(height, width))
    # The encoders require even sides.
    self._size = (max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2))
    self.path.parent.mkdir(parents=True, exist_ok=True)
    return _open_encoder(self._partial, self._fps, self._size, self._sound)

  def close(self) -> None:
    """Finishes the file; without a readable frame no file is written."""
    if self._encoder is not None:
      self._encoder.close()
      os.replace(self._partial, self.path)
      self._encoder = None


def write_plain_video(path: pathlib.Path, images: Iterable[np.ndarray], fps: float) -> None:
  """Writes images as a video without annotations.

  Args:
    path: with the suffix of `annotated_suffix`, which selects the format.
    images: uint8 [H, W, 3] RGB, of one size with even sides.
    fps: frames per second.

  Raises:
    OSError: the file cannot be written.
  """
  encoder: _Encoder | None = None
  for number, image in enumerate(images):
    if encoder is None:
      encoder = _open_encoder(path, fps, (image.shape[1], image.shape[0]))
    encoder.write(image, number / fps)
  if encoder is not None:
    encoder.close()


def _open_encoder(
  path: pathlib.Path, fps: float, size: tuple[int, int], sound: str | os.PathLike | None = None
) -> _Encoder:
  """The encoder of a suffix of `annotated_suffix`; for the arguments see `_Mp4Encoder`."""
  if path.suffix == ".mp4":
    return _Mp4Encoder(path, fps, size, sound)
  return _WebmEncoder(path, fps, size)


class _WebmEncoder:
  """VP9 at a constant frame rate."""

  def __init__(self, path: pathlib.Path, fps: float, size: tuple[int, int]):
    code = cv2.VideoWriter.fourcc(*"VP90")
    with _without_native_messages():  # one about the code, which WebM does not store
      self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, fps, size)
    if not self._writer.isOpened():
      raise OSError(f'OpenCV cannot write {path.name} (VP9); pip install "jax_me[video]" for H.264')

  def write(self, image: np.ndarray, seconds: float) -> None:
    self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

  def close(self) -> None:
    self._writer.release()


class _Mp4Encoder:
  """H.264 and AAC, frames at their own times."""

  def __init__(
    self,
    path: pathlib.Path,
    fps: float,
    size: tuple[int, int],
    sound: str | os.PathLike | None,
  ):
    import av

    self._path = path
    self._last = -1
    with self._errors():
      # The index in front lets browsers start before the whole file is read.
      self._file = av.open(str(path), "w", options={"movflags": "+faststart"})
      rate = fractions.Fraction(fps).limit_denominator(1001)
      self._stream: Any = self._file.add_stream("libx264", rate=rate)
      self._stream.width, self._stream.height = size
      self._stream.pix_fmt = "yuv420p"  # browsers play no other
      self._stream.options = {"crf": "23", "preset": "veryfast"}
      self._stream.time_base = self._stream.codec_context.time_base = _TIME_BASE
      self._sound = None if sound is None else _open_sound(self._file, sound)

  def write(self, image: np.ndarray, seconds: float) -> None:
    import av

    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    self._last = max(self._last + 1, round(seconds / _TIME_BASE))
    frame.pts, frame.time_base = self._last, _TIME_BASE
    with self._errors():
      self._file.mux(self._stream.encode(frame))
      if self._sound is not None:
        self._sound.copy_until(seconds)

  def close(self) -> None:
    with self._errors():
      self._file.mux(self._stream.encode(None))
      if self._sound is not None:
        self._sound.close()
      self._file.close()

  @contextlib.contextmanager
  def _errors(self) -> Iterator[None]:
    """Raises OSError for the errors of FFmpeg."""
    import av

    try:
      yield
    except av.error.FFmpegError as error:
      raise OSError(f"cannot write {self._path}: {error}") from error


class _Sound:
  """Sound of a video file, encoded as AAC while the frames are written."""

  def __init__(self, target: Any, source: Any):
    import av

    self._target, self._source = target, source
    video = source.streams.video[0]
    self._start = float((video.start_time or 0) * video.time_base)
    stream = source.streams.audio[0]
    self._rate = stream.codec_context.sample_rate or 48_000
    self._resampler = av.AudioResampler(format="fltp", layout="stereo", rate=self._rate)
    self._stream = target.add_stream("aac", rate=self._rate, layout="stereo")
    self._frames = self._decode(stream)
    self._next: Any = next(self._frames, None)

  def _decode(self, stream: Any) -> Iterator[Any]:
    """Frames from the first image on; a damaged rest is left out."""
    import av

    with contextlib.suppress(av.error.FFmpegError):
      for frame in self._source.decode(stream):
        if frame.time is None or frame.time < self._start:
          continue
        shift = round(self._start / frame.time_base)
        frame.pts -= shift
        yield from self._resampler.resample(frame)

  def copy_until(self, seconds: float) -> None:
    while self._next is not None and (self._next.time or 0.0) <= seconds:
      self._target.mux(self._stream.encode(self._next))
      self._next = next(self._frames, None)

  def close(self) -> None:
    self._target.mux(self._stream.encode(None))
    self._source.close()


def _open_sound(target: Any, path: str | os.PathLike) -> _Sound | None:
  """None for a file without sound that can be decoded."""
  import av

  try:
    source = av.open(os.fspath(path))
    if source.streams.audio and source.streams.video:
      return _Sound(target, source)
    source.close()
  except (av.error.FFmpegError, ValueError):
    pass
  return None


@contextlib.contextmanager
def _without_native_messages() -> Iterator[None]:
  """Discards what native code writes to the standard error stream."""
  sys.stderr.flush()
  kept = os.dup(2)
  nothing = os.open(os.devnull, os.O_WRONLY)
  try:
    os.dup2(nothing, 2)
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nothing)
