"""Processing of RAF-DB's photographs: manual attributes, and the choice of the labelled face.

Runs in worker processes, so it must not import TFDS.
"""

import dataclasses
import pathlib

import numpy as np

from jax_me.datasets.generation.options import ImageOptions
from jax_me.datasets.generation.process_images import ImageProcessor, SourceImage
from jax_me.faces.alignment import AlignedFace, ClipAligner
from jax_me.faces.detector import Face, find_faces

Box = tuple[float, float, float, float]

ATTRIBUTES = {
  "gender": ("male", "female", "unsure"),
  "race": ("Caucasian", "African-American", "Asian"),
  "age": ("0-3", "4-19", "20-39", "40-69", "70+"),
}
# Landmarks in the file before the attributes: eyes, nose and corners of the mouth.
_LANDMARK_COUNT = 5
# Faces are searched for in a square of this many times the longer side of `inner`: dlib needs the
# whole head, and in a large image it may miss a small face beside a large one.
SEARCH_SCALE = 4


@dataclasses.dataclass(frozen=True, slots=True)
class RafDbImage(SourceImage):
  """One image of RAF-DB.

  Attributes:
    inner: left, top, right, bottom of the eyes and mouth of the labelled face, in pixels; None
      selects the largest face.
  """

  inner: Box | None = None


@dataclasses.dataclass(frozen=True)
class RafDbProcessor(ImageProcessor[RafDbImage, ImageOptions]):
  """Makes the examples of images; report rows include the attributes of an image, if known.

  Attributes:
    attributes: folder with the manual attributes, "" if there is none.
  """

  attributes: str

  def annotate(self, image: RafDbImage) -> RafDbImage:
    if not self.attributes:
      return image
    stem = image.file.rpartition(".")[0].removesuffix("_aligned")
    path = pathlib.Path(self.attributes, f"{stem}_manu_attri.txt")
    try:
      inner, details = read_attributes(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
      return image
    except (OSError, ValueError) as error:
      return dataclasses.replace(image, details={"bad_attributes": str(error)})
    # Landmarks refer to the original image, where they select one of several faces.
    return dataclasses.replace(image, details=details, inner=inner)

  def align(self, image: RafDbImage, pixels: np.ndarray) -> AlignedFace:
    if image.inner is None:
      return super().align(image, pixels)
    size, on_no_face = self.options.size, self.options.on_no_face
    left, top, right, bottom = image.inner
    x, y = (left + right) / 2, (top + bottom) / 2
    half = SEARCH_SCALE * max(right - left, bottom - top) / 2
    column, row = max(0, round(x - half)), max(0, round(y - half))
    region = pixels[row : round(y + half) + 1, column : round(x + half) + 1]
    if not region.size:  # the landmarks are outside the image
      return ClipAligner.from_frame(pixels, [], size, on_no_face).align(pixels)
    region = np.ascontiguousarray(region)
    faces = find_faces(region, self.options.detector)
    labelled = [face for face in faces if _contains(face, x - column, y - row)]
    return ClipAligner.from_frame(region, labelled, size, on_no_face).align(region)


def _contains(face: Face, x: float, y: float) -> bool:
  left, top, right, bottom = face.box
  return left <= x <= right and top <= y <= bottom


def read_attributes(text: str) -> tuple[Box, dict[str, str]]:
  """Parses the content of a `..._manu_attri.txt`.

  Returns:
    left, top, right and bottom of the five landmarks in pixels of the original image, and the
    attributes "gender", "race" and "age" as words.

  Raises:
    ValueError: the text has another layout, or a code is unknown.
  """
  lines = [line.split() for line in text.splitlines() if line.strip()]
  points = lines[:_LANDMARK_COUNT]
  codes = [cell for line in lines[_LANDMARK_COUNT:] for cell in line]
  if any(len(point) != 2 for point in points) or len(codes) != len(ATTRIBUTES):
    raise ValueError("expected five landmarks, gender, race and age")
  x, y = np.array(points, float).T
  details = {}
  for code, (attribute, words) in zip(codes, ATTRIBUTES.items(), strict=True):
    if not code.isdigit() or int(code) >= len(words):
      raise ValueError(f"{attribute} {code[:20]!r} is not one of the codes 0 to {len(words) - 1}")
    details[attribute] = words[int(code)]
  return (float(x.min()), float(y.min()), float(x.max()), float(y.max())), details
