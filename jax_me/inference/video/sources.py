"""Video sources: frames of images, folders, video files and cameras.

Frames are streamed. Every frame of a source is yielded, including unreadable ones, so that the
results account for all of them.
"""

import dataclasses
import functools
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import cv2
import numpy as np

from jax_me.faces.image_files import UnreadableImage, is_image_name, read_image
from jax_me.inference.video.image_sequence import is_image_sequence
from jax_me.inference.video.video_limits import VideoLimits

VIDEO_SUFFIXES = frozenset(
  ".mp4 .m4v .mov .avi .mkv .webm .wmv .mpg .mpeg .mts .m2ts .ts .3gp .flv .ogv .mjpeg".split()
)
# Used for folders of frames, and for files without a valid frame rate.
DEFAULT_FPS = 30.0
# Rates outside this range are a container's time base, not a frame rate.
FPS_RANGE = (0.5, 2000.0)
# Consecutive read failures that end a source of unknown length.
MAX_FAILURES = 30

CAMERA = "camera:"
# The images of a folder: photographs, each on its own, or the frames of one clip.
ReadAs = Literal["photos", "frames"]


class VideoError(ValueError):
  """A source that cannot be opened; the message names it and suggests what to do."""


@dataclasses.dataclass(frozen=True)
class Frame:
  """One frame of a source.

  Attributes:
    number: index in the source, from 0.
    seconds: time since the first frame.
    image: uint8 [H, W, 3] RGB; None if it is unreadable.
    file: file name of the image in a folder of images, else "".
    reason: why the image is None, else "".
  """

  number: int
  seconds: float
  image: np.ndarray | None
  file: str = ""
  reason: str = ""


@dataclasses.dataclass(frozen=True)
class VideoSource:
  """A source of images: photograph, folder of photographs or of frames, video file or camera.

  Attributes:
    name: path as given by the user; for files found in a folder, including the folder.
    kind: "photograph", "photographs" (a folder, each on its own), "frames" (a folder, one clip),
      "video" or "camera".
    fps: frames per second; 0 for photographs.
    length: number of frames according to the file; None if unknown.
    note: remark for the user, for example that a frame rate is assumed, else "".
    frames: returns an iterator over the frames, or over the photographs.
    files: of photographs, in order; empty for other kinds.
    sound: path of a video file whose sound fits the times of the frames, else "".
    limits: of a video file.
  """

  name: str
  kind: str
  fps: float
  length: int | None
  note: str
  frames: Callable[[], Iterator[Frame]]
  files: tuple[pathlib.Path, ...] = ()
  sound: str = ""
  limits: VideoLimits = VideoLimits()

  def check_length(self, seconds: float | None) -> None:
    """Raises VideoError for a video file with too many frames, unless only a part is read."""
    if self.kind == "video" and seconds is None and self.length is not None:
      if problem := self.limits.problem_of_length(self.length):
        raise VideoError(f"{self.name}: {problem}")


def find_sources(
  inputs: Iterable[str | os.PathLike],
  fps: float | None = None,
  read_as: ReadAs | None = None,
  limits: VideoLimits = VideoLimits(),  # noqa: B008 (frozen)
) -> list[VideoSource]:
  """Finds the video sources of all inputs, in order.

  An image file is a photograph. The images of a folder, sorted by the numbers in their names (2
  before 10), are photographs or the frames of one clip; its video files and subfolders are
  separate sources. Any other file is opened as a video. "camera:0" is the first camera. With
  `read_as` "frames", several image files of one folder are the frames of one clip too.

  Args:
    inputs: paths, or "camera:N".
    fps: frames per second, for folders of frames and to override the rate of video files: files
      of high-speed cameras often play more slowly than recorded.
    read_as: how to read the images of folders; None decides by `reads_as`, and takes folders with
      a given `fps` for frames.
    limits: of video files. One that turns out to have more frames ends with an unreadable frame.

  Returns:
    the sources; files are not read yet, but video files have been opened.

  Raises:
    VideoError: a path does not exist, a folder has no images or videos, a file is not a video or
      has too large frames, or the rate is out of range.
  """
  check_fps(fps)
  sources: list[VideoSource] = []
  names = [os.fspath(item) for item in inputs]
  clips = _clips_of_files(names) if read_as == "frames" else {}
  for name in names:
    if name.startswith(CAMERA):
      sources.append(_camera_source(name, fps))
      continue
    path = pathlib.Path(name)
    if path.is_dir():
      in_folder = _folder_sources(path, fps, read_as or ("frames" if fps else None), limits)
      if not in_folder:
        raise VideoError(f"{name} contains no images and no video files")
      sources += in_folder
    elif not path.is_file():
      raise VideoError(f"{name} does not exist; check the path (for a camera, use camera:0)")
    elif path in clips:
      if images := clips[path]:
        sources.append(_frames_source(path.parent, tuple(images), fps, guessed=False))
        images.clear()  # the list of all images of this clip
    elif is_image_name(path.name):
      sources.append(_photograph_source(path))
    else:
      sources.append(_video_source(path, fps, limits))
  return sources


