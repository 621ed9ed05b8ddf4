"""Options and splits of datasets of labelled images."""

import dataclasses
import pathlib
from collections.abc import Sequence

from jax_me.datasets.generation.base_builder import BuilderOptions
from jax_me.datasets.generation.process_images import (
  CropOptions,
  LabeledImage,
  check_encoding,
  make_image_tasks,
  run_image_task,
)
from jax_me.datasets.generation.split import Split
from jax_me.faces.alignment import check_settings


@dataclasses.dataclass(frozen=True)
class ImageOptions(BuilderOptions):
  """Options of the face crops of a dataset.

  Attributes:
    align: cut out and align the face with dlib. False keeps the release's images as they are.
    size: side of aligned faces in pixels.
    on_no_face: for align, where dlib finds none: "skip", "center" (unaligned) or "error".
    encoding: "png" (lossless) or "jpg" (quality 95, a fifth of the size), for aligned faces.
  """

  align: bool = False
  size: int = 224
  on_no_face: str = "skip"
  encoding: str = "png"

  def __post_init__(self):
    check_settings(self.size, self.on_no_face)
    check_encoding(self.encoding)
    if not self.align:
      self._reset("size", "on_no_face", "encoding")

  @property
  def crop(self) -> CropOptions:
    """The same options for the tasks."""
    return CropOptions(self.align, self.size, self.on_no_face, self.encoding)

  @property
  def crop_title(self) -> str:
    """Part of the folder name of a variant: "aligned_224" or "original"."""
    return f"aligned_{self.size}" if self.align else "original"


def image_split(folder: pathlib.Path, images: Sequence[LabeledImage], crop: CropOptions) -> Split:
  """Returns the split of images below a folder.

  Args:
    folder: the folder that holds the images.
    images: the images, in the order of storage.
    crop: options of the face crops.

  Returns:
    The split, with tasks of several images.
  """
  tasks = make_image_tasks(folder, images, crop)
  return Split(run_image_task, tasks, len(images), tasks_per_worker(crop))


def tasks_per_worker(crop: CropOptions) -> int:
  """See `Split.tasks_per_worker`: aligning takes some 30 times as long as reading an image."""
  return 2 if crop.align else 64
