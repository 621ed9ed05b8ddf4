"""Tables over all videos of a study, joined with the columns of the participants."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jax_me.csv_files import csv_bytes
from jax_me.files import write_atomically
from jax_me.inference.study.participants import FILE_COLUMN, Participants
from jax_me.inference.video.result_files import (
  EVENTS_TABLE,
  SUMMARY_TABLE,
  event_table,
  summary_table,
)

VIDEOS_TABLE = "videos.csv"
_VIDEO_COLUMNS = (
  "status", "reason", "frames", "seconds", "fps", "people", "micro", "macro", "note",
)  # fmt: skip


def write_study_tables(
  folder: pathlib.Path,
  outcomes: Mapping[str, tuple[str, str, Mapping[str, Any] | None]],
  participants: Participants,
  labels: Sequence[str],
) -> None:
  """Writes videos.csv, events.csv and summary.csv.

  Args:
    folder: output folder of the study.
    outcomes: video -> status, reason, and the record if it was read.
    participants: see `Participants`.
    labels: class names.
  """
  videos: list[list[Any]] = [[FILE_COLUMN, *participants.columns, *_VIDEO_COLUMNS]]
  for video, (status, reason, record) in outcomes.items():
    cells = [status, reason, *_video_cells(record)]
    videos.append([video, *participants.cells(video), *cells])
  records = [record for _, _, record in outcomes.values() if record is not None]
  tables = {
    VIDEOS_TABLE: videos,
    EVENTS_TABLE: _joined(event_table(records), participants),
    SUMMARY_TABLE: _joined(summary_table(records, labels), participants),
  }
  for name, table in tables.items():
    write_atomically(folder / name, csv_bytes(table))


def result_columns(labels: Sequence[str]) -> set[str]:
  """Names of all columns of the tables except those of the participants."""
  return {*_VIDEO_COLUMNS, *event_table([])[0], *summary_table([], labels)[0]}


def _video_cells(record: Mapping[str, Any] | None) -> list[Any]:
  if record is None:
    return [None] * (len(_VIDEO_COLUMNS) - 2)
  kinds = [event["kind"] for event in record["events"]]
  return [
    record["frames"],
    record["seconds"],
    round(record["fps"], 4),
    record["people"],
    kinds.count("micro"),
    kinds.count("macro"),
    record["note"],
  ]


def _joined(table: list[list[Any]], participants: Participants) -> list[list[Any]]:
  """The table with the columns of the participants after its first one, the video."""
  (_, *header), *rows = table
  return [
    [FILE_COLUMN, *participants.columns, *header],
    *([video, *participants.cells(video), *cells] for video, *cells in rows),
  ]
