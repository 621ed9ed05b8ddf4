"""Frames of anything that a user may give: photographs, folders of frames, videos, a camera.

Reading is streaming, and every frame that the input holds comes out, also those that cannot be
read: what becomes of a frame is for the reader of the results to see, not to guess from a gap.
"""

import dataclasses
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np

from jax_me.faces.image_files import UnreadableImage, is_image_name, read_image

VIDEO_SUFFIXES = frozenset(
  ".mp4 .m4v .mov .avi .mkv .webm .wmv .mpg .mpeg .mts .m2ts .ts .3gp .flv .ogv .mjpeg".split()
)
# Taken for folders of frames, which do not say their rate, and for files that do not know theirs.
DEFAULT_FPS = 30.0
# Rates outside are a container's time base rather than a camera's rate.
FPS_RANGE = (0.5, 2000.0)
# After so many failures in a row a video whose length is unknown is over.
FAILURES_AT_END = 30

CAMERA = "camera:"


class VideoError(ValueError):
  """An input that cannot be opened. The message names it and the remedy."""


@dataclasses.dataclass(frozen=True)
class Frame:
  """One frame of an input.

  Attributes:
    number: place in the input, from 0.
    seconds: time since the first frame.
    image: uint8 [H, W, 3] RGB; None where it cannot be read.
    file: name of the frame's own file in a folder of frames, else "".
    reason: why there is no image, else "".
  """

  number: int
  seconds: float
  image: np.ndarray | None
  file: str = ""
  reason: str = ""


@dataclasses.dataclass(frozen=True)
class Footage:
  """An input that can be read once from its first frame to its last.

  Attributes:
    name: as the user gave it; of a file below a folder, with the folder.
    kind: "photograph", "frames", "video" or "camera".
    fps: frames a second.
    length: number of frames where it is known beforehand, by what the file says.
    note: what the user should know of the rate or the length, else "".
    frames: gives the frames.
  """

  name: str
  kind: str
  fps: float
  length: int | None
  note: str
  frames: Callable[[], Iterator[Frame]]


def find_footage(inputs: Iterable[str | os.PathLike], fps: float | None = None) -> list[Footage]:
  """What the inputs hold, in their order.

  A picture is a photograph. A folder's pictures are the frames of one clip, in the order of the
  numbers in their names (2 before 10); its video files and its subfolders are inputs of their own.
  Any other file is opened as a video. "camera:0" is the first camera.

  Args:
    inputs: paths, or "camera:N".
    fps: frames a second, for folders of frames, and instead of what a video file says: a
      high-speed camera's file often plays slower than it was taken.

  Raises:
    VideoError: nothing there, a folder without pictures and videos, a file that is no video, a
      rate out of range.
  """
  if fps is not None and not FPS_RANGE[0] <= fps <= FPS_RANGE[1]:
    low, high = FPS_RANGE
    raise VideoError(f"frames a second must be in [{low:g}, {high:g}], got {fps:g}")
  found: list[Footage] = []
  for given in inputs:
    name = os.fspath(given)
    if name.startswith(CAMERA):
      found.append(_camera(name, fps))
      continue
    path = pathlib.Path(name)
    if path.is_dir():
      inside = _folder(path, fps)
      if not inside:
        raise VideoError(f"{name} holds no pictures and no video files")
      found += inside
    elif not path.is_file():
      raise VideoError(f"{name} does not exist; check the path (a camera is camera:0)")
    elif is_image_name(path.name):
      found.append(_photograph(path))
    else:
      found.append(_video(path, fps))
  return found


def _photograph(path: pathlib.Path) -> Footage:
  return Footage(str(path), "photograph", 0.0, 1, "", lambda: iter([_picture(path, 0, 0.0, "")]))


def _folder(folder: pathlib.Path, fps: float | None, above: tuple = ()) -> list[Footage]:
  real = folder.resolve()
  if real in above:  # a link that leads back
    return []
  files = sorted(folder.iterdir(), key=lambda path: _by_number(path.name))
  pictures = [path for path in files if is_image_name(path.name) and path.is_file()]
  found = [_frames(folder, pictures, fps)] if pictures else []
  for path in files:
    if path.is_dir():
      found += _folder(path, fps, (*above, real))
    elif path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("."):
      found.append(_video(path, fps))
  return found


def _by_number(name: str) -> list:
  """Sorts "frame10" after "frame2": the numbers in a name count as numbers."""
  parts = re.split(r"(\d+)", name.casefold())
  return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]


