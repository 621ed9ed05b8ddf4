"""Tasks of labelled images: read, keep or align, encode.

Runs in worker processes, so it imports nothing of TFDS.
"""

import dataclasses
import hashlib
import io
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from jax_me.datasets.generation.example import Example, ReportRow, TaskResult
from jax_me.faces.alignment import AlignedFace, ClipAligner, NoFaceError, align_image
from jax_me.faces.detector import Face, find_faces
from jax_me.faces.image_files import UnreadableImage, encode_image, read_image

Box = tuple[float, float, float, float]

ENCODINGS = ("png", "jpg")
EXIF_ORIENTATION = 0x0112
IMAGES_PER_TASK = 32
# Faces are searched for in a square of this many times the longer side of `inner`: dlib needs the
# whole head, and in a large image it may miss a small face beside a large one.
SEARCH_SCALE = 4


@dataclasses.dataclass(frozen=True)
class LabeledImage:
  """One image that a dataset lists.

  Attributes:
    file: its name, unique in the split.
    label: class name.
    path: path below the task's folder; "" if it equals `file`.
    subject, clip, frame, onset, apex: as in `Example`.
    inner: left, top, right, bottom of the eyes and mouth of the labelled face, in pixels; None
      selects the largest face.
    targets: as in `Example`.
    details: for the report row.
  """

  file: str
  label: str
  path: str = ""
  subject: str = ""
  clip: str = ""
  frame: int = -1
  onset: int = -1
  apex: int = -1
  inner: Box | None = None
  targets: tuple[float, ...] = ()
  details: Mapping[str, object] = dataclasses.field(default_factory=dict)

  def example(self, image: bytes) -> Example:
    """Returns the example with the encoded image."""
    return Example(
      image=image,
      label=self.label,
      file=self.file,
      subject=self.subject,
      clip=self.clip,
      frame=self.frame,
      onset=self.onset,
      apex=self.apex,
      targets=self.targets,
    )


@dataclasses.dataclass(frozen=True)
class CropOptions:
  """Cropping and encoding of images.

  Attributes:
    align: crop the face with dlib; else the image is kept, byte for byte where it is an ordinary
      JPEG or PNG.
    size: side of aligned faces in pixels.
    on_no_face: for images without a face: "skip", "center" or "error".
    encoding: "png" or "jpg", for aligned faces.
  """

  align: bool = False
  size: int = 224
  on_no_face: str = "skip"
  encoding: str = "png"


@dataclasses.dataclass(frozen=True)
class ImageTask:
  """Images of a split below one folder."""

  folder: str
  images: tuple[LabeledImage, ...]
  crop: CropOptions = CropOptions()


def check_encoding(encoding: str) -> None:
  """Raises ValueError unless the encoding is one of ENCODINGS."""
  if encoding not in ENCODINGS:
    raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}: {encoding!r}")


def make_image_tasks(
  folder: pathlib.Path, images: Sequence[LabeledImage], crop: CropOptions
) -> list[ImageTask]:
  """Divides images into tasks of IMAGES_PER_TASK.

  Args:
    folder: the folder that holds the images.
    images: the images.
    crop: options of the face crops.

  Returns:
    The tasks, in the order of the images.
  """
  return [
    ImageTask(str(folder), tuple(images[start : start + IMAGES_PER_TASK]), crop)
    for start in range(0, len(images), IMAGES_PER_TASK)
  ]


def run_image_task(task: ImageTask) -> TaskResult:
  """Processes all images of a task; one report row each, in order.

  Raises:
    ValueError: no face in an image, and on_no_face is "error"; the message names the file.
  """
  examples, rows = [], []
  for image in task.images:
    try:
      data = (pathlib.Path(task.folder) / (image.path or image.file)).read_bytes()
    except OSError as error:
      status = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
      details = {**image.details, "detail": error.strerror or str(error)}
      rows.append(ReportRow(image.file, status, details))
      continue
    stored, row = process_image(image, data, task.crop)
    rows.append(row)
    if stored is not None:
      examples.append(image.example(stored))
  return TaskResult(tuple(examples), tuple(rows), tuple(image.label for image in task.images))


def process_image(
  image: LabeledImage, data: bytes, crop: CropOptions
) -> tuple[bytes | None, ReportRow]:
  """Decodes an image and crops its face if wanted.

  Args:
    image: the image.
    data: content of its file.
    crop: options of the face crops.

  Returns:
    The bytes to store, None when there are none, and the report row.

  Raises:
    ValueError: as in `run_image_task`.
  """
  digest = hashlib.sha256(data).hexdigest()
  try:
    pixels = read_image(data)
  except UnreadableImage as error:
    details = {**image.details, "detail": error.reason}
    return None, ReportRow(image.file, "unreadable", details, digest)
  if not crop.align:
    stored = data if is_portable_image(data) else encode_image(pixels)
    return stored, ReportRow(image.file, "ok", image.details, digest)
  try:
    aligned = _align(pixels, image.inner, crop)
  except NoFaceError as error:
    raise ValueError(f"{image.file}: {error}") from error
  details = {**image.details, "faces": aligned.record["faces"]}
  row = ReportRow(image.file, aligned.record["status"], details, digest)
  if aligned.image is None:
    return None, row
  return encode_image(aligned.image, crop.encoding), row


def is_portable_image(data: bytes) -> bool:
  """Whether every reader decodes the bytes alike: upright 8-bit RGB or grey JPEG or PNG."""
  with Image.open(io.BytesIO(data)) as image:
    return (
      image.format in ("JPEG", "PNG")
      and image.mode in ("RGB", "L")
      and not image.has_transparency_data
      and image.getexif().get(EXIF_ORIENTATION, 1) == 1
    )


def _align(image: np.ndarray, inner: Box | None, crop: CropOptions) -> AlignedFace:
  if inner is None:
    return align_image(image, crop.size, crop.on_no_face)
  left, top, right, bottom = inner
  x, y = (left + right) / 2, (top + bottom) / 2
  half = SEARCH_SCALE * max(right - left, bottom - top) / 2
  first_column, first_row = max(0, round(x - half)), max(0, round(y - half))
  region = image[first_row : round(y + half) + 1, first_column : round(x + half) + 1]
  if not region.size:  # the box is outside the image
    return ClipAligner.from_frame(image, [], crop.size, crop.on_no_face).align(image)
  region = np.ascontiguousarray(region)
  labelled = [
    face for face in find_faces(region) if _contains(face, x - first_column, y - first_row)
  ]
  return ClipAligner.from_frame(region, labelled, crop.size, crop.on_no_face).align(region)


def _contains(face: Face, x: float, y: float) -> bool:
  left, top, right, bottom = face.box
  return left <= x <= right and top <= y <= bottom