def _clips_of_files(names: Iterable[str]) -> dict[pathlib.Path, list[pathlib.Path]]:
  """Each image file -> the images of its folder among `names`, if there are several."""
  folders: dict[pathlib.Path, list[pathlib.Path]] = {}
  for path in sorted(
    {pathlib.Path(name) for name in names}, key=lambda p: natural_sort_key(p.name)
  ):
    if is_image_name(path.name) and path.is_file():
      folders.setdefault(path.parent, []).append(path)
  clips = (images for images in folders.values() if len(images) > 1)
  return {path: images for images in clips for path in images}


def check_fps(fps: float | None) -> None:
  """Raises VideoError for a frame rate out of range."""
  if fps is not None and not FPS_RANGE[0] <= fps <= FPS_RANGE[1]:
    low, high = FPS_RANGE
    raise VideoError(f"frames per second must be in [{low:g}, {high:g}], got {fps:g}")


def reads_as(folder: str | os.PathLike) -> ReadAs:
  """Decides whether the images of a folder are photographs or the frames of one clip.

  Returns:
    "frames" for images that `is_image_sequence` takes for one, else "photos".
  """
  return "frames" if is_image_sequence(_images(_sorted_files(pathlib.Path(folder)))) else "photos"


def _photograph_source(path: pathlib.Path) -> VideoSource:
  return VideoSource(
    str(path), "photograph", 0.0, 1, "", lambda: iter([_read_frame(path, 0, 0.0, "")]), (path,)
  )


def _sorted_files(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(folder.iterdir(), key=lambda path: natural_sort_key(path.name))


def _images(files: Iterable[pathlib.Path]) -> list[pathlib.Path]:
  return [path for path in files if is_image_name(path.name) and path.is_file()]


def _folder_sources(
  folder: pathlib.Path,
  fps: float | None,
  read_as: ReadAs | None,
  limits: VideoLimits,
  parents: tuple[pathlib.Path, ...] = (),
) -> list[VideoSource]:
  resolved = folder.resolve()
  if resolved in parents:  # a symbolic link to a parent folder
    return []
  files = _sorted_files(folder)
  sources = []
  if images := _images(files):
    decided = read_as or reads_as(folder)
    if decided == "photos":
      sources.append(_photographs_source(folder, images, guessed=read_as is None))
    else:
      sources.append(_frames_source(folder, images, fps, guessed=read_as is None))
  for path in files:
    if path.is_dir():
      sources += _folder_sources(path, fps, read_as, limits, (*parents, resolved))
    elif path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("."):
      sources.append(_video_source(path, fps, limits))
  return sources


def natural_sort_key(name: str) -> list[tuple[int, str]]:
  """Sort key that compares the numbers in a name by value: "frame2" before "frame10"."""
  parts = re.split(r"(\d+)", name.casefold())
  return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]


def _photographs_source(
  folder: pathlib.Path, images: Sequence[pathlib.Path], guessed: bool
) -> VideoSource:
  note = f"{len(images)} photographs, each read on its own"
  note += " (for the frames of one clip: --as frames)" if guessed and len(images) > 1 else ""

  def read() -> Iterator[Frame]:
    for number, path in enumerate(images):
      yield _read_frame(path, number, 0.0, path.name)

  return VideoSource(str(folder), "photographs", 0.0, len(images), note, read, tuple(images))


def _frames_source(
  folder: pathlib.Path, images: Sequence[pathlib.Path], fps: float | None, guessed: bool
) -> VideoSource:
  rate = fps or DEFAULT_FPS
  note = f"{len(images)} images, read as the frames of one clip"
  note += " (for unrelated photographs: --as photos)" if guessed else ""
  if not fps:
    note += f"; no frame rate given, assuming {rate:g} frames per second (set --fps)"

  def read() -> Iterator[Frame]:
    for number, path in enumerate(images):
      yield _read_frame(path, number, number / rate, path.name)

  return VideoSource(str(folder), "frames", rate, len(images), note, read)


def _read_frame(path: pathlib.Path, number: int, seconds: float, file: str) -> Frame:
  try:
    return Frame(number, seconds, read_image(path), file)
  except UnreadableImage as error:
    return Frame(number, seconds, None, file, error.reason)


