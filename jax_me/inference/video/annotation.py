"""A copy of a video with boxes, numbers and labels drawn into it."""

import os
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

from jax_me.inference.video.frame_stream import ObservedFrame

# Wider videos are shrunk: the copy is for looking at.
MOST_WIDTH = 1280
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# RGB of jax_me.drawing's BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE.
_COLOURS = [
  (0, 114, 178),
  (213, 94, 0),
  (0, 158, 115),
  (204, 121, 167),
  (86, 180, 233),
  (230, 159, 0),
]


def draw_frame(observed: ObservedFrame, labels: Sequence[str], size: tuple[int, int]) -> np.ndarray:
  """The frame with what was seen in it.

  Args:
    observed: the frame and the people.
    labels: class names.
    size: (width, height) of the result; the picture is scaled to fit, with black bars.

  Returns:
    uint8 [height, width, 3] RGB.
  """
  width, height = size
  canvas = np.zeros((height, width, 3), np.uint8)
  image = observed.frame.image
  scale, left, top = 1.0, 0, 0
  if image is not None:
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    shown = image if scale == 1 else cv2.resize(image, inner, interpolation=method)
    canvas[top : top + inner[1], left : left + inner[0]] = shown
  letters = max(0.4, height / 900)
  for one in observed.people:
    colour = _COLOURS[(one.person - 1) % len(_COLOURS)]
    corner = (left + 4, top + 4)
    if one.box is not None:
      x0, y0, x1, y1 = (round(side * scale) for side in one.box)
      corner = (left + x0, top + y1 + 2)
      cv2.rectangle(
        canvas, (left + x0, top + y0), (left + x1, top + y1), colour, max(2, round(3 * letters))
      )
    lines = [f"person {one.person}"] if len(observed.people) > 1 or one.person > 1 else []
    if one.scores is not None:
      best = int(one.scores.argmax())
      lines.append(f"{labels[best]} {100 * one.scores[best]:.0f}%")
    _write(canvas, lines, corner, letters, colour)
  status = "" if observed.status == "ok" else observed.status.replace("_", " ")
  seconds = observed.frame.seconds
  clock = f"{int(seconds) // 60}:{seconds % 60:05.2f}  frame {observed.frame.number}"
  _write(canvas, [f"{clock}  {status}".rstrip()], (4, 4), 0.8 * letters, (40, 40, 40))
  return canvas


def _write(
  canvas: np.ndarray,
  lines: Sequence[str],
  corner: tuple[int, int],
  letters: float,
  colour: tuple[int, int, int],
) -> None:
  """White lines of text on a filled box, moved so that it lies inside the picture."""
  if not lines:
    return
  thick = max(1, round(1.6 * letters))
  # OpenCV's letters are ASCII; others would be question marks twice as wide.
  lines = [line.encode("ascii", "replace").decode() for line in lines]
  sizes = [cv2.getTextSize(line, _FONT, letters, thick)[0] for line in lines]
  step = round(max(high for _, high in sizes) * 1.7)
  wide, high = max(w for w, _ in sizes) + 8, step * len(lines) + 4
  x = int(np.clip(corner[0], 0, max(0, canvas.shape[1] - wide)))
  y = int(np.clip(corner[1], 0, max(0, canvas.shape[0] - high)))
  cv2.rectangle(canvas, (x, y), (x + wide, y + high), colour, cv2.FILLED)
  for place, line in enumerate(lines):
    at = (x + 4, y + round(step * (place + 0.78)))
    cv2.putText(canvas, line, at, _FONT, letters, (255, 255, 255), thick, cv2.LINE_AA)


class AnnotatedVideo:
  """Writes the copy; it appears under its name when it is closed, never half.

  Args:
    path: of the copy, ending in .mp4.
    fps: frames a second.
    labels: class names.
  """

  def __init__(self, path: str | os.PathLike, fps: float, labels: Sequence[str]):
    self._path = pathlib.Path(path)
    # The writer goes by the ending.
    self._partial = self._path.with_name(f".{self._path.stem}.partial{self._path.suffix}")
    self._fps = fps
    self._labels = labels
    self._writer: cv2.VideoWriter | None = None
    self._size = (640, 480)
    self._early: list[ObservedFrame] = []

  def write(self, observed: ObservedFrame) -> None:
    """Adds a frame.

    Raises:
      OSError: this OpenCV cannot write the file.
    """
    if self._writer is None:
      if observed.frame.image is None:  # its size is not known yet
        self._early.append(observed)
        return
      self._open(observed.frame.image)
    assert self._writer is not None
    for one in (*self._early, observed):
      picture = draw_frame(one, self._labels, self._size)
      self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    self._early.clear()

  def _open(self, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    scale = min(1.0, MOST_WIDTH / max(height, width))
    # Codecs of this family want even sides.
    self._size = (max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2))
    self._path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.VideoWriter.fourcc(*"mp4v")
    self._writer = cv2.VideoWriter(str(self._partial), code, self._fps, self._size)
    if not self._writer.isOpened():
      raise OSError(f"OpenCV cannot write {self._path} (mp4v)")

  def close(self) -> None:
    """Finishes the file; without a single readable frame there is none."""
    if self._writer is not None:
      self._writer.release()
      os.replace(self._partial, self._path)
      self._writer = None
