"""Drawing of boxes, person numbers and labels into video frames and photographs."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import ImageColor

from jax_me.inference.video.frame_stream import FrameDetections
from jax_me.reports.colours import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION

_FONT = cv2.FONT_HERSHEY_SIMPLEX
# RGB of each person.
_COLOURS = [
  ImageColor.getrgb(colour)[:3] for colour in (BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE)
]
_STATUS_COLOUR = (40, 40, 40)


def draw_photograph(result: FrameDetections, labels: Sequence[str]) -> np.ndarray | None:
  """Draws a photograph with its faces.

  Returns:
    uint8 [H, W, 3] RGB in the size of the photograph; None if it is unreadable.
  """
  if result.frame.image is None:
    return None
  canvas = result.frame.image.copy()
  _draw_boxes(canvas, result, labels, _font_scale(canvas), name="face")
  if result.status != "ok":
    status = result.status.replace("_", " ")
    _draw_text(canvas, [status], (4, 4), 0.8 * _font_scale(canvas), _STATUS_COLOUR)
  return canvas


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
  font_scale = _font_scale(canvas)
  _draw_boxes(canvas, result, labels, font_scale, (scale, left, top))
  status = "" if result.status == "ok" else result.status.replace("_", " ")
  seconds = result.frame.seconds
  clock = f"{int(seconds) // 60}:{seconds % 60:05.2f}  frame {result.frame.number}"
  _draw_text(canvas, [f"{clock}  {status}".rstrip()], (4, 4), 0.8 * font_scale, _STATUS_COLOUR)
  return canvas


def _font_scale(canvas: np.ndarray) -> float:
  return max(0.4, min(canvas.shape[0] / 900, canvas.shape[1] / 700))


def _draw_boxes(
  canvas: np.ndarray,
  result: FrameDetections,
  labels: Sequence[str],
  font_scale: float,
  placement: tuple[float, int, int] = (1.0, 0, 0),
  name: str = "person",
) -> None:
  """Draws box, number and label of each detection; `placement` is scale, left and top."""
  scale, left, top = placement
  for detection in result.detections:
    colour = _COLOURS[(detection.person - 1) % len(_COLOURS)]
    corner, size = (left + 4, top + 4), font_scale
    if detection.box is not None:
      x0, y0, x1, y1 = (round(side * scale) for side in detection.box)
      corner = (left + x0, top + y1 + 2)
      thickness = max(2, round(3 * font_scale))
      cv2.rectangle(canvas, (left + x0, top + y0), (left + x1, top + y1), colour, thickness)
      # Text much wider than its face would hide the neighbours.
      size = max(0.4, min(font_scale, (x1 - x0) / 130))
    numbered = len(result.detections) > 1 or detection.person > 1
    lines = [f"{name} {detection.person}"] if numbered else []
    if detection.scores is not None:
      best = int(detection.scores.argmax())
      lines.append(f"{labels[best]} {100 * detection.scores[best]:.0f}%")
    _draw_text(canvas, lines, corner, size, colour)


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