def _frames(folder: pathlib.Path, pictures: list[pathlib.Path], fps: float | None) -> Footage:
  rate = fps or DEFAULT_FPS
  note = "" if fps else f"a folder does not say its frames a second: {rate:g} taken, see --fps"

  def read() -> Iterator[Frame]:
    for number, path in enumerate(pictures):
      yield _picture(path, number, number / rate, path.name)

  return Footage(str(folder), "frames", rate, len(pictures), note, read)


def _picture(path: pathlib.Path, number: int, seconds: float, file: str) -> Frame:
  try:
    return Frame(number, seconds, read_image(path), file)
  except UnreadableImage as error:
    return Frame(number, seconds, None, file, error.reason)


def _video(path: pathlib.Path, fps: float | None) -> Footage:
  capture = _open(str(path), str(path))
  stated, length = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
  capture.release()
  rate, note = fps or stated, ""
  if not FPS_RANGE[0] <= rate <= FPS_RANGE[1]:
    rate = DEFAULT_FPS
    note = f"the file states {stated:g} frames a second: {rate:g} taken, see --fps"
  known = length if 0 < length < 10**9 else None
  return Footage(
    str(path), "video", rate, known, note, lambda: _decoded(str(path), rate, known, fps is None)
  )


def _decoded(path: str, rate: float, length: int | None, own_time: bool) -> Iterator[Frame]:
  """Frames of a file; one that fails to decode, and is followed by others, gives a Frame too."""
  capture = _open(path, path)
  number, failures, seconds = 0, 0, -1.0
  try:
    # The decoder fails once for each broken frame and goes on with the next one; at the end of
    # the file it fails for ever.
    while failures < max(FAILURES_AT_END, (length or 0) - number):
      ok, image = capture.read()
      if not ok or image is None:
        failures += 1
        continue
      now = (number + failures) / rate
      # Of files whose frames come irregularly (phones), the times are taken from the file.
      if own_time and (stamp := capture.get(cv2.CAP_PROP_POS_MSEC) / 1000) > seconds >= 0:
        now = stamp
      for lost in range(failures):
        when = seconds + (now - seconds) * (lost + 1) / (failures + 1)
        yield Frame(number, max(when, 0.0), None, reason="broken frame")
        number += 1
      failures = 0
      yield Frame(number, now, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
      number, seconds = number + 1, now
    lost = _packets_from(path, seconds) if length is not None and number < length else 0
    for _ in range(min(lost, failures)):
      yield Frame(number, number / rate, None, reason="broken frame")
      number += 1
  finally:
    capture.release()


def _packets_from(path: str, seconds: float) -> int:
  """How many packets a file holds after a time: the broken ones at the end of a video."""
  capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])  # not decoded
  count = 0
  try:
    while capture.isOpened() and capture.grab():
      count += capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 > seconds + 1e-6
  finally:
    capture.release()
  return count


def _camera(name: str, fps: float | None) -> Footage:
  index = name.removeprefix(CAMERA)
  if not index.isdecimal():
    raise VideoError(f"{name}: a camera is camera:0, camera:1, ...")
  capture = _open(int(index), name)
  stated = capture.get(cv2.CAP_PROP_FPS)
  capture.release()
  rate = fps or (stated if FPS_RANGE[0] <= stated <= FPS_RANGE[1] else DEFAULT_FPS)

  def read() -> Iterator[Frame]:
    capture = _open(int(index), name)
    number, failures, start = 0, 0, time.monotonic()
    try:
      while failures < FAILURES_AT_END:
        ok, image = capture.read()
        now = time.monotonic() - start
        if not ok or image is None:
          failures += 1
          yield Frame(number, now, None, reason="the camera gave no picture")
        else:
          failures = 0
          yield Frame(number, now, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        number += 1
    finally:
      capture.release()

  return Footage(name, "camera", rate, None, "", read)


def _open(source: str | int, name: str) -> cv2.VideoCapture:
  if isinstance(source, int):
    capture = cv2.VideoCapture(source)
    remedy = "is it connected, and free?"
  else:
    # FFmpeg only: other back ends take a name such as img_01.txt for a pattern of pictures.
    capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG)
    remedy = "is it a video, and whole? ffmpeg -i FILE -c:v libx264 copy.mp4 makes a plain copy"
  if not capture.isOpened():
    capture.release()
    raise VideoError(f"cannot open {name}: {remedy}")
  return capture
