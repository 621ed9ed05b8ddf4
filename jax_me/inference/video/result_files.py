"""Result files of `predict`: predictions.csv and events.json."""

import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_me.files import write_atomically
from jax_me.inference.video.spotting import ExpressionEvent
from jax_me.models.model_folder import SavedModel, write_json

PREDICTIONS_FILE = "predictions.csv"
EVENTS_FILE = "events.json"
COLUMNS = (
  "video", "frame", "file", "seconds", "person", "status", "left", "top", "right", "bottom",
  "label", "motion",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PredictionRow:
  """A row of predictions.csv: a person in a frame, or a frame without faces.

  Attributes:
    video: name of the video source.
    frame: index of the frame, from 0.
    file: file name of the frame in a folder of frames, else "".
    seconds: time of the frame.
    status: "ok", "no_face", "unreadable" or "skipped".
    person: number of the person, from 1; None without a face.
    box: (left, top, right, bottom) in pixels.
    label: the class with the highest score.
    motion: see `ExpressionSpotter.push`.
    scores: float [classes].
  """

  video: str
  frame: int
  file: str
  seconds: float
  status: str
  person: int | None = None
  box: tuple[int, int, int, int] | None = None
  label: str | None = None
  motion: float | None = None
  scores: np.ndarray | None = None


class PredictionsFile:
  """Writes predictions.csv row by row; complete rows survive an interruption of the program.

  Args:
    folder: output folder; created if missing.
    labels: class names; each gets a column "score_<label>".
  """

  def __init__(self, folder: str | os.PathLike, labels: Sequence[str]):
    self.path = pathlib.Path(folder) / PREDICTIONS_FILE
    self._classes = len(labels)
    header = _csv_line([*COLUMNS, *(f"score_{label}" for label in labels)])
    # Replaces an existing file atomically.
    write_atomically(self.path, header)
    self._file = open(self.path, "ab", buffering=0)

  def write(self, rows: Sequence[PredictionRow]) -> None:
    """Appends rows, normally in one system call."""
    data = b"".join(_csv_line(self._cells(row)) for row in rows)
    while data:
      data = data[self._file.write(data) :]

  def close(self) -> None:
    self._file.close()

  def _cells(self, row: PredictionRow) -> list[Any]:
    box = row.box or ("",) * 4
    scores = [f"{score:.5f}" for score in row.scores] if row.scores is not None else []
    return [
      row.video, row.frame, row.file, f"{row.seconds:.4f}", row.person or "", row.status, *box,
      row.label or "", "" if row.motion is None else f"{row.motion:.5f}",
      *(scores or [""] * self._classes),
    ]  # fmt: skip


def _csv_line(cells: Sequence[Any]) -> bytes:
  buffer = io.StringIO()
  csv.writer(buffer, lineterminator="\n").writerow(cells)
  # File names may be invalid Unicode.
  return buffer.getvalue().encode("utf-8", "surrogateescape")


def write_events(
  folder: str | os.PathLike, model: Mapping[str, Any], videos: Sequence[Mapping[str, Any]]
) -> None:
  """Writes events.json.

  Args:
    folder: output folder.
    model: see `model_record`.
    videos: one record per video, including its expressions.
  """
  content = {"format": 1, "model": model, "videos": list(videos)}
  write_json(pathlib.Path(folder) / EVENTS_FILE, content)


def model_record(saved: SavedModel, checkpoint: str | os.PathLike) -> dict[str, Any]:
  """The "model" entry of result files; `checkpoint` is the folder that it was loaded from."""
  return {
    "checkpoint": str(checkpoint),
    "name": saved.name,
    "labels": saved.labels,
    "trained_on": saved.source.get("trained_on", ""),
    "input": saved.source.get("options", {}).get("input", ""),
  }


def event_record(event: ExpressionEvent) -> dict[str, Any]:
  """The entry of an event in events.json; floats are rounded to four decimals."""
  return {
    name: round(value, 4) if isinstance(value, float) else value
    for name, value in dataclasses.asdict(event).items()
  }
