"""The work on some of RAF-DB's images: their manual attributes, then as every labelled picture.

Runs in worker processes, so it imports nothing of TFDS.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from jax_me.datasets.generation.example import Outcome
from jax_me.datasets.generation.process_images import Box, Picture, PictureTask, run_pictures

ATTRIBUTES = {
  "gender": ("male", "female", "unsure"),
  "race": ("Caucasian", "African-American", "Asian"),
  "age": ("0-3", "4-19", "20-39", "40-69", "70+"),
}
# Landmarks in the file before the attributes: eyes, nose and corners of the mouth.
_LANDMARKS = 5


@dataclasses.dataclass(frozen=True)
class Task:
  """Some images.

  Attributes:
    pictures: the images, and how to cut them.
    attributes: folder with the manual attributes, "" when there is none.
  """

  pictures: PictureTask
  attributes: str


def run_task(task: Task) -> Outcome:
  """Handles all images of a task; rows carry the attributes of those that have a file of them.

  Raises:
    ValueError: no face in an image, and on_no_face is "error"; the message names the file.
  """
  pictures = task.pictures
  if task.attributes:
    folder = pathlib.Path(task.attributes)
    described = tuple(_described(folder, picture) for picture in pictures.pictures)
    pictures = dataclasses.replace(pictures, pictures=described)
  return run_pictures(pictures)


def _described(folder: pathlib.Path, picture: Picture) -> Picture:
  stem = picture.file.rpartition(".")[0].removesuffix("_aligned")
  try:
    text = (folder / f"{stem}_manu_attri.txt").read_text(encoding="utf-8", errors="replace")
    inner, details = read_attributes(text)
  except FileNotFoundError:
    return picture
  except (OSError, ValueError) as error:
    return dataclasses.replace(picture, details={"bad_attributes": str(error)})
  # Landmarks are those of the original image; there they tell which of several faces is meant.
  return dataclasses.replace(picture, details=details, inner=inner)


def read_attributes(text: str) -> tuple[Box, dict[str, Any]]:
  """Reads the content of a `..._manu_attri.txt`.

  Returns:
    left, top, right and bottom of the five landmarks in pixels of the original image, and
    {"gender", "race", "age"} in words.

  Raises:
    ValueError: the text has another shape, or a code is none of these.
  """
  lines = [line.split() for line in text.splitlines() if line.strip()]
  points, codes = lines[:_LANDMARKS], [cell for line in lines[_LANDMARKS:] for cell in line]
  if any(len(point) != 2 for point in points) or len(codes) != len(ATTRIBUTES):
    raise ValueError("not five landmarks, gender, race and age")
  x, y = np.array(points, float).T
  details = {}
  for code, (attribute, words) in zip(codes, ATTRIBUTES.items(), strict=True):
    if not code.isdigit() or int(code) >= len(words):
      raise ValueError(f"{attribute} {code[:20]!r} is none of the codes 0 to {len(words) - 1}")
    details[attribute] = words[int(code)]
  return (float(x.min()), float(y.min()), float(x.max()), float(y.max())), details
