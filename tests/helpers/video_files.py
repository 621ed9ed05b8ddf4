"""Small videos."""

import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

# Low, so that the expression of five frames is longer than flicker.
FPS = 5


def write_video(path: pathlib.Path, images: Sequence[np.ndarray]) -> None:
  """Writes images, uint8 [H, W, 3] RGB of one size, as Motion JPEG."""
  path.parent.mkdir(parents=True, exist_ok=True)
  height, width = images[0].shape[:2]
  writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (width, height))
  for image in images:
    writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
  writer.release()
