"""The work on some labelled pictures of a dataset: read, keep or align, encode.

Runs in worker processes, so it imports nothing of TFDS.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_me.datasets.generation.example import Example, Outcome, Row
from jax_me.datasets.labeled_folder.process_files import is_plain
from jax_me.faces.alignment import AlignedFace, ClipAligner, NoFaceError, align_image
from jax_me.faces.detector import Face, find_faces
from jax_me.faces.image_files import UnreadableImage, encode_image, read_image

Box = tuple[float, float, float, float]

PICTURES_PER_TASK = 32
# A face is looked for in a square of so many times the longer side of its inner box: dlib needs
# the whole head, and in a large picture it would pass over a small face beside a large one.
SEARCHED = 4


@dataclasses.dataclass(frozen=True)
class Picture:
  """One picture that a dataset lists.

  Attributes:
    file: its name, unique in the split.
    label: class name.
    path: where it lies below the task's folder; "" where `file` says it.
    subject, clip, frame, onset, apex: as in `Example`.
    inner: left, top, right, bottom of the eyes and mouth of the face that is meant, in pixels;
      None takes the largest face.
    targets: as in `Example`.
    details: for the row of the report.
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
  details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def example(self, image: bytes) -> Example:
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
class Cut:
  """What is done to the pictures.

  Attributes:
    align: whether dlib cuts out the face; else the picture is kept, byte for byte where it is an
      ordinary JPEG or PNG.
    size: side of aligned faces in pixels.
    on_no_face: for pictures without a face: "skip", "center" or "error".
    encoding: "png" or "jpg", for aligned faces.
  """

  align: bool = False
  size: int = 224
  on_no_face: str = "skip"
  encoding: str = "png"


@dataclasses.dataclass(frozen=True)
class PictureTask:
  """Some pictures of a split below one folder."""

  folder: str
  pictures: tuple[Picture, ...]
  cut: Cut = Cut()


def picture_tasks(folder: pathlib.Path, pictures: Sequence[Picture], cut: Cut) -> list[PictureTask]:
  """Divides pictures into tasks, in their order."""
  return [
    PictureTask(str(folder), tuple(pictures[start : start + PICTURES_PER_TASK]), cut)
    for start in range(0, len(pictures), PICTURES_PER_TASK)
  ]


def run_pictures(task: PictureTask) -> Outcome:
  """Handles all pictures of a task; one row each, in order.

  Raises:
    ValueError: no face in a picture, and on_no_face is "error"; the message names the file.
  """
  examples, rows = [], []
  for picture in task.pictures:
    try:
      data = (pathlib.Path(task.folder) / (picture.path or picture.file)).read_bytes()
    except OSError as error:
      status = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
      details = {**picture.details, "detail": error.strerror or str(error)}
      rows.append(Row(picture.file, status, details))
      continue
    stored, row = handle_picture(picture, data, task.cut)
    rows.append(row)
    if stored is not None:
      examples.append(picture.example(stored))
  return Outcome(tuple(examples), tuple(rows), tuple(picture.label for picture in task.pictures))


def handle_picture(picture: Picture, data: bytes, cut: Cut) -> tuple[bytes | None, Row]:
  """The bytes to store, None when there are none, and what became of a picture.

  Raises:
    ValueError: as in `run_pictures`.
  """
  digest = hashlib.sha256(data).hexdigest()
  try:
    image = read_image(data)
  except UnreadableImage as error:
    details = {**picture.details, "detail": error.reason}
    return None, Row(picture.file, "unreadable", details, digest)
  if not cut.align:
    stored = data if is_plain(data) else encode_image(image)
    return stored, Row(picture.file, "ok", picture.details, digest)
  try:
    aligned = _align(image, picture.inner, cut)
  except NoFaceError as error:
    raise ValueError(f"{picture.file}: {error}") from error
  details = {**picture.details, "faces": aligned.record["faces"]}
  row = Row(picture.file, aligned.record["status"], details, digest)
  if aligned.image is None:
    return None, row
  return encode_image(aligned.image, cut.encoding), row


def _align(image: np.ndarray, inner: Box | None, cut: Cut) -> AlignedFace:
  if inner is None:
    return align_image(image, cut.size, cut.on_no_face)
  left, top, right, bottom = inner
  x, y = (left + right) / 2, (top + bottom) / 2
  half = SEARCHED * max(right - left, bottom - top) / 2
  first_column, first_row = max(0, round(x - half)), max(0, round(y - half))
  around = image[first_row : round(y + half) + 1, first_column : round(x + half) + 1]
  if not around.size:  # the box lies outside the picture
    return ClipAligner.from_frame(image, [], cut.size, cut.on_no_face).align(image)
  around = np.ascontiguousarray(around)
  meant = [face for face in find_faces(around) if _contains(face, x - first_column, y - first_row)]
  return ClipAligner.from_frame(around, meant, cut.size, cut.on_no_face).align(around)


def _contains(face: Face, x: float, y: float) -> bool:
  left, top, right, bottom = face.box
  return left <= x <= right and top <= y <= bottom
