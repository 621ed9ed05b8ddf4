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

from jax_me.datasets.generation.example import Example, Outcome, Row
from jax_me.datasets.labeled_folder.annotations import Source
from jax_me.faces.alignment import NoFaceError, align_clip, align_image
from jax_me.faces.image_files import UnreadableImage, encode_image, read_image

EXIF_ORIENTATION = 0x0112


@dataclasses.dataclass(frozen=True)
class Task:
  """Images that are handled together.

  Attributes:
    folder: where the files lie.
    sources: the images; the frames of a clip in their order.
    is_clip: whether one transform is shared.
    align: whether faces are cut out.
    size: side of aligned faces in pixels.
    on_no_face: "skip", "center" or "error".
    encoding: "png" or "jpg", for aligned faces.
  """

  folder: str
  sources: tuple[Source, ...]
  is_clip: bool
  align: bool
  size: int
  on_no_face: str
  encoding: str


# The bytes to store, if there are any, and what became of the source.
_Result = tuple[bytes | None, Row]


def run_task(task: Task) -> Outcome:
  """Handles all images of a task, in order.

  Raises:
    ValueError: no face in an image, and on_no_face is "error"; the message names the file.
  """
  if task.align and task.is_clip:
    results = _align_frames(task)
  else:
    results = [_handle_photograph(task, source.file) for source in task.sources]
  examples = tuple(
    _example(source, image)
    for source, (image, _) in zip(task.sources, results, strict=True)
    if image is not None
  )
  return Outcome(examples, tuple(row for _, row in results))


def _example(source: Source, image: bytes) -> Example:
  fields = {field.name: getattr(source, field.name) for field in dataclasses.fields(Source)}
  del fields["split"]
  return Example(image=image, **fields)


def _handle_photograph(task: Task, file: str) -> _Result:
  try:
    data = (pathlib.Path(task.folder) / file).read_bytes()
    image = read_image(data)
  except (OSError, UnreadableImage) as error:
    return _unreadable(file, error)
  digest = hashlib.sha256(data).hexdigest()
  if not task.align:
    return (data if is_plain(data) else encode_image(image)), Row(file, "ok", digest=digest)
  try:
    aligned = align_image(image, task.size, task.on_no_face)
  except NoFaceError as error:
    raise ValueError(f"{file}: {error}") from error
  return _aligned(task, file, aligned, digest)


def _align_frames(task: Task) -> list[_Result]:
  digests: dict[str, str] = {}
  unreadable: dict[str, _Result] = {}
  files = [source.file for source in task.sources]

  def frames() -> Iterator[Any]:
    for file in files:
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
    raise ValueError(f"{files[0]} and the frames after it: {error}") from error
  done = {
    file: _aligned(task, file, result, digest)
    for (file, digest), result in zip(digests.items(), aligned, strict=True)
  }
  return [done.get(file) or unreadable[file] for file in files]


def _aligned(task: Task, file: str, aligned: Any, digest: str) -> _Result:
  # 68 landmarks an image would make the report larger than the images' index.
  details = {k: value for k, value in aligned.record.items() if k not in ("status", "landmarks")}
  row = Row(file, aligned.record["status"], details, digest)
  return (None if aligned.image is None else encode_image(aligned.image, task.encoding)), row


def _unreadable(file: str, error: OSError | UnreadableImage) -> _Result:
  reason = error.reason if isinstance(error, UnreadableImage) else error.strerror or str(error)
  return None, Row(file, "unreadable", {"detail": reason})


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
  sources = tuple(source for task in tasks for source in task.sources)
  return dataclasses.replace(tasks[0], sources=sources)
