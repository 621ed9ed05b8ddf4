"""Tasks of a labelled folder: read a photograph or clip, align it if wanted, encode.

Runs in worker processes, so it imports nothing of TFDS.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from jax_me.datasets.generation.example import Example, ReportRow, TaskResult
from jax_me.datasets.generation.process_images import is_portable_image
from jax_me.datasets.labeled_folder.annotations import SourceImage
from jax_me.faces.alignment import AlignedFace, NoFaceError, align_clip, align_image
from jax_me.faces.image_files import UnreadableImage, encode_image, read_image


@dataclasses.dataclass(frozen=True)
class FolderTask:
  """Photographs, or the frames of one clip.

  Attributes:
    folder: folder of the files.
    sources: the images; the frames of a clip in their order.
    is_clip: whether all images share one transform.
    align: whether faces are cropped.
    size: side of aligned faces in pixels.
    on_no_face: "skip", "center" or "error".
    encoding: "png" or "jpg", for aligned faces.
  """

  folder: str
  sources: tuple[SourceImage, ...]
  is_clip: bool
  align: bool
  size: int
  on_no_face: str
  encoding: str


# The bytes to store (None if there are none), and the report row.
_ImageResult = tuple[bytes | None, ReportRow]


def run_folder_task(task: FolderTask) -> TaskResult:
  """Processes all images of a task, in order.

  Raises:
    ValueError: no face in an image, and on_no_face is "error"; the message names the file.
  """
  if task.align and task.is_clip:
    results = _align_frames(task)
  else:
    results = [_process_photograph(task, source.file) for source in task.sources]
  examples = tuple(
    _example(source, image)
    for source, (image, _) in zip(task.sources, results, strict=True)
    if image is not None
  )
  return TaskResult(examples, tuple(row for _, row in results))


def _example(source: SourceImage, image: bytes) -> Example:
  fields = {field.name: getattr(source, field.name) for field in dataclasses.fields(SourceImage)}
  del fields["split"]
  return Example(image=image, **fields)


def _process_photograph(task: FolderTask, file: str) -> _ImageResult:
  try:
    data = (pathlib.Path(task.folder) / file).read_bytes()
    image = read_image(data)
  except (OSError, UnreadableImage) as error:
    return _unreadable_result(file, error)
  digest = hashlib.sha256(data).hexdigest()
  if not task.align:
    stored = data if is_portable_image(data) else encode_image(image)
    return stored, ReportRow(file, "ok", digest=digest)
  try:
    aligned = align_image(image, task.size, task.on_no_face)
  except NoFaceError as error:
    raise ValueError(f"{file}: {error}") from error
  return _aligned_result(task, file, aligned, digest)


def _align_frames(task: FolderTask) -> list[_ImageResult]:
  digests: dict[str, str] = {}
  unreadable: dict[str, _ImageResult] = {}
  files = [source.file for source in task.sources]

  def frames() -> Iterator[np.ndarray]:
    for file in files:
      try:
        data = (pathlib.Path(task.folder) / file).read_bytes()
        image = read_image(data)
      except (OSError, UnreadableImage) as error:
        unreadable[file] = _unreadable_result(file, error)
      else:
        digests[file] = hashlib.sha256(data).hexdigest()
        yield image

  try:
    aligned = align_clip(frames(), task.size, task.on_no_face)
  except NoFaceError as error:
    raise ValueError(f"{files[0]} and the frames after it: {error}") from error
  done = {
    file: _aligned_result(task, file, face, digest)
    for (file, digest), face in zip(digests.items(), aligned, strict=True)
  }
  return [done.get(file) or unreadable[file] for file in files]


def _aligned_result(task: FolderTask, file: str, face: AlignedFace, digest: str) -> _ImageResult:
  # With 68 landmarks per image the report would be larger than the index of the images.
  details = {k: value for k, value in face.record.items() if k not in ("status", "landmarks")}
  row = ReportRow(file, face.record["status"], details, digest)
  return (None if face.image is None else encode_image(face.image, task.encoding)), row


def _unreadable_result(file: str, error: OSError | UnreadableImage) -> _ImageResult:
  reason = error.reason if isinstance(error, UnreadableImage) else error.strerror or str(error)
  return None, ReportRow(file, "unreadable", {"detail": reason})


def batch_tasks(tasks: Iterable[FolderTask], files: int) -> Iterator[FolderTask]:
  """Merges neighbouring single photographs into tasks of `files` files; clips stay as they are."""
  waiting: list[FolderTask] = []
  for task in tasks:
    if waiting and (task.is_clip or len(waiting) == files):
      yield _merge_tasks(waiting)
      waiting = []
    if task.is_clip:
      yield task
    else:
      waiting.append(task)
  if waiting:
    yield _merge_tasks(waiting)


def _merge_tasks(tasks: list[FolderTask]) -> FolderTask:
  sources = tuple(source for task in tasks for source in task.sources)
  return dataclasses.replace(tasks[0], sources=sources)
