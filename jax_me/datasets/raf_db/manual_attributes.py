"""Worker task of the RAF-DB build: adds the manual attributes, then processes the images.

Runs in worker processes, so it must not import TFDS.
"""

import dataclasses
import pathlib

import numpy as np

from jax_me.datasets.generation.example import TaskResult
from jax_me.datasets.generation.process_images import Box, ImageTask, LabeledImage, run_image_task

ATTRIBUTES = {
  "gender": ("male", "female", "unsure"),
  "race": ("Caucasian", "African-American", "Asian"),
  "age": ("0-3", "4-19", "20-39", "40-69", "70+"),
}
# Landmarks in the file before the attributes: eyes, nose and corners of the mouth.
_LANDMARK_COUNT = 5


@dataclasses.dataclass(frozen=True)
class RafDbTask:
  """A batch of images with the folder of their manual attributes.

  Attributes:
    image_task: the images, and how to crop them.
    attributes: folder with the manual attributes, "" if there is none.
  """

  image_task: ImageTask
  attributes: str


def run_raf_db_task(task: RafDbTask) -> TaskResult:
  """Processes all images of a task; report rows include the attributes of an image, if known.

  Raises:
    ValueError: no face in an image, and on_no_face is "error"; the message names the file.
  """
  image_task = task.image_task
  if task.attributes:
    folder = pathlib.Path(task.attributes)
    with_attributes = tuple(_add_attributes(folder, image) for image in image_task.images)
    image_task = dataclasses.replace(image_task, images=with_attributes)
  return run_image_task(image_task)


def _add_attributes(folder: pathlib.Path, image: LabeledImage) -> LabeledImage:
  stem = image.file.rpartition(".")[0].removesuffix("_aligned")
  try:
    text = (folder / f"{stem}_manu_attri.txt").read_text(encoding="utf-8", errors="replace")
    inner, details = read_attributes(text)
  except FileNotFoundError:
    return image
  except (OSError, ValueError) as error:
    return dataclasses.replace(image, details={"bad_attributes": str(error)})
  # Landmarks refer to the original image, where they select one of several faces.
  return dataclasses.replace(image, details=details, inner=inner)


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