def _video_source(path: pathlib.Path, fps: float | None, limits: VideoLimits) -> VideoSource:
  name = str(path)
  if not path.is_file():  # Opening a pipe would wait for a writer.
    raise VideoError(f"{name} is a pipe, a device or a broken link, not a video file: remove it")
  capture = _open_capture(name, name)
  size = [int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
  if problem := limits.problem_of_size(*size):
    capture.release()
    raise VideoError(f"{name}: {problem}")
  stated, frames = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
  capture.release()
  rate, note = fps or stated, ""
  if not FPS_RANGE[0] <= rate <= FPS_RANGE[1]:
    rate = DEFAULT_FPS
    note = (
      f"the file has an invalid frame rate ({stated:g}), assuming {rate:g} frames per second "
      "(set --fps)"
    )
  length = frames if 0 < frames < 10**9 else None
  read = functools.partial(_decode_video, name, rate, length, fps is None, limits)
  # With another frame rate the sound would not fit.
  return VideoSource(
    name, "video", rate, length, note, read, sound="" if fps else name, limits=limits
  )


def _decode_video(
  path: str, rate: float, length: int | None, use_timestamps: bool, limits: VideoLimits
) -> Iterator[Frame]:
  """Frames of a video file, including those that fail to decode."""
  capture = _open_capture(path, path)
  number, failures, seconds = 0, 0, -1.0
  try:
    # The decoder fails once per broken frame and continues with the next one; at the end of the
    # file every read fails.
    while failures < max(MAX_FAILURES, (length or 0) - number):
      ok, image = capture.read()
      if not ok or image is None:
        failures += 1
        continue
      if problem := limits.problem_of_length(number + failures + 1):
        yield Frame(number, max(seconds, 0.0), None, reason=problem)
        return
      now = (number + failures) / rate
      # Timestamps of the file: phones record with a variable frame rate.
      if use_timestamps and (stamp := capture.get(cv2.CAP_PROP_POS_MSEC) / 1000) > seconds >= 0:
        now = stamp
      for broken in range(failures):
        when = seconds + (now - seconds) * (broken + 1) / (failures + 1)
        yield Frame(number, max(when, 0.0), None, reason="broken frame")
        number += 1
      failures = 0
      # A stream may change the size of its frames.
      problem = limits.problem_of_size(image.shape[1], image.shape[0])
      yield Frame(
        number, now, None if problem else cv2.cvtColor(image, cv2.COLOR_BGR2RGB), reason=problem
      )
      number, seconds = number + 1, now
    missing = length is not None and number < length
    broken = _count_packets_after(path, seconds) if missing else 0
    for _ in range(min(broken, failures)):
      yield Frame(number, number / rate, None, reason="broken frame")
      number += 1
  finally:
    capture.release()


def _count_packets_after(path: str, seconds: float) -> int:
  """Number of packets after a time; after the last decoded frame, these are broken frames."""
  capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])  # not decoded
  count = 0
  try:
    while capture.isOpened() and capture.grab():
      count += capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 > seconds + 1e-6
  finally:
    capture.release()
  return count


def _camera_source(name: str, fps: float | None) -> VideoSource:
  index = name.removeprefix(CAMERA)
  if not index.isdecimal():
    raise VideoError(f"invalid camera {name!r}: use camera:0, camera:1, ...")
  capture = _open_capture(int(index), name)
  stated = capture.get(cv2.CAP_PROP_FPS)
  capture.release()
  rate = fps or (stated if FPS_RANGE[0] <= stated <= FPS_RANGE[1] else DEFAULT_FPS)

  def read() -> Iterator[Frame]:
    capture = _open_capture(int(index), name)
    number, failures, start = 0, 0, time.monotonic()
    try:
      while failures < MAX_FAILURES:
        ok, image = capture.read()
        now = time.monotonic() - start
        if not ok or image is None:
          failures += 1
          yield Frame(number, now, None, reason="the camera returned no image")
        else:
          failures = 0
          yield Frame(number, now, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        number += 1
    finally:
      capture.release()

  return VideoSource(name, "camera", rate, None, "", read)


def _open_capture(source: str | int, name: str) -> cv2.VideoCapture:
  if isinstance(source, int):
    capture = cv2.VideoCapture(source)
    hint = "check that it is connected and not in use"
  else:
    # FFmpeg only: other back ends treat a name such as img_01.txt as an image sequence.
    capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG)
    hint = "not a video, or damaged (to re-encode it: ffmpeg -i FILE -c:v libx264 copy.mp4)"
  if not capture.isOpened():
    capture.release()
    raise VideoError(f"cannot open {name}: {hint}")
  return capture
