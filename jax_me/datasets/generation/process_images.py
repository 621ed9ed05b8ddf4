"""Processing of labelled images: read, keep or align, encode.

Runs in worker processes, so it imports nothing of TFDS.
"""

import dataclasses
import hashlib
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from PIL import Image

from jax_me.bounded_reading import FileTooSlow, read_file, time_limit
from jax_me.datasets.generation.options import ImageOptions
from jax_me.datasets.generation.tasks import (
  Example,
  ReportRow,
  Skipped,
  Split,
  TaskResult,
  batches,
)
from jax_me.faces.alignment import AlignedFace, NoFaceError, align_image
from jax_me.faces.image_files import UnreadableImage, encode_image, read_image

EXIF_ORIENTATION = 0x0112
IMAGES_PER_TASK = 32


@dataclasses.dataclass(frozen=True, slots=True)
class SourceImage:
  """One image that a dataset lists.

  Attributes:
    file: its name, unique in the split.
    label: class name.
    path: path below the processor's folder; "" if it equals `file`.
    subject, clip, frame, onset, apex, offset, database, targets: as in `Example`.
    details: for the report row; None for none.
  """

  file: str
  label: str
  path: str = ""
  subject: str = ""
  clip: str = ""
  frame: int = -1
  onset: int = -1
  apex: int = -1
  offset: int = -1
  database: str = ""
  targets: tuple[float, ...] = ()
  details: Mapping[str, object] | None = dataclasses.field(default=None, hash=False)

  def example(self, image: bytes) -> Example:
    """Returns the example with the encoded image."""
    return Example(image, **{name: getattr(self, name) for name in _STORED})


_STORED = [field.name for field in dataclasses.fields(Example) if field.name != "image"]

ImageT = TypeVar("ImageT", bound=SourceImage)
OptionsT = TypeVar("OptionsT", bound=ImageOptions)


@dataclasses.dataclass(frozen=True)
class ImageProcessor(Generic[ImageT, OptionsT]):
  """Makes the examples of images; datasets override the steps in which they differ.

  Attributes:
    folder: folder of the images.
    options: align crops the face with dlib; else an image is kept, byte for byte where it is an
      ordinary JPEG or PNG.
  """

  folder: str
  options: OptionsT

  def __call__(self, images: Sequence[ImageT]) -> TaskResult:
    """Processes images; one report row each, in order.

    Raises:
      ValueError: no face in an image, and on_no_face is "error"; the message names the file.
    """
    examples, rows, found = [], [], []
    for listed in images:
      image, digest = listed, ""
      stored: bytes | None = None
      try:
        with time_limit():
          image = self.annotate(listed)
          data = self.read(image)
          digest = hashlib.sha256(data).hexdigest()
          pixels = self.decode(image, data)
        stored, record = self._crop(image, data, pixels)
      except Skipped as skipped:
        record = {"status": skipped.status, "detail": skipped.detail}
      except FileTooSlow as error:
        record = {"status": "unreadable", "detail": str(error.strerror)}
      except NoFaceError as error:
        raise ValueError(f"{image.file}: {error}") from error
      status = record.pop("status")
      rows.append(ReportRow(image.file, status, {**(image.details or {}), **record}, digest))
      if image.label:
        found.append(image.label)
      if stored is not None:
        examples.append(image.example(stored))
    return TaskResult(tuple(examples), tuple(rows), tuple(found))

  def split(
    self, images: Sequence[ImageT], per_task: int = IMAGES_PER_TASK, tasks_per_worker: int = 0
  ) -> Split:
    """Returns the split of images, in the order of storage.

    Args:
      images: the images.
      per_task: images per task.
      tasks_per_worker: see `Split`; 0 takes that of photographs.

    Returns:
      The split.
    """
    # Aligning takes some 30 times as long as reading an image.
    default = 2 if self.options.align else 64
    tasks = list(batches(images, per_task))
    return Split(self, tasks, len(images), tasks_per_worker or default)

  def annotate(self, image: ImageT) -> ImageT:
    """Adds what stands in a file beside the image; raises Skipped without a usable label."""
    return image

  def read(self, image: ImageT) -> bytes:
    """Returns the content of the image's file; raises Skipped if there is none."""
    try:
      return read_file(pathlib.Path(self.folder, image.path or image.file))
    except OSError as error:
      status = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
      raise Skipped(status, error.strerror or str(error)) from error

  def decode(self, image: ImageT, data: bytes) -> np.ndarray:
    """Returns the pixels, uint8 [H, W, 3] RGB; raises Skipped if they cannot be decoded."""
    try:
      return read_image(data)
    except UnreadableImage as error:
      raise Skipped("unreadable", error.reason) from error

  def _crop(
    self, image: ImageT, data: bytes, pixels: np.ndarray
  ) -> tuple[bytes | None, dict[str, Any]]:
    """Crops the face if wanted.

    Args:
      image: the image.
      data: content of its file.
      pixels: the same, decoded.

    Returns:
      The bytes to store, None for none, and "status" and details of the report row.

    Raises:
      Skipped: the image cannot be cropped.
      NoFaceError: there is no face, and on_no_face is "error".
    """
    if not self.options.align:
      return keep_or_encode(data, pixels), {"status": "ok"}
    return self.encode(self.align(image, pixels))

  def align(self, image: ImageT, pixels: np.ndarray) -> AlignedFace:
    """Aligns the largest face."""
    del image
    options = self.options
    return align_image(pixels, options.size, options.on_no_face, options.detector)

  def encode(self, face: AlignedFace) -> tuple[bytes | None, dict[str, Any]]:
    """Encodes an aligned face; the result is that of `_crop`."""
    record = {key: face.record[key] for key in ("status", "faces")}
    return None if face.image is None else encode_image(face.image, self.options.encoding), record


def keep_or_encode(data: bytes, pixels: np.ndarray) -> bytes:
  """The bytes of a file that every reader decodes alike, else its pixels as PNG."""
  return data if is_portable_image(data) else encode_image(pixels)


def is_portable_image(data: bytes) -> bool:
  """Whether every reader decodes the bytes alike: upright 8-bit RGB or grey JPEG or PNG."""
  with Image.open(io.BytesIO(data)) as image:
    return (
      image.format in ("JPEG", "PNG")
      and image.mode in ("RGB", "L")
      and not image.has_transparency_data
      and image.getexif().get(EXIF_ORIENTATION, 1) == 1
    )


def image_split(
  folder: pathlib.Path, images: Sequence[SourceImage], options: ImageOptions
) -> Split:
  """Returns the split of images below a folder.

  Args:
    folder: the folder that holds the images.
    images: the images, in the order of storage.
    options: options of the face crops.

  Returns:
    The split.
  """
  processor = ImageProcessor[SourceImage, ImageOptions](str(folder), options.narrowed(ImageOptions))
  return processor.split(images)
