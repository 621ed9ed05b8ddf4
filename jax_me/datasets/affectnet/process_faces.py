"""Worker task of the AffectNet build: reads labels and images, crops or aligns the faces.

Runs in worker processes, so it must not import TFDS.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from jax_me.datasets.affectnet.annotations import AnnotatedFace, Box
from jax_me.datasets.generation.example import Example, ReportRow, TaskResult
from jax_me.datasets.generation.process_images import is_portable_image
from jax_me.faces.alignment import NoFaceError, align_image
from jax_me.faces.image_files import UnreadableImage, encode_image, read_image

# Codes that are not expressions, in every release.
NO_EXPRESSION = {8: "none", 9: "uncertain", 10: "non face"}
# Margin around the annotated box on each side, as a fraction of its longer side.
CROP_MARGIN = 0.1
# The same for the region that dlib searches: its detector needs the whole head.
SEARCH_MARGIN = 0.5
# Broken in the distributed archive itself.
KNOWN_CORRUPT = frozenset({"103/29a31ebf1567693f4644c8ba3476ca9a72ee07fe67a5860d98707a0a.jpg"})


@dataclasses.dataclass(frozen=True)
class FaceTask:
  """A batch of faces of one split.

  Attributes:
    faces: the faces.
    images: folders that may hold the images.
    annotations: folder of the faces' annotation files.
    labels: names of the expressions that are kept, by code.
    align: whether faces are aligned with dlib; else the release's own crop is kept.
    size: side of aligned faces, and largest side of crops by box, in pixels.
    on_no_face: if dlib finds no face: "skip", "center" (unaligned) or "error".
    encoding: "jpg" or "png", for cropped faces.
  """

  faces: tuple[AnnotatedFace, ...]
  images: tuple[str, ...]
  annotations: str
  labels: tuple[str, ...]
  align: bool
  size: int
  on_no_face: str
  encoding: str


class _SkippedFace(ValueError):
  """A face that is not stored, with its status and detail for the report."""

  def __init__(self, status: str, detail: str):
    super().__init__(status, detail)
    self.status, self.detail = status, detail


def run_face_task(task: FaceTask) -> TaskResult:
  """Processes all faces of a task, in order.

  Raises:
    ValueError: no face in an image, and on_no_face is "error"; the message names the file.
  """
  examples, rows, found = [], [], []
  for face in task.faces:
    label, encoded, row = _process_face(task, face)
    rows.append(row)
    if label:
      found.append(label)
    if encoded is not None:
      examples.append(Example(image=encoded, label=label, file=face.file))
  return TaskResult(tuple(examples), tuple(rows), tuple(found))


def _process_face(task: FaceTask, face: AnnotatedFace) -> tuple[str, bytes | None, ReportRow]:
  """Returns the label ("" if unknown or not kept), the encoded face, and the report row."""
  label, digest = "", ""
  try:
    label = task.labels[_expression_code(task, face)]
    if face.box is not None and min(face.box[2:]) <= 0:
      raise _SkippedFace("no_box", "the width or height of the face is not positive")
    data = _read_image_bytes(task, face)
    digest = hashlib.sha256(data).hexdigest()
    encoded, record = _crop_and_encode(task, face, data, read_image(data))
  except _SkippedFace as reason:
    return label, None, ReportRow(face.file, reason.status, {"detail": reason.detail}, digest)
  except UnreadableImage as error:
    status = "known_corrupt" if face.image in KNOWN_CORRUPT else "unreadable"
    return label, None, ReportRow(face.file, status, {"detail": error.reason}, digest)
  except NoFaceError as error:
    raise ValueError(f"{face.file}: {error}") from error
  return label, encoded, ReportRow(face.file, record.pop("status"), record, digest)


def _expression_code(task: FaceTask, face: AnnotatedFace) -> int:
  """The expression code; raises _SkippedFace if its class is not kept."""
  code = face.code
  if face.annotation:
    path = pathlib.Path(task.annotations) / face.annotation
    try:
      code = read_npy_label(path) if path.suffix.lower() == ".npy" else read_json_label(path)
    except (OSError, ValueError) as error:
      raise _SkippedFace("bad_annotation", f"{face.annotation}: {error}") from error
  if code in NO_EXPRESSION:
    raise _SkippedFace("no_expression", NO_EXPRESSION[code])
  if not 0 <= code < 8:
    raise _SkippedFace("bad_annotation", f"expression {code} is not one of the codes 0 to 10")
  if code >= len(task.labels):
    raise _SkippedFace("other_label", "contempt")
  return code


def read_npy_label(path: pathlib.Path) -> int:
  """The expression code in an `_exp.npy`: a scalar or one element, stored as number or text.

  Raises:
    ValueError: the file holds anything else.
    OSError: the file cannot be read.
  """
  with path.open("rb") as file:
    try:
      array = np.load(file, allow_pickle=False)
    except (EOFError, zipfile.BadZipFile) as error:
      raise ValueError("the file is empty or damaged") from error
  if not isinstance(array, np.ndarray) or array.size != 1:
    raise ValueError("not a single value")
  return _parse_code(array.item())


def read_json_label(path: pathlib.Path) -> int:
  """The human label in an annotation file of AffectNet+; several spellings of its key occur.

  Raises:
    ValueError: the key is missing, or its value is not a number.
    OSError: the file cannot be read.
  """
  content = json.loads(path.read_bytes())
  if not isinstance(content, dict):
    raise ValueError("not a JSON object")
  normalized = {"".join(c for c in key.lower() if c not in "-_ "): key for key in content}
  if "humanlabel" not in normalized:
    raise ValueError(f"no human-label; its keys are {', '.join(content) or 'none'}")
  return _parse_code(content[normalized["humanlabel"]])


def _parse_code(value: object) -> int:
  """Integer code from 3, 3.0, "3", b"3.0" or [3]."""
  if isinstance(value, list) and len(value) == 1:
    value = value[0]
  text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
  try:
    number = float(text)
  except ValueError:
    raise ValueError(f"{text[:40]!r} is not a number") from None
  if not number.is_integer():
    raise ValueError(f"{text[:40]!r} is not a whole number")
  return int(number)


def _read_image_bytes(task: FaceTask, face: AnnotatedFace) -> bytes:
  """The image file's content, from the first folder that has it."""
  for path in _candidate_paths(task.images, face.image):
    try:
      return path.read_bytes()
    except FileNotFoundError:
      continue
    except OSError as error:
      raise _SkippedFace("unreadable", error.strerror or str(error)) from error
  raise _SkippedFace("missing", "listed, but there is no such file")


