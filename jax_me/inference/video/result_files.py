"""What `predict` leaves: predictions.csv, row by row, and events.json, whole; whose it is."""

import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jax_me.files import write_atomically
from jax_me.inference.video.spotting import Event
from jax_me.models.model_folder import SavedModel, write_json

PREDICTIONS = "predictions.csv"
EVENTS = "events.json"
COLUMNS = (
  "video", "frame", "file", "seconds", "person", "status", "left", "top", "right", "bottom",
  "label", "motion",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Row:
  """A line of predictions.csv: a person in a frame, or a frame without anybody.

  Attributes:
    video: name of the input.
    frame: place of the frame in it, from 0.
    file: the frame's own file, if it has one.
    seconds: time.
    status: "ok", "no_face", "unreadable" or "skipped".
    person: number from 1; None where nobody is seen.
    box: (left, top, right, bottom) in pixels.
    label: the class with the highest score.
    motion: see `Spotter.push`.
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
  """Writes predictions.csv line by line: whatever stops the program, whole lines are there.

  Args:
    folder: where; it is made where missing.
    labels: class names; each gets a column "score_<label>".
  """

  def __init__(self, folder: str | os.PathLike, labels: Sequence[str]):
    self.path = pathlib.Path(folder) / PREDICTIONS
    self._classes = len(labels)
    header = _line([*COLUMNS, *(f"score_{label}" for label in labels)])
    # The old content goes when the new header is there, in one step.
    write_atomically(self.path, header)
    self._file = open(self.path, "ab", buffering=0)

  def write(self, rows: Sequence[Row]) -> None:
    """Adds lines, in one system call."""
    data = b"".join(_line(self._cells(row)) for row in rows)
    while data:
      data = data[self._file.write(data) :]

  def close(self) -> None:
    self._file.close()

  def _cells(self, row: Row) -> list[Any]:
    box = row.box or ("",) * 4
    scores = [f"{score:.5f}" for score in row.scores] if row.scores is not None else []
    return [
      row.video, row.frame, row.file, f"{row.seconds:.4f}", row.person or "", row.status, *box,
      row.label or "", "" if row.motion is None else f"{row.motion:.5f}",
      *(scores or [""] * self._classes),
    ]  # fmt: skip


def _line(cells: Sequence[Any]) -> bytes:
  buffer = io.StringIO()
  csv.writer(buffer, lineterminator="\n").writerow(cells)
  # Names of files need not be valid Unicode.
  return buffer.getvalue().encode("utf-8", "surrogateescape")


def write_events(
  folder: str | os.PathLike, model: dict[str, Any], videos: Sequence[dict[str, Any]]
) -> None:
  """Writes events.json: what was read, and the expressions found in each video."""
  write_json(pathlib.Path(folder) / EVENTS, {"format": 1, "model": model, "videos": list(videos)})


def model_record(saved: SavedModel, checkpoint: str | os.PathLike) -> dict[str, Any]:
  """What results say of the model that gave them; `checkpoint` is where it was loaded from."""
  return {
    "checkpoint": str(checkpoint),
    "name": saved.name,
    "labels": saved.labels,
    "trained_on": saved.source.get("trained_on", ""),
    "input": saved.source.get("options", {}).get("input", ""),
  }


def event_record(event: Event) -> dict[str, Any]:
  """An event as it stands in events.json; times in seconds, four places."""
  return {
    name: round(value, 4) if isinstance(value, float) else value
    for name, value in dataclasses.asdict(event).items()
  }
