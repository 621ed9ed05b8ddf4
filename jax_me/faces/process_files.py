"""The work on one photograph or clip of a tree: read, align, write, and say what happened."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator

import cv2
import numpy as np

from jax_me import files
from jax_me.faces import alignment, detector, image_files, input_files


class OutputError(ValueError):
  """The output folder cannot be written: disk full, no permission, or in use by another run."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """What a task needs to know.

  Attributes:
    input, output: the two folders.
    scratch: folder for half-written files, on the same file system as output.
    size: side of the aligned faces in pixels.
    center: whether pictures without a face yield their centred square.
    image_format: "png" or "jpg".
  """

  input: str
  output: str
  scratch: str
  size: int
  center: bool
  image_format: str

  @property
  def on_no_face(self) -> str:
    return "center" if self.center else "skip"


def run_task(task: input_files.Task, settings: Settings) -> Iterator[dict]:
  """Aligns a task's pictures and writes them.

  Yields:
    One report row per picture, in order; each after its picture was written.

  Raises:
    OutputError: a result cannot be written.
  """
  yield from (_run_clip if task.is_clip else _run_photograph)(task, settings)


def empty_row(name: str, status: str, reason: str | None = None) -> dict:
  """The row of a file that yielded nothing."""
  return {
    "file": name,
    "status": status,
    "output": None,
    "reason": reason,
    "faces": 0,
    "box": None,
    "landmarks": None,
    "transform": None,
  }


def _run_photograph(task: input_files.Task, settings: Settings) -> Iterator[dict]:
  name, output = task.names[0], task.outputs[0]
  try:
    image = _read(name, settings)
    aligned = alignment.align_image(image, settings.size, settings.on_no_face)
    row = _write(name, output, aligned, settings)
  except OutputError:
    raise
  except Exception as error:
    row = _failed(name, error)
  yield row


def _run_clip(task: input_files.Task, settings: Settings) -> Iterator[dict]:
  # Frames are read again, not kept: a clip may have thousands, and most have a face in the first.
  broken: dict[str, Exception] = {}
  aligner = None
  for name in task.names:
    try:
      frame = _read(name, settings)
      faces = detector.find_faces(frame)
    except Exception as error:
      broken[name] = error
      continue
    if faces or aligner is None:
      aligner = alignment.ClipAligner.from_frame(
        frame, faces, settings.size, settings.on_no_face, reference=name
      )
    if faces:
      break
  for name, output in zip(task.names, task.outputs, strict=True):
    try:
      if aligner is None or name in broken:  # no aligner means that all are broken
        raise broken[name]
      row = _write(name, output, aligner.align(_read(name, settings)), settings)
    except OutputError:
      raise
    except Exception as error:
      row = _failed(name, error)
    yield row


def _read(name: str, settings: Settings) -> np.ndarray:
  return image_files.read_image(os.path.join(settings.input, name))


def _failed(name: str, error: Exception) -> dict:
  """The row of a picture that went wrong, so that it does not end the work on all others."""
  if isinstance(error, image_files.UnreadableImage):
    return empty_row(name, "unreadable", error.reason)
  return empty_row(name, "failed", f"{type(error).__name__}: {error}")


def _write(name: str, output: str, aligned: alignment.AlignedFace, settings: Settings) -> dict:
  row = {**empty_row(name, ""), **aligned.record}
  if row["status"] == "size_mismatch":
    row["reason"] = f"the frame's size is not that of {row['reference']}, so no shared transform"
  if aligned.image is None:
    return row
  data = image_files.encode_image(aligned.image, settings.image_format)
  path = pathlib.Path(settings.output, output)
  try:
    files.write_atomically(path, data, scratch=settings.scratch)
  except OSError as error:
    raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
  row["output"] = output
  row["pixels"] = settings.size**2
  # Sums of whole numbers, so that mean and deviation do not depend on the order of the work.
  row["pixel_sum"] = _channel_sums(aligned.image)
  row["pixel_square_sum"] = _channel_sums(
    cv2.multiply(aligned.image, aligned.image, dtype=cv2.CV_32S)
  )
  return row


def _channel_sums(image: np.ndarray) -> list[int]:
  return [int(value) for value in cv2.sumElems(image)[:3]]
