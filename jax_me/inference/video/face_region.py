"""The surroundings of a face in one frame, small enough to be kept for a while."""

import dataclasses

import cv2
import numpy as np

from jax_me.faces.alignment import FaceChip

# How much more than the cut is kept, as a share of its side, so that the face of this frame can
# still be cut as it lay in another one a moment before.
MARGIN = 0.25


@dataclasses.dataclass(frozen=True)
class Patch:
  """A square of a frame, shrunk to about the resolution of the faces that are cut from it.

  Attributes:
    pixels: uint8 [P, P, 3] RGB.
    matrix: float64 [2, 3], patch (x, y) = matrix @ frame (x, y, 1).
  """

  pixels: np.ndarray
  matrix: np.ndarray

  @classmethod
  def around(cls, image: np.ndarray, chip: FaceChip) -> "Patch":
    """The patch around a cut.

    Args:
      image: uint8 [H, W, 3] RGB, the whole frame.
      chip: where the face lies, and the size of the faces that are to be cut.
    """
    middle = np.array([chip.left + chip.right, chip.top + chip.bottom]) / 2
    turned = abs(np.cos(chip.angle)) + abs(np.sin(chip.angle))
    half = (chip.right - chip.left) * (turned / 2 + MARGIN)
    low = np.maximum(np.floor(middle - half), 0).astype(int)
    high = np.minimum(np.ceil(middle + half) + 1, image.shape[1::-1]).astype(int)
    square = image[low[1] : max(high[1], low[1] + 1), low[0] : max(high[0], low[0] + 1)]
    if square.size == 0:  # the face has left the picture
      square = np.zeros((1, 1, 3), np.uint8)
    scale = min(1.0, chip.size / (chip.right - chip.left))
    if scale < 1:
      # Area averaging first: cutting samples between four pixels only, and would alias.
      width, height = (max(1, round(side * scale)) for side in square.shape[1::-1])
      x_scale, y_scale = width / square.shape[1], height / square.shape[0]
      square = cv2.resize(square, (width, height), interpolation=cv2.INTER_AREA)
    else:
      x_scale = y_scale = 1.0
      square = square.copy()
    # Pixel centres lie at whole numbers: (x + 0.5) * scale - 0.5.
    matrix = np.array(
      [
        [x_scale, 0, (0.5 - low[0]) * x_scale - 0.5],
        [0, y_scale, (0.5 - low[1]) * y_scale - 0.5],
      ]
    )
    return cls(square, matrix)

  def cut(self, chip: FaceChip) -> np.ndarray:
    """uint8 [size, size, 3]: the face cut as `chip` says, black outside the patch."""
    whole = np.vstack([self.matrix, [0, 0, 1]])
    matrix = chip.matrix() @ np.linalg.inv(whole)
    return cv2.warpAffine(self.pixels, matrix, (chip.size, chip.size), flags=cv2.INTER_LINEAR)
