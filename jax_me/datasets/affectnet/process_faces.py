"""The work on some of AffectNet's pictures: read the label, read the picture, cut the face.

Runs in worker processes, so it imports nothing of TFDS.
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

from jax_me.datasets.affectnet.annotations import Box, Entry
from jax_me.datasets.generation.example import Example, Outcome, Row
from jax_me.datasets.labeled_folder.process_files import is_plain
from jax_me.faces.alignment import NoFaceError, align_image
from jax_me.faces.image_files import UnreadableImage, encode_image, read_image

# Codes that are no expression, in every release.
NO_EXPRESSION = {8: "none", 9: "uncertain", 10: "non face"}
# What surrounds the annotated box on each side, as a share of its longer side.
CROP_MARGIN = 0.1
# The same where dlib is to find the face: its window needs the whole head.
SEARCH_MARGIN = 0.5
# Broken in the distributed archive itself.
KNOWN_CORRUPT = frozenset({"103/29a31ebf1567693f4644c8ba3476ca9a72ee07fe67a5860d98707a0a.jpg"})


@dataclasses.dataclass(frozen=True)
class Task:
  """Some faces of a split.

  Attributes:
    entries: the faces.
    images: folders in which the pictures may be.
    annotations: folder of the entries' annotation files.
    labels: names of the expressions that are kept, by their codes.
    align: whether dlib cuts out the face; else the release's own face is kept.
    size: side of aligned faces, largest side of faces cut by their box, in pixels.
    on_no_face: for faces that dlib does not find: "skip", "center" (unaligned) or "error".
    encoding: "jpg" or "png", for what is cut.
  """

  entries: tuple[Entry, ...]
  images: tuple[str, ...]
  annotations: str
  labels: tuple[str, ...]
  align: bool
  size: int
  on_no_face: str
  encoding: str


class _LeftOut(ValueError):
  """A face that is not stored: the status for the report, and its detail."""

  def __init__(self, status: str, detail: str):
    super().__init__(status, detail)
    self.status, self.detail = status, detail


def run_task(task: Task) -> Outcome:
  """Handles all faces of a task, in order.

  Raises:
    ValueError: no face in a picture, and on_no_face is "error"; the message names the file.
  """
  examples, rows, found = [], [], []
  for entry in task.entries:
    label, image, row = _handle(task, entry)
    rows.append(row)
    if label:
      found.append(label)
    if image is not None:
      examples.append(Example(image=image, label=label, file=entry.file))
  return Outcome(tuple(examples), tuple(rows), tuple(found))


def _handle(task: Task, entry: Entry) -> tuple[str, bytes | None, Row]:
  """The expression, "" where it is none of those kept or unknown; the bytes to store; the row."""
  label, digest = "", ""
  try:
    label = task.labels[_expression(task, entry)]
    if entry.box is not None and min(entry.box[2:]) <= 0:
      raise _LeftOut("no_box", "the width or height of the face is not positive")
    data = _read(task, entry)
    digest = hashlib.sha256(data).hexdigest()
    image, record = _face(task, entry, data, read_image(data))
  except _LeftOut as reason:
    return label, None, Row(entry.file, reason.status, {"detail": reason.detail}, digest)
  except UnreadableImage as error:
    status = "known_corrupt" if entry.image in KNOWN_CORRUPT else "unreadable"
    return label, None, Row(entry.file, status, {"detail": error.reason}, digest)
  except NoFaceError as error:
    raise ValueError(f"{entry.file}: {error}") from error
  return label, image, Row(entry.file, record.pop("status"), record, digest)


def _expression(task: Task, entry: Entry) -> int:
  """The code, if it is of a class that is kept."""
  code = entry.code
  if entry.annotation:
    path = pathlib.Path(task.annotations) / entry.annotation
    try:
      code = read_npy_label(path) if path.suffix.lower() == ".npy" else read_json_label(path)
    except (OSError, ValueError) as error:
      raise _LeftOut("bad_annotation", f"{entry.annotation}: {error}") from error
  if code in NO_EXPRESSION:
    raise _LeftOut("no_expression", NO_EXPRESSION[code])
  if not 0 <= code < 8:
    raise _LeftOut("bad_annotation", f"expression {code} is none of AffectNet's codes 0 to 10")
  if code >= len(task.labels):
    raise _LeftOut("other_label", "contempt")
  return code


def read_npy_label(path: pathlib.Path) -> int:
  """The number in an `_exp.npy`: a scalar, or one element, as a number or as text.

  Raises:
    ValueError: anything else.
    OSError: the file cannot be read.
  """
  with path.open("rb") as file:
    try:
      array = np.load(file, allow_pickle=False)
    except (EOFError, zipfile.BadZipFile) as error:
      raise ValueError("the file is empty or damaged") from error
  if not isinstance(array, np.ndarray) or array.size != 1:
    raise ValueError("not a single value")
  return _code(array.item())


def read_json_label(path: pathlib.Path) -> int:
  """The human label in an annotation of AffectNet+; its key is spelt in several ways.

  Raises:
    ValueError: no such key, or no number.
    OSError: the file cannot be read.
  """
  content = json.loads(path.read_bytes())
  if not isinstance(content, dict):
    raise ValueError("not a JSON object")
  folded = {"".join(c for c in key.lower() if c not in "-_ "): key for key in content}
  if "humanlabel" not in folded:
    raise ValueError(f"no human-label; its keys are {', '.join(content) or 'none'}")
  return _code(content[folded["humanlabel"]])


def _code(value: object) -> int:
  """3, 3.0, "3", b"3.0" and [3] -> 3."""
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


def _read(task: Task, entry: Entry) -> bytes:
  """The picture's bytes, from the first folder that has it."""
  for path in _candidates(task.images, entry.image):
    try:
      return path.read_bytes()
    except FileNotFoundError:
      continue
    except OSError as error:
      raise _LeftOut("unreadable", error.strerror or str(error)) from error
  raise _LeftOut("missing", "listed, but there is no such file")


