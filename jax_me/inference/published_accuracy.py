"""Accuracy of released weights on a validation folder, compared with the published one."""

import concurrent.futures
import dataclasses
import math
import os
import pathlib

import numpy as np

from jax_me.cpu_cores import available_cores
from jax_me.faces.image_files import UnreadableImage, is_image_name, read_image
from jax_me.inference.batched_inference import BatchedInference
from jax_me.models.released_weights import ReleasedWeights
from jax_me.models.saved_model import SavedModel
from jax_me.progress import show_progress

# The published figures are accuracies on the 50 000 validation images of ImageNet-1k.
VALIDATION_IMAGES = 50_000
# In percent points: 0.05 for the rounding of the published figure, 0.05 (25 images) for other
# decoders of images and other arithmetic.
TOLERANCE = 0.1
_READ_AHEAD = 128  # Images in memory.


@dataclasses.dataclass(frozen=True)
class AccuracyCheck:
  """Outcome of a comparison.

  Attributes:
    published: accuracy in percent.
    images: number of images that were read.
    correct: number of them whose most probable class is the right one.
    unreadable: file and reason of the images that were left out.
  """

  published: float
  images: int
  correct: int
  unreadable: tuple[str, ...] = ()

  def as_json(self) -> dict[str, object]:
    """The attributes and the properties below, for `verify --json`."""
    derived = ("accuracy", "sampling_error", "agrees")
    return dataclasses.asdict(self) | {name: getattr(self, name) for name in derived}

  @property
  def accuracy(self) -> float:
    """In percent."""
    return 100 * self.correct / self.images

  @property
  def sampling_error(self) -> float:
    """Half of the 95% interval of the accuracy on this many random validation images, percent.

    Drawn from a finite set without repetition, so that it is 0 for the whole validation set.
    """
    left_out = max(VALIDATION_IMAGES - self.images, 0) / (VALIDATION_IMAGES - 1)
    return 1.96 * math.sqrt(self.published * (100 - self.published) / self.images * left_out)

  @property
  def agrees(self) -> bool:
    """Whether the difference is within the sampling error and the tolerance."""
    return abs(self.accuracy - self.published) <= self.sampling_error + TOLERANCE


def find_validation_images(
  folder: str | os.PathLike, classes: int, limit: int | None = None
) -> list[tuple[pathlib.Path, int]]:
  """The images of a folder with one folder per class, and their class numbers.

  Args:
    folder: its folders in sorted order are the classes, as ImageNet's (n01440764 is class 0);
      names that are numbers are sorted by number.
    classes: number of classes of the model.
    limit: take this many images, evenly spaced; None takes all.

  Returns:
    (path, class) of each image.

  Raises:
    ValueError: another number of folders, no images, or a limit below 1.
    OSError: a folder cannot be read.
  """
  folders = [path for path in pathlib.Path(folder).iterdir() if path.is_dir()]
  numbered = all(path.name.isdecimal() for path in folders)
  folders.sort(key=lambda path: (int(path.name) if numbered else 0, path.name))
  if len(folders) != classes:
    raise ValueError(
      f"{folder} has {len(folders)} class folders; the model has {classes} classes, and each needs "
      "its folder, if empty, to have its number"
    )
  images = [
    (path, number)
    for number, parent in enumerate(folders)
    for path in sorted(parent.rglob("*"))
    if is_image_name(path.name) and path.is_file()
  ]
  if not images:
    raise ValueError(f"{folder} has no images in its class folders")
  if limit is None or limit >= len(images):
    return images
  if limit < 1:
    raise ValueError(f"the number of images must be at least 1, got {limit}")
  return [images[position] for position in np.linspace(0, len(images) - 1, limit).astype(int)]


def check_accuracy(
  saved: SavedModel,
  release: ReleasedWeights,
  images: list[tuple[pathlib.Path, int]],
  *,
  batch: int,
) -> AccuracyCheck:
  """Classifies the images with the resize and crop of the original evaluation.

  Args:
    saved: the converted weights.
    release: their entry in the table.
    images: from `find_validation_images`.
    batch: images per call of the model.

  Returns:
    The outcome.

  Raises:
    ValueError: there is no published accuracy, or no image can be read.
  """
  if release.top1 is None:
    raise ValueError(f"{release.file} has no published accuracy ({release.note or 'no figure'})")
  inference: BatchedInference[int] = BatchedInference(saved, batch)
  unreadable: list[str] = []
  correct = 0

  def prepare(image: tuple[pathlib.Path, int]) -> tuple[np.ndarray, int] | str:
    path, number = image
    try:
      return release.preparation.apply(read_image(path)), number
    except UnreadableImage as error:
      return str(error)

  with concurrent.futures.ThreadPoolExecutor(available_cores()) as threads:
    chunks = (images[i : i + _READ_AHEAD] for i in range(0, len(images), _READ_AHEAD))
    prepared = (result for chunk in chunks for result in threads.map(prepare, chunk))
    for result in show_progress(prepared, release.file, len(images)):
      if isinstance(result, str):
        unreadable.append(result)
        continue
      correct += _count_correct(inference.submit(*result))
  correct += _count_correct(inference.flush())
  if len(unreadable) == len(images):
    raise ValueError(f"no image can be read; the first: {unreadable[0]}")
  return AccuracyCheck(release.top1, len(images) - len(unreadable), correct, tuple(unreadable))


def _count_correct(scores: list[tuple[int, np.ndarray]]) -> int:
  return sum(int(probabilities.argmax()) == number for number, probabilities in scores)
