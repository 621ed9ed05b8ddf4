"""The work on one photograph or clip of a dataset: read, align if wanted, encode.

Runs in worker processes, so it imports nothing of TFDS.
"""

import dataclasses
import hashlib
import io
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from PIL import Image

from jax_me.faces.alignment import NoFaceError, align_clip, align_image
from jax_me.faces.images import UnreadableImage, encode_image, read_image

EXIF_ORIENTATION = 0x0112


@dataclasses.dataclass(frozen=True)
class Task:
  """Images that are handled together.

  Attributes:
    folder: where the files lie.
    files: relative names; the frames of a clip in their order.
    is_clip: whether one transform is shared.
    align: whether faces are cut out.
    size: side of aligned faces in pixels.
    on_no_face: "skip", "center" or "error".
    encoding: "png" or "jpg", for aligned faces.
  """

  folder: str
  files: tuple[str, ...]
  is_clip: bool
  align: bool
  size: int
  on_no_face: str
  encoding: str


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of one image.

  Attributes:
    file: its relative name.
    image: encoded bytes to store; None when there are none.
    record: JSON-able row for the report, with at least "status".
    digest: hash of the source's bytes; "" when it cannot be read.
  """

  file: str
  image: bytes | None
  record: dict[str, Any]
  digest: str = ""


def run_task(task: Task) -> list[Outcome]:
  """Handles all images of a task; one Outcome each, in order.

  Raises:
    ValueError: no face in an image, and on_no_face is "error"; the message names the file.
  """
  if task.align and task.is_clip:
    return _align_frames(task)
  return [_handle_photograph(task, file) for file in task.files]


def _handle_photograph(task: Task, file: str) -> Outcome:
  try:
    data = (pathlib.Path(task.folder) / file).read_bytes()
    image = read_image(data)
  except (OSError, UnreadableImage) as error:
    return _unreadable(file, error)
  digest = hashlib.sha256(data).hexdigest()
  if not task.align:
    stored = data if is_plain(data) else encode_image(image)
    return Outcome(file, stored, {"status": "ok"}, digest)
  try:
    aligned = align_image(image, task.size, task.on_no_face)
  except NoFaceError as error:
    raise ValueError(f"{file}: {error}") from error
  return _outcome(task, file, aligned, digest)


def _align_frames(task: Task) -> list[Outcome]:
  digests: dict[str, str] = {}
  unreadable: dict[str, Outcome] = {}

  def frames() -> Iterator[Any]:
    for file in task.files:
      try:
        data = (pathlib.Path(task.folder) / file).read_bytes()
        image = read_image(data)
      except (OSError, UnreadableImage) as error:
        unreadable[file] = _unreadable(file, error)
      else:
        digests[file] = hashlib.sha256(data).hexdigest()
        yield image

  try:
    aligned = align_clip(frames(), task.size, task.on_no_face)
  except NoFaceError as error:
    raise ValueError(f"{task.files[0]} and the frames after it: {error}") from error
  done = {
    file: _outcome(task, file, result, digest)
    for (file, digest), result in zip(digests.items(), aligned, strict=True)
  }
  return [done.get(file) or unreadable[file] for file in task.files]


def _outcome(task: Task, file: str, aligned: Any, digest: str) -> Outcome:
  # 68 landmarks an image would make the report larger than the images' index.
  record = {key: value for key, value in aligned.record.items() if key != "landmarks"}
  if aligned.image is None:
    return Outcome(file, None, record, digest)
  return Outcome(file, encode_image(aligned.image, task.encoding), record, digest)


def _unreadable(file: str, error: OSError | UnreadableImage) -> Outcome:
  reason = error.reason if isinstance(error, UnreadableImage) else error.strerror or str(error)
  return Outcome(file, None, {"status": "unreadable", "detail": reason})


def is_plain(data: bytes) -> bool:
  """Whether every reader shows these bytes alike: 8-bit RGB or grey JPEG or PNG, upright."""
  with Image.open(io.BytesIO(data)) as image:
    return (
      image.format in ("JPEG", "PNG")
      and image.mode in ("RGB", "L")
      and not image.has_transparency_data
      and image.getexif().get(EXIF_ORIENTATION, 1) == 1
    )


def batched(tasks: Iterable[Task], files: int) -> Iterator[Task]:
  """Joins neighbouring single photographs into tasks of `files` files, for fewer messages."""
  waiting: list[Task] = []
  for task in tasks:
    if waiting and (task.is_clip or len(waiting) == files):
      yield _joined(waiting)
      waiting = []
    if task.is_clip:
      yield task
    else:
      waiting.append(task)
  if waiting:
    yield _joined(waiting)


def _joined(tasks: list[Task]) -> Task:
  return dataclasses.replace(tasks[0], files=tuple(file for task in tasks for file in task.files))
