"""Decision whether the images of a folder are the frames of one clip, by names and content."""

import pathlib
import re
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import ExifTags, Image

from jax_me.faces.image_files import UnreadableImage, read_image

# Pairs of neighbours whose content is compared, spread over the folder.
PAIRS = 6
SIDE = 32
# Median difference of neighbours in grey levels. Measured: 0.5 to 1 at 25 frames per second, 7 to
# 15 at one frame per second; 20 between portraits of different people in one studio.
MAX_DIFFERENCE = 12.0


def is_image_sequence(images: Sequence[pathlib.Path]) -> bool:
  """Whether images are the frames of one clip rather than unrelated photographs.

  They are, if there are at least two, their names differ in one number only, they have the same
  size, none was written by a camera (EXIF), and neighbours look alike.

  Args:
    images: image files of one folder, sorted by the numbers in their names.

  Returns:
    whether they are frames. Unreadable files are ignored.
  """
  if len(images) < 2 or not _numbered(images):
    return False
  starts = np.unique(np.linspace(0, len(images) - 2, PAIRS).astype(int))
  chosen = sorted({int(index) for start in starts for index in (start, start + 1)})
  sizes = {size for index in chosen if (size := _size_without_camera(images[index]))}
  if len(sizes) != 1 or (0, 0) in sizes:
    return not sizes  # nothing is readable: the names decide
  thumbnails = {index: _thumbnail(images[index]) for index in chosen}
  differences = [
    float(np.abs(first - second).mean())
    for start in starts
    if (first := thumbnails[start]) is not None and (second := thumbnails[start + 1]) is not None
  ]
  return not differences or float(np.median(differences)) <= MAX_DIFFERENCE


def _numbered(images: Sequence[pathlib.Path]) -> bool:
  """Whether the names differ in one number only."""
  names = [re.split(r"(\d+)", path.stem.casefold()) for path in images]
  if len({len(name) for name in names}) > 1:
    return False
  varying = [part for part, texts in enumerate(zip(*names, strict=True)) if len(set(texts)) > 1]
  return len(varying) == 1 and varying[0] % 2 == 1


def _size_without_camera(path: pathlib.Path) -> tuple[int, int] | None:
  """Width and height; (0, 0) for an image with the name of a camera; None if unreadable."""
  try:
    with Image.open(path) as image:
      return (0, 0) if image.getexif().get(ExifTags.Base.Model) else image.size
  except Exception:  # decoders raise nearly any type on broken data
    return None


def _thumbnail(path: pathlib.Path) -> np.ndarray | None:
  try:
    grey = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
  except UnreadableImage:
    return None
  return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
