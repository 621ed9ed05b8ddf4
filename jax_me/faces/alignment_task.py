"""Alignment of one photograph or clip of a folder: read, align, write, make report rows."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator

import cv2
import numpy as np

from jax_me import files
from jax_me.bounded_reading import FileTooSlow, time_limit
from jax_me.faces import alignment, image_files, input_files
from jax_me.faces.alignment_report import ReportRow


class OutputError(ValueError):
  """The output folder cannot be written: disk full, no permission, or in use by another run."""


@dataclasses.dataclass(frozen=True)
class AlignmentSettings:
  """Settings of a run.

  Attributes:
    input, output: the two folders.
    size: side of the aligned faces in pixels.
    clips: whether the numbered images of a folder are frames of one clip.
    image_format: one of `image_files.ENCODINGS`.
    on_no_face: "skip", "center" or "error", which differ in the result for "center" only.
    detector: one of `detector.DETECTORS`.
  """

  input: str
  output: str
  size: int
  clips: bool
  image_format: str
  on_no_face: str
  detector: str

  @property
  def scratch(self) -> pathlib.Path:
    """Folder for partial files."""
    return pathlib.Path(self.output, ".faces-partial")

  @property
  def policy(self) -> str:
    """`on_no_face` of a single image: faceless ones never stop the run."""
    return "center" if self.on_no_face == "center" else "skip"


def run_task(task: input_files.AlignmentTask, settings: AlignmentSettings) -> list[ReportRow]:
  """Aligns and writes the images of a task.

  Returns:
    One report row per image, in order.

  Raises:
    OutputError: a result cannot be written.
  """
  errors: dict[str, Exception] = {}

  def frames() -> Iterator[tuple[str, np.ndarray]]:
    for name in task.names:
      try:
        yield name, _read_image(name, settings)
      except Exception as error:
        errors[name] = error

  rows = []
  # Frames are read twice, not kept: a clip may have thousands, and most have a face in the first.
  aligner = None
  if task.is_clip:
    try:
      aligner = alignment.ClipAligner.of_clip(
        frames(), settings.size, settings.policy, settings.detector
      )
    except Exception as error:  # must not stop the run
      return failed_rows(task, f"{type(error).__name__}: {error}")
  for name, output in zip(task.names, task.outputs, strict=True):
    try:
      if name in errors:
        raise errors[name]
      image = _read_image(name, settings)
      if aligner is not None:
        aligned = aligner.align(image)
      else:
        aligned = alignment.align_image(image, settings.size, settings.policy, settings.detector)
      rows.append(_write_image(name, output, aligned, settings))
    except OutputError:
      raise
    except image_files.UnreadableImage as error:
      rows.append(make_empty_row(name, "unreadable", error.reason))
    except FileTooSlow as error:
      rows.append(make_empty_row(name, "unreadable", error.strerror))
    except Exception as error:
      rows.append(make_empty_row(name, "failed", f"{type(error).__name__}: {error}"))
  return rows


def _read_image(name: str, settings: AlignmentSettings) -> np.ndarray:
  with time_limit():
    return image_files.read_image(os.path.join(settings.input, name))


def failed_rows(task: input_files.AlignmentTask, reason: str) -> list[ReportRow]:
  """The report rows of a task that failed as a whole, such as by a crash of its worker."""
  return [make_empty_row(name, "failed", reason) for name in task.names]


def make_empty_row(name: str, status: str, reason: str | None = None) -> ReportRow:
  """The report row of a file without a result.

  Args:
    name: path relative to the input folder.
    status: see `align_folder.align_folder`.
    reason: cause of a failure.

  Returns:
    the row without the source file's size and time.
  """
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


def _write_image(
  name: str, output: str, aligned: alignment.AlignedFace, settings: AlignmentSettings
) -> ReportRow:
  row = {**make_empty_row(name, ""), **aligned.record}
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
  # Integer sums, so that mean and deviation do not depend on the processing order.
  row["pixel_sum"] = _channel_sums(aligned.image)
  row["pixel_square_sum"] = _channel_sums(
    cv2.multiply(aligned.image, aligned.image, dtype=cv2.CV_32S)
  )
  return row


def _channel_sums(image: np.ndarray) -> list[int]:
  return [int(value) for value in cv2.sumElems(image)[:3]]
