"""Annotated copy of a video: boxes, person numbers and labels."""

import os
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import ImageColor

from jax_me.inference.video.frame_stream import FrameDetections
from jax_me.reports.figures import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION

# Wider videos are downscaled.
MAX_WIDTH = 1280
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# RGB of each person.
_COLOURS = [
  ImageColor.getrgb(colour)[:3] for colour in (BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE)
]


def draw_detections(
  result: FrameDetections, labels: Sequence[str], size: tuple[int, int]
) -> np.ndarray:
  """Draws a frame with its detections, time and status.

  Args:
    result: the frame and its detections.
    labels: class names.
    size: (width, height) of the result; the image is scaled to fit, with black bars.

  Returns:
    uint8 [height, width, 3] RGB.
  """
  width, height = size
  canvas = np.zeros((height, width, 3), np.uint8)
  image = result.frame.image
  scale, left, top = 1.0, 0, 0
  if image is not None:
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = image if scale == 1 else cv2.resize(image, inner, interpolation=method)
    canvas[top : top + inner[1], left : left + inner[0]] = scaled
  font_scale = max(0.4, height / 900)
  for detection in result.detections:
    colour = _COLOURS[(detection.person - 1) % len(_COLOURS)]
    corner = (left + 4, top + 4)
    if detection.box is not None:
      x0, y0, x1, y1 = (round(side * scale) for side in detection.box)
      corner = (left + x0, top + y1 + 2)
      thickness = max(2, round(3 * font_scale))
      cv2.rectangle(canvas, (left + x0, top + y0), (left + x1, top + y1), colour, thickness)
    numbered = len(result.detections) > 1 or detection.person > 1
    lines = [f"person {detection.person}"] if numbered else []
    if detection.scores is not None:
      best = int(detection.scores.argmax())
      lines.append(f"{labels[best]} {100 * detection.scores[best]:.0f}%")
    _draw_text(canvas, lines, corner, font_scale, colour)
  status = "" if result.status == "ok" else result.status.replace("_", " ")
  seconds = result.frame.seconds
  clock = f"{int(seconds) // 60}:{seconds % 60:05.2f}  frame {result.frame.number}"
  _draw_text(canvas, [f"{clock}  {status}".rstrip()], (4, 4), 0.8 * font_scale, (40, 40, 40))
  return canvas


def _draw_text(
  canvas: np.ndarray,
  lines: Sequence[str],
  corner: tuple[int, int],
  font_scale: float,
  colour: tuple[int, int, int],
) -> None:
  """White lines of text on a filled box, moved inside the image if necessary."""
  if not lines:
    return
  thickness = max(1, round(1.6 * font_scale))
  # OpenCV's fonts have ASCII characters only.
  lines = [line.encode("ascii", "replace").decode() for line in lines]
  sizes = [cv2.getTextSize(line, _FONT, font_scale, thickness)[0] for line in lines]
  step = round(max(high for _, high in sizes) * 1.7)
  wide, high = max(w for w, _ in sizes) + 8, step * len(lines) + 4
  x = int(np.clip(corner[0], 0, max(0, canvas.shape[1] - wide)))
  y = int(np.clip(corner[1], 0, max(0, canvas.shape[0] - high)))
  cv2.rectangle(canvas, (x, y), (x + wide, y + high), colour, cv2.FILLED)
  for row, line in enumerate(lines):
    origin = (x + 4, y + round(step * (row + 0.78)))
    cv2.putText(canvas, line, origin, _FONT, font_scale, (255, 255, 255), thickness, cv2.LINE_AA)


class AnnotatedVideoWriter:
  """Writes the annotated copy to a temporary file, renamed to `path` when it is closed.

  Args:
    path: of the copy, ending in .mp4.
    fps: frames per second.
    labels: class names.
  """

  def __init__(self, path: str | os.PathLike, fps: float, labels: Sequence[str]):
    self._path = pathlib.Path(path)
    # OpenCV selects the container by the suffix.
    self._partial = self._path.with_name(f".{self._path.stem}.partial{self._path.suffix}")
    self._fps = fps
    self._labels = labels
    self._writer: cv2.VideoWriter | None = None
    self._size = (640, 480)
    self._unwritten: list[FrameDetections] = []

  def write(self, result: FrameDetections) -> None:
    """Adds a frame.

    Raises:
      OSError: OpenCV cannot write the file.
    """
    if self._writer is None:
      if result.frame.image is None:  # the frame size is not known yet
        self._unwritten.append(result)
        return
      self._open(result.frame.image)
    assert self._writer is not None
    for frame in (*self._unwritten, result):
      image = draw_detections(frame, self._labels, self._size)
      self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    self._unwritten.clear()

  def _open(self, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    scale = min(1.0, MAX_WIDTH / max(height, width))
    # MPEG-4 codecs require even sides.
    self._size = (max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2))
    self._path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.VideoWriter.fourcc(*"mp4v")
    self._writer = cv2.VideoWriter(str(self._partial), code, self._fps, self._size)
    if not self._writer.isOpened():
      raise OSError(f"OpenCV cannot write {self._path} (mp4v)")

  def close(self) -> None:
    """Finishes the file; without a readable frame no file is written."""
    if self._writer is not None:
      self._writer.release()
      os.replace(self._partial, self._path)
      self._writer = None
