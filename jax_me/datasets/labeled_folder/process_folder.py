"""Processing of a labelled folder: photographs as in other datasets, clips with one transform.

Runs in worker processes, so it imports nothing of TFDS.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jax_me.datasets.generation.options import ImageOptions
from jax_me.datasets.generation.process_images import ImageProcessor
from jax_me.datasets.generation.tasks import ReportRow, Skipped, TaskResult, batches
from jax_me.datasets.labeled_folder.annotations import FolderImage
from jax_me.faces.alignment import AlignedFace, NoFaceError, align_clip

FILES_PER_TASK = 8


class FolderProcessor(ImageProcessor[FolderImage, ImageOptions]):
  """Makes the examples of photographs, or of the frames of a clip."""

  def __call__(self, images: Sequence[FolderImage]) -> TaskResult:
    if not is_clip(images[0], self.options.align):
      return super().__call__(images)
    skipped: dict[str, ReportRow] = {}
    digests: dict[str, str] = {}

    def frames() -> Iterator[np.ndarray]:
      for image in images:
        try:
          data = self.read(image)
          pixels = self.decode(image, data)
        except Skipped as error:
          skipped[image.file] = ReportRow(image.file, error.status, {"detail": error.detail})
        else:
          digests[image.file] = hashlib.sha256(data).hexdigest()
          yield pixels

    try:
      faces = align_clip(frames(), self.options.size, self.options.on_no_face)
    except NoFaceError as error:
      raise ValueError(f"{images[0].file} and the frames after it: {error}") from error
    aligned = dict(zip(digests, faces, strict=True))
    examples, rows = [], []
    for image in images:
      if image.file in skipped:
        rows.append(skipped[image.file])
        continue
      stored, record = self.encode(aligned[image.file])
      rows.append(ReportRow(image.file, record.pop("status"), record, digests[image.file]))
      if stored is not None:
        examples.append(image.example(stored))
    return TaskResult(tuple(examples), tuple(rows), tuple(image.label for image in images))

  def encode(self, face: AlignedFace) -> tuple[bytes | None, dict[str, Any]]:
    stored, _ = super().encode(face)
    # With 68 landmarks per image the report would be larger than the index of the images.
    return stored, {key: value for key, value in face.record.items() if key != "landmarks"}


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