def _candidates(folders: tuple[str, ...], image: str) -> Iterator[pathlib.Path]:
  """As the list spells it; else in another case, as copies from other systems may."""
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


def _face(
  task: Task, entry: Entry, data: bytes, image: np.ndarray
) -> tuple[bytes | None, dict[str, Any]]:
  """The bytes to store and the row of the report."""
  if entry.box is not None and not _overlaps(entry.box, image):
    raise _LeftOut("no_box", f"the face's box {list(entry.box)} is not in the picture")
  if not task.align:
    if entry.box is not None:
      return encode_image(_own_face(task, entry, image), task.encoding), {"status": "ok"}
    return (data if is_plain(data) else encode_image(image)), {"status": "ok"}
  searched = image if entry.box is None else cut_square(image, entry.box, SEARCH_MARGIN)
  # Without a face the square about the annotated box shows more of it than that of the search.
  own = entry.box is not None and task.on_no_face == "center"
  policy = "skip" if own else task.on_no_face
  aligned = align_image(searched, task.size, policy)
  record = {key: aligned.record[key] for key in ("status", "faces")}
  result = aligned.image
  if result is None and own:
    record["status"] = "centered"
    face = _own_face(task, entry, image)
    result = cv2.resize(face, (task.size, task.size), interpolation=cv2.INTER_LINEAR)
  return None if result is None else encode_image(result, task.encoding), record


def _own_face(task: Task, entry: Entry, image: np.ndarray) -> np.ndarray:
  """The face as the release shows it, at most task.size pixels large."""
  face = image if entry.box is None else cut_square(image, entry.box, CROP_MARGIN)
  if max(face.shape[:2]) <= task.size:
    return face
  return cv2.resize(face, (task.size, task.size), interpolation=cv2.INTER_AREA)


def _overlaps(box: Box, image: np.ndarray) -> bool:
  left, top, width, height = box
  return left < image.shape[1] and top < image.shape[0] and left + width > 0 and top + height > 0


def cut_square(image: np.ndarray, box: Box, margin: float) -> np.ndarray:
  """Cuts the square around a box.

  Args:
    image: uint8 [H, W, 3].
    box: left, top, width, height in pixels; it must overlap the picture.
    margin: added on each side, as a share of the box's longer side.

  Returns:
    uint8 [S, S, 3], S = max(width, height) * (1 + 2 * margin) of the part of the box that lies in
    the picture. Where the square reaches over the border it is moved inwards; if it is larger
    than the picture it is black outside.
  """
  left, right = max(box[0], 0), min(box[0] + box[2], image.shape[1])
  top, bottom = max(box[1], 0), min(box[1] + box[3], image.shape[0])
  side = round(max(right - left, bottom - top) * (1 + 2 * margin))
  x = _placed((left + right) / 2, side, image.shape[1])
  y = _placed((top + bottom) / 2, side, image.shape[0])
  result = np.zeros((side, side, 3), np.uint8)
  seen = image[max(y, 0) : y + side, max(x, 0) : x + side]
  result[max(-y, 0) :, max(-x, 0) :][: seen.shape[0], : seen.shape[1]] = seen
  return result


def _placed(center: float, side: int, length: int) -> int:
  """Where `side` pixels about a centre begin, moved inside [0, length] if they fit in."""
  start = round(center - side / 2)
  low, high = min(0, length - side), max(0, length - side)
  return min(max(start, low), high)
