"""Random-resized crops of stored images, drawn while the images are decoded.

The crop is taken from the resolution and aspect ratio of the stored image, as in the loaders of
MAE, ConvNeXt V2 and timm, not from an image that was resized before.
"""

import dataclasses
import math

import cv2
import numpy as np
from PIL import Image

from jax_me.data.decoding import jpeg_size, reduced_color_flag

# Tries until a box fits, as in torchvision.
ATTEMPTS = 10
_RANDOM_METHODS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


@dataclasses.dataclass(frozen=True)
class RandomCrop:
  """Random-resized crop whose draws depend on the seed and on the position in the sampling stream.

  So a crop depends neither on the number of threads, worker processes and hosts, nor on the image.

  Attributes:
    seed: non-negative.
    scale: area of the crop as a fraction of the image, (least, most), uniform.
    ratio: width / height of the crop, (least, most), log-uniform.
    interpolation: "bicubic", or "random" for bilinear or bicubic; Pillow's, with antialiasing.
  """

  seed: int
  scale: tuple[float, float]
  ratio: tuple[float, float]
  interpolation: str = "bicubic"

  def draw(
    self, number: int, height: int, width: int
  ) -> tuple[tuple[int, int, int, int], Image.Resampling]:
    """The box of torchvision's RandomResizedCrop, in whole pixels.

    A box that does not fit is drawn again, up to 10 times; after that the largest central box with
    an allowed ratio is used.

    Args:
      number: position in the sampling stream.
      height, width: of the image, pixels.

    Returns:
      (top, left, height, width), and the interpolation.
    """
    random = np.random.default_rng((self.seed, number))
    method = Image.Resampling.BICUBIC
    if self.interpolation == "random":
      method = _RANDOM_METHODS[random.integers(2)]
    for _ in range(ATTEMPTS):
      area = height * width * random.uniform(*self.scale)
      ratio = math.exp(random.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
      crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
      if 0 < crop_width <= width and 0 < crop_height <= height:
        top = int(random.integers(height - crop_height + 1))
        left = int(random.integers(width - crop_width + 1))
        return (top, left, crop_height, crop_width), method
    crop_width = max(1, min(width, round(height * self.ratio[1])))
    crop_height = max(1, min(height, round(width / self.ratio[0])))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return (top, left, crop_height, crop_width), method

  def decode_into(self, out: np.ndarray, encoded: bytes, number: int) -> bool:
    """Decodes an image, crops it and resizes the crop.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size when the crop then still has at least the
    pixels of the result.

    Args:
      out: uint8 [S, S, 3], receives the RGB pixels.
      encoded: JPEG or PNG bytes.
      number: position in the sampling stream.

    Returns:
      False if the bytes cannot be decoded.
    """
    data = np.frombuffer(encoded, np.uint8)
    size, flag = jpeg_size(encoded), cv2.IMREAD_COLOR
    if size is not None:
      (_, _, *sides), _ = self.draw(number, *size)
      flag = reduced_color_flag(min(sides), len(out))
    image = cv2.imdecode(data, flag) if len(data) else None
    if image is None:
      return False
    height, width = size or image.shape[:2]
    (top, left, crop_height, crop_width), method = self.draw(number, height, width)
    # In pixels of the image, which may have been decoded at a part of its size.
    down, across = image.shape[0] / height, image.shape[1] / width
    top, bottom = top * down, (top + crop_height) * down
    left, right = left * across, (left + crop_width) * across
    rows = slice(math.floor(top), math.ceil(bottom))
    columns = slice(math.floor(left), math.ceil(right))
    # Channels are swapped on the crop, the smaller image.
    crop = Image.fromarray(cv2.cvtColor(image[rows, columns], cv2.COLOR_BGR2RGB))
    box = (
      *(left - columns.start, top - rows.start),
      *(min(right - columns.start, crop.width), min(bottom - rows.start, crop.height)),
    )
    out[:] = np.asarray(crop.resize((len(out), len(out)), method, box=box))
    return True