def _candidate_paths(folders: tuple[str, ...], image: str) -> Iterator[pathlib.Path]:
  """The listed path in each folder, then paths that differ from it only in case."""
  yield from (pathlib.Path(folder, image) for folder in folders)
  for folder in folders:
    parent, name = os.path.split(os.path.join(folder, image))
    same = _names_by_case(parent).get(name.casefold(), [])
    if len(same) == 1:
      yield pathlib.Path(parent, same[0])


@functools.lru_cache(maxsize=64)
def _names_by_case(folder: str) -> dict[str, list[str]]:
  names: dict[str, list[str]] = {}
  if os.path.isdir(folder):
    for name in os.listdir(folder):
      names.setdefault(name.casefold(), []).append(name)
  return names


def _crop_and_encode(
  task: FaceTask, face: AnnotatedFace, data: bytes, image: np.ndarray
) -> tuple[bytes | None, dict[str, Any]]:
  """Returns the encoded face (None if it is not stored) and the report record."""
  if face.box is not None and not _box_overlaps_image(face.box, image):
    raise _SkippedFace("no_box", f"the face's box {list(face.box)} is outside the image")
  if not task.align:
    if face.box is not None:
      return encode_image(_annotated_crop(task, face, image), task.encoding), {"status": "ok"}
    return (data if is_portable_image(data) else encode_image(image)), {"status": "ok"}
  search_region = image if face.box is None else crop_square(image, face.box, SEARCH_MARGIN)
  # If dlib finds no face, the crop by the annotated box is tighter than the search region.
  use_annotated_crop = face.box is not None and task.on_no_face == "center"
  policy = "skip" if use_annotated_crop else task.on_no_face
  aligned = align_image(search_region, task.size, policy)
  record = {key: aligned.record[key] for key in ("status", "faces")}
  result = aligned.image
  if result is None and use_annotated_crop:
    record["status"] = "centered"
    crop = _annotated_crop(task, face, image)
    result = cv2.resize(crop, (task.size, task.size), interpolation=cv2.INTER_LINEAR)
  return None if result is None else encode_image(result, task.encoding), record


def _annotated_crop(task: FaceTask, face: AnnotatedFace, image: np.ndarray) -> np.ndarray:
  """The release's own face crop, downscaled to at most task.size pixels."""
  crop = image if face.box is None else crop_square(image, face.box, CROP_MARGIN)
  if max(crop.shape[:2]) <= task.size:
    return crop
  return cv2.resize(crop, (task.size, task.size), interpolation=cv2.INTER_AREA)


def _box_overlaps_image(box: Box, image: np.ndarray) -> bool:
  left, top, width, height = box
  return left < image.shape[1] and top < image.shape[0] and left + width > 0 and top + height > 0


def crop_square(image: np.ndarray, box: Box, margin: float) -> np.ndarray:
  """Crops the square around a box.

  Args:
    image: uint8 [H, W, 3].
    box: left, top, width, height in pixels; it must overlap the image.
    margin: added on each side, as a fraction of the box's longer side.

  Returns:
    uint8 [S, S, 3], S = max(width, height) * (1 + 2 * margin) of the box clipped to the image. A
    square that exceeds the border is shifted inwards; one larger than the image is padded with
    black.
  """
  left, right = max(box[0], 0), min(box[0] + box[2], image.shape[1])
  top, bottom = max(box[1], 0), min(box[1] + box[3], image.shape[0])
  side = round(max(right - left, bottom - top) * (1 + 2 * margin))
  x = _crop_start((left + right) / 2, side, image.shape[1])
  y = _crop_start((top + bottom) / 2, side, image.shape[0])
  crop = np.zeros((side, side, 3), np.uint8)
  visible = image[max(y, 0) : y + side, max(x, 0) : x + side]
  crop[max(-y, 0) :, max(-x, 0) :][: visible.shape[0], : visible.shape[1]] = visible
  return crop


def _crop_start(center: float, side: int, length: int) -> int:
  """Start of `side` pixels around a centre, shifted into [0, length] if they fit."""
  start = round(center - side / 2)
  low, high = min(0, length - side), max(0, length - side)
  return min(max(start, low), high)
