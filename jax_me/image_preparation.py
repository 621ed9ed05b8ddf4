"""Resize and crop of an image to the input of a model, as data, as timm and as transformers do."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
import PIL.Image

BILINEAR_SHRINK = 1.5
# Of jax_me's datasets: see `resize_image`. All others are Pillow's, with antialiasing.
AREA = "area"
INTERPOLATIONS = (AREA, *(method.name.lower() for method in PIL.Image.Resampling))
RESIZES = ("stretch", "shortest_edge", "longest_edge", "none")
# Position of the crop when an odd number of pixels is left over: as round() and as int() gives it.
CROP_ROUNDINGS = ("half_even", "down")
MAX_SIDE = 4096
# The middle of longer images is taken, so that the resize of the shortest edge needs little memory.
MAX_ASPECT_RATIO = 64


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
  """Resizes an image to a square, as for all datasets; another aspect ratio is stretched.

  Shrinking uses area averaging; enlarging and shrinking by less than BILINEAR_SHRINK are bilinear.
  At such factors bilinear weights cover nearly every pixel and are four times as fast.

  Args:
    image: uint8 [H, W, 3].
    size: side of the result, pixels.

  Returns:
    uint8 [size, size, 3]; the same array if it already has that size.
  """
  height, width = image.shape[:2]
  if (height, width) == (size, size):
    return image
  shrinks = min(height, width) >= size and max(height, width) > BILINEAR_SHRINK * size
  method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
  return cv2.resize(image, (size, size), interpolation=method)


@dataclasses.dataclass(frozen=True)
class ImagePreparation:
  """How an image becomes the input of a model: a resize, then the central crop of `image_size`.

  The default is `resize_image`, as for the images of a dataset.

  Attributes:
    image_size: side of the model input in pixels.
    resize: "shortest_edge" and "longest_edge" keep the aspect ratio (the latter pads with the
      mean), "stretch" does not, "none" leaves the image as it is.
    resize_to: edge length in pixels that the resize gives; 0 means `image_size`.
    crop_fraction: `image_size` over the edge length, as the hub states it.
    interpolation: of the resize: one of INTERPOLATIONS.
    crop_rounding: one of CROP_ROUNDINGS: "half_even" in timm, "down" in transformers.
  """

  image_size: int
  resize: str = "stretch"
  resize_to: int = 0
  crop_fraction: float = 1.0
  interpolation: str = AREA
  crop_rounding: str = "half_even"

  def __post_init__(self):
    """Checks the settings.

    Raises:
      ValueError: one of them is impossible.
    """
    if self.resize_to == 0:
      object.__setattr__(self, "resize_to", self.image_size)
    for name in ("image_size", "resize_to"):
      value = getattr(self, name)
      if type(value) is not int or not 0 < value <= MAX_SIDE:
        raise ValueError(f"{name} must be a number of pixels from 1 to {MAX_SIDE}, got {value!r}")
    for name, choices in (
      ("resize", RESIZES),
      ("interpolation", INTERPOLATIONS),
      ("crop_rounding", CROP_ROUNDINGS),
    ):
      if getattr(self, name) not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
    fraction = self.crop_fraction
    if type(fraction) not in (int, float) or not 0 < fraction <= 16:
      raise ValueError(f"crop_fraction must be a number from 0 to 16, got {fraction!r}")
    if self.interpolation == AREA and (self.resize, self.resize_to) != ("stretch", self.image_size):
      raise ValueError(f"interpolation {AREA} stretches images to image_size and crops nothing")

  def apply(self, image: np.ndarray, mean: Sequence[float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Prepares an image.

    Args:
      image: uint8 [H, W, 3] RGB.
      mean: of the model, per channel; for "longest_edge" the colour beside the image, else black.

    Returns:
      uint8 [image_size, image_size, 3].
    """
    if self.interpolation == AREA:
      return resize_image(image, self.image_size)
    image = _middle(image)
    height, width = self._resized(*image.shape[:2])
    if (height, width) != image.shape[:2]:
      method = PIL.Image.Resampling[self.interpolation.upper()]
      resized = PIL.Image.fromarray(image).resize((width, height), method)
      image = np.asarray(resized)
    fill = [round(255 * value) for value in mean] if self.resize == "longest_edge" else [0, 0, 0]
    return self._crop(image, fill)

  def _resized(self, height: int, width: int) -> tuple[int, int]:
    """Height and width after the resize."""
    edge = self.resize_to
    if self.resize == "none":
      return height, width
    if self.resize == "stretch":
      return edge, edge
    if self.resize == "longest_edge":
      ratio = max(height / edge, width / edge)
      return max(1, round(height / ratio)), max(1, round(width / ratio))
    if height <= width:
      return edge, int(edge * width / height)
    return int(edge * height / width), edge

  def _crop(self, image: np.ndarray, fill: list[int]) -> np.ndarray:
    side = self.image_size
    missing = [max(0, side - length) for length in image.shape[:2]]
    if any(missing):
      (top, bottom), (left, right) = ((rest // 2, rest - rest // 2) for rest in missing)
      image = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=fill)
    place = round if self.crop_rounding == "half_even" else int
    top, left = (place((length - side) / 2) for length in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def _middle(image: np.ndarray) -> np.ndarray:
  """The middle part whose sides have at most MAX_ASPECT_RATIO."""
  most = MAX_ASPECT_RATIO * min(image.shape[:2])
  top, left = (max(0, length - most) // 2 for length in image.shape[:2])
  return image[top : top + most, left : left + most]
