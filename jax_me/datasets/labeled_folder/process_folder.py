"""Processing of a labelled folder: photographs as in other datasets, clips with one transform.

Runs in worker processes, so it imports nothing of TFDS.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jax_me.datasets.generation.options import ImageOptions
from jax_me.datasets.generation.process_images import ImageProcessor
from jax_me.datasets.generation.tasks import Skipped, TaskResult, batches
from jax_me.datasets.labeled_folder.annotations import FolderImage
from jax_me.faces.alignment import AlignedFace, ClipAligner, NoFaceError

FILES_PER_TASK = 8


@dataclasses.dataclass(frozen=True)
class FolderProcessor(ImageProcessor[FolderImage, ImageOptions]):
  """Makes the examples of photographs, or of the frames of a clip.

  Attributes:
    aligner: the transform of the clip that is processed, None for photographs.
  """

  aligner: ClipAligner | None = None

  def __call__(self, images: Sequence[FolderImage]) -> TaskResult:
    aligner = self._find_aligner(images) if is_clip(images[0], self.options.align) else None
    return super(FolderProcessor, dataclasses.replace(self, aligner=aligner)).__call__(images)

  def align(self, image: FolderImage, pixels: np.ndarray) -> AlignedFace:
    return super().align(image, pixels) if self.aligner is None else self.aligner.align(pixels)

  def encode(self, face: AlignedFace) -> tuple[bytes | None, dict[str, Any]]:
    stored, _ = super().encode(face)
    # With 68 landmarks per image the report would be larger than the index of the images.
    return stored, {key: value for key, value in face.record.items() if key != "landmarks"}

  def _find_aligner(self, images: Sequence[FolderImage]) -> ClipAligner | None:
    """Returns the transform of the first frame with a face; None if no frame can be read."""
    frames, options = enumerate(self._frames(images)), self.options
    try:
      return ClipAligner.of_clip(frames, options.size, options.on_no_face, options.detector)
    except NoFaceError as error:
      raise ValueError(f"{images[0].file} and the frames after it: {error}") from error

  def _frames(self, images: Sequence[FolderImage]) -> Iterator[np.ndarray]:
    for image in images:
      try:
        yield self.decode(image, self.read(image))
      except Skipped:
        continue


def is_clip(image: FolderImage, align: bool) -> bool:
  """Whether the image is aligned with the other frames of its clip."""
  return align and bool(image.clip)


def folder_tasks(images: Sequence[FolderImage], align: bool) -> Iterator[Sequence[FolderImage]]:
  """Divides sorted images into tasks: whole clips, and photographs of which several share one."""

  def task_of(image: FolderImage) -> tuple[str, ...]:
    return (image.database, image.subject, image.clip) if is_clip(image, align) else ()

  # Images are sorted, so the frames of a clip are adjacent.
  for clip, group in itertools.groupby(images, task_of):
    adjacent = list(group)
    yield from batches(adjacent, len(adjacent) if clip else FILES_PER_TASK)
