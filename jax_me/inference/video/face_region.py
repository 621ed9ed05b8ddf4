"""Image region around a face, small enough to be kept for some frames."""

import dataclasses

import cv2
import numpy as np

from jax_me.faces.alignment import FaceChip

# Margin around the chip, as a fraction of its side, so that the chip of a neighbouring frame can
# be extracted from the same region.
MARGIN = 0.25


@dataclasses.dataclass(frozen=True)
class FaceRegion:
  """A square region of a frame, downscaled to about the resolution of the face chips.

  Attributes:
    pixels: uint8 [P, P, 3] RGB.
    matrix: float64 [2, 3], region (x, y) = matrix @ frame (x, y, 1).
  """

  pixels: np.ndarray
  matrix: np.ndarray

  @classmethod
  def around(cls, image: np.ndarray, chip: FaceChip) -> "FaceRegion":
    """The region around a face chip of a frame, uint8 [H, W, 3] RGB."""
    middle = np.array([chip.left + chip.right, chip.top + chip.bottom]) / 2
    turned = abs(np.cos(chip.angle)) + abs(np.sin(chip.angle))
    half = (chip.right - chip.left) * (turned / 2 + MARGIN)
    low = np.maximum(np.floor(middle - half), 0).astype(int)
    high = np.minimum(np.ceil(middle + half) + 1, image.shape[1::-1]).astype(int)
    square = image[low[1] : max(high[1], low[1] + 1), low[0] : max(high[0], low[0] + 1)]
    if square.size == 0:  # the face is outside the frame
      square = np.zeros((1, 1, 3), np.uint8)
    scale = min(1.0, chip.size / (chip.right - chip.left))
    if scale < 1:
      # Area averaging first: extracting a chip interpolates between four pixels and would alias.
      width, height = (max(1, round(side * scale)) for side in square.shape[1::-1])
      x_scale, y_scale = width / square.shape[1], height / square.shape[0]
      square = cv2.resize(square, (width, height), interpolation=cv2.INTER_AREA)
    else:
      x_scale = y_scale = 1.0
      square = square.copy()
    # Pixel centres have integer coordinates: (x + 0.5) * scale - 0.5.
    matrix = np.array(
      [
        [x_scale, 0, (0.5 - low[0]) * x_scale - 0.5],
        [0, y_scale, (0.5 - low[1]) * y_scale - 0.5],
      ]
    )
    return cls(square, matrix)

  def crop(self, chip: FaceChip) -> np.ndarray:
    """Extracts a chip: uint8 [size, size, 3], black outside the region."""
    square = np.vstack([self.matrix, [0, 0, 1]])
    matrix = chip.matrix() @ np.linalg.inv(square)
    return cv2.warpAffine(self.pixels, matrix, (chip.size, chip.size), flags=cv2.INTER_LINEAR)
