"""Result files of `predict`: predictions.csv, events.json, events.csv and summary.csv."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_me.csv_files import csv_bytes
from jax_me.files import write_atomically
from jax_me.inference.training_note import training_note
from jax_me.inference.video.expression_summary import summary_columns
from jax_me.inference.video.facial_motion import REGIONS
from jax_me.inference.video.frame_stream import Detection, FrameDetections
from jax_me.inference.video.spotting import ExpressionEvent
from jax_me.models.model_folder import SavedModel, write_json
from jax_me.models.model_metadata import AFFECT

PREDICTIONS_FILE = "predictions.csv"
EVENTS_FILE = "events.json"
EVENTS_TABLE = "events.csv"
SUMMARY_TABLE = "summary.csv"
RESULT_FILES = (PREDICTIONS_FILE, EVENTS_FILE, EVENTS_TABLE, SUMMARY_TABLE)
COLUMNS = (
  "video", "frame", "file", "seconds", "person", "status", "left", "top", "right", "bottom",
  "label", "motion", "yaw", "pitch", "roll",
)  # fmt: skip
REGION_COLUMNS = tuple(
  f"{region.replace(' ', '_')}_{direction}" for region in REGIONS for direction in ("right", "down")
)


class PredictionsFile:
  """Writes predictions.csv frame by frame; complete rows survive an interruption of the program.

  Args:
    folder: output folder; created if missing.
    labels: class names; each gets a column "score_<label>".
    affect: also write the columns "valence" and "arousal".
    regions: also write the displacement of each facial region, in columns "<region>_right" and
      "<region>_down".
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    labels: Sequence[str],
    *,
    affect: bool = False,
    regions: bool = False,
  ):
    self.path = pathlib.Path(folder) / PREDICTIONS_FILE
    self._labels = labels
    self._regions = regions
    self._affect = AFFECT if affect else ()
    header = [*COLUMNS, *(f"score_{label}" for label in labels), *self._affect]
    header += REGION_COLUMNS if regions else ()
    write_atomically(self.path, csv_bytes([header]))  # Replaces an existing file atomically.
    self._file = open(self.path, "ab", buffering=0)

  def write(self, video: str, result: FrameDetections) -> None:
    """Appends one row for each person in a frame, or one for a frame without faces.

    The rows are normally written in one system call.

    Args:
      video: name of the video source.
      result: the frame with its detections.
    """
    frame = result.frame
    first = [video, frame.number, frame.file, f"{frame.seconds:.4f}"]
    rows = [[*first, d.person, result.status, *self._cells(d)] for d in result.detections]
    scores = len(self._labels) + len(self._affect)
    empty = [""] * (9 + scores + len(REGION_COLUMNS) * self._regions)
    data = csv_bytes(rows or [[*first, "", result.status, *empty]])
    while data:
      data = data[self._file.write(data) :]

  def close(self) -> None:
    self._file.close()

  def _cells(self, detection: Detection) -> list[Any]:
    """Box, label, motion, pose, scores, valence and arousal."""
    scores, distance, pose = detection.scores, detection.distance, detection.pose
    assert scores is not None
    return [
      *(detection.box or [""] * 4),
      self._labels[int(scores.argmax())],
      "" if distance is None else f"{distance:.5f}",
      *([f"{pose.yaw:.1f}", f"{pose.pitch:.1f}", f"{pose.roll:.1f}"] if pose else [""] * 3),
      *(f"{score:.5f}" for score in scores),
      *(f"{value:.5f}" for value in (() if detection.affect is None else detection.affect)),
      *(_region_cells(detection.displacement) if self._regions else ()),
    ]


def _region_cells(displacement: np.ndarray | None) -> list[str]:
  if displacement is None:
    return [""] * len(REGION_COLUMNS)
  return [f"{value:.5f}" if np.isfinite(value) else "" for value in displacement.ravel()]


def write_results(
  folder: str | os.PathLike,
  model: Mapping[str, Any],
  videos: Sequence[Mapping[str, Any]],
  photographs: Sequence[Mapping[str, Any]] = (),
) -> None:
  """Writes events.json, events.csv and summary.csv.

  Args:
    folder: output folder.
    model: see `model_record`.
    videos: one record per video, with its "events" and its "summary".
    photographs: one record per photograph or folder of photographs, with its "summary".
  """
  output = pathlib.Path(folder)
  content = {"format": 1, "model": model, "videos": list(videos), "photographs": list(photographs)}
  write_json(output / EVENTS_FILE, content)
  summaries = [*photographs, *videos]
  write_atomically(output / EVENTS_TABLE, csv_bytes(event_table(videos)))
  write_atomically(output / SUMMARY_TABLE, csv_bytes(summary_table(summaries, model["labels"])))


def event_table(videos: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
  """The header and a row for each expression of the videos, in the order of their records."""
  columns = [field.name for field in dataclasses.fields(ExpressionEvent)]
  table: list[list[Any]] = [["video", *columns, "duration_seconds"]]
  for video in videos:
    for event in video["events"]:
      duration = round(event["offset_seconds"] - event["onset_seconds"], 4)
      table.append([video["video"], *(event[column] for column in columns), duration])
  return table


def summary_table(videos: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[list[Any]]:
  """The header and a row for each person of the videos, in the order of their records."""
  columns = ["person", *summary_columns(labels)]
  table: list[list[Any]] = [["video", "kind", *columns]]
  for video in videos:
    for row in video["summary"]:
      table.append([video["video"], video["kind"], *(row.get(column) for column in columns)])
  return table


def model_record(saved: SavedModel, checkpoint: str | os.PathLike) -> dict[str, Any]:
  """The "model" entry of result files; `checkpoint` is the folder that it was loaded from."""
  return {
    "checkpoint": str(checkpoint),
    "name": saved.name,
    "labels": saved.labels,
    "trained_on": saved.source.get("trained_on", ""),
    "training_note": training_note(saved.source.get("trained_on", "")),
    "input": saved.source.get("options", {}).get("input", ""),
  }


def event_record(event: ExpressionEvent) -> dict[str, Any]:
  """The entry of an event in events.json; floats are rounded to four decimals."""
  return {
    name: round(value, 4) if isinstance(value, float) else value
    for name, value in dataclasses.asdict(event).items()
  }
