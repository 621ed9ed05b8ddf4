"""Report of a video as one HTML page: player, frames, timeline, expressions, people."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jax_me.faces.detector import LICENSE_NOTICE
from jax_me.inference.training_note import is_synthetic_or_unknown
from jax_me.inference.video.annotated_video import MIME
from jax_me.inference.video.thumbnails import FaceThumbnails
from jax_me.reports.document import (
  Block,
  Document,
  Figure,
  Gallery,
  KeyFigures,
  Section,
  Table,
  Text,
  Tile,
  Video,
)

FRAMES = 12
# A larger copy is not embedded: browsers load such pages slowly.
MAX_VIDEO_BYTES = 24 * 2**20
# Expressions with images; all are in the table.
MAX_TILES = 120


@dataclasses.dataclass(frozen=True)
class ReportImages:
  """Images of a video for its report.

  Attributes:
    timeline: the figure, PNG.
    dark_timeline: the same for dark pages.
    frames: (seconds, JPEG) of annotated frames.
    faces: face crops of the people.
    video: path of the annotated copy; None without a copy.
  """

  timeline: bytes
  dark_timeline: bytes
  frames: Sequence[tuple[float, bytes]]
  faces: FaceThumbnails
  video: pathlib.Path | None = None


def video_report(
  record: Mapping[str, Any], model: Mapping[str, Any], images: ReportImages
) -> Document:
  """Composes the report.

  Args:
    record: of the video, as in events.json.
    model: of `model_record`.
    images: its images.

  Returns:
    the report; `to_html` makes a page of it that needs no other file.
  """
  events = record["events"]
  micro = sum(event["kind"] == "micro" for event in events)
  statuses = ", ".join(
    f"{count} {status.replace('_', ' ')}" for status, count in record["statuses"].items()
  )
  lead: list[Block] = [
    KeyFigures(
      [
        ("length", clock(record["seconds"]), f"{record['fps']:.4g} frames per second"),
        ("frames", str(record["frames"]), statuses),
        ("people", str(record["people"]), ""),
        ("micro-expressions", str(micro), "at most half a second"),
        ("macro-expressions", str(len(events) - micro), ""),
      ]
    ),
    Text(
      f"Model: {model['name']}, {model['training_note']}.",
      warning=is_synthetic_or_unknown(model["trained_on"]),
    ),
    *([Text(f"Note: {record['note']}.")] if record["note"] else []),
  ]
  timeline = Figure(
    "timeline.png",
    images.timeline,
    "Time series of faces, scores and facial motion, with the expressions as shaded intervals.",
    dark=images.dark_timeline,
  )
  sections = [
    Section("Video", _player_and_frames(images)),
    Section("Timeline", [timeline]),
    Section("Expressions", _expressions(events, images.faces)),
    Section("People", [_people(record["summary"], model["labels"])]),
    Section("Method", _method(record, model)),
  ]
  return Document(f"Expressions in {pathlib.PurePath(record['video']).name}", lead, sections)


def clock(seconds: float) -> str:
  """Formats a time as minutes and seconds, "1:02.50"."""
  hundredths = round(100 * seconds)
  return f"{hundredths // 6000}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}"


def _player_and_frames(images: ReportImages) -> list[Block]:
  copy = images.video
  blocks: list[Block] = []
  if copy is not None and copy.stat().st_size <= MAX_VIDEO_BYTES:
    caption = f"Annotated copy, embedded from {copy.name}."
    blocks.append(Video(copy.read_bytes(), MIME[copy.suffix], caption))
  elif copy is not None:
    blocks.append(Text(f"The annotated copy is too large for this page: see {copy.name}."))
  if not images.frames:
    return [*blocks, Text("No frame was readable.")]
  tiles = [Tile([(jpeg, f"frame at {clock(at)}")], clock(at)) for at, jpeg in images.frames]
  return [*blocks, Gallery(tiles, tile_width=165)]


def _expressions(events: Sequence[Mapping[str, Any]], faces: FaceThumbnails) -> list[Block]:
  if not events:
    return [Text("No expression was found.")]
  tiles = []
  for event in events[:MAX_TILES]:
    images = [
      (jpeg, f"{name} of the expression")
      for name in ("onset", "apex", "offset")
      if (jpeg := faces.nearest(event["person"], event[name])) is not None
    ]
    score = "" if event["score"] is None else f"score {event['score']:.2f}, "
    duration = event["offset_seconds"] - event["onset_seconds"]
    lines = [
      f"person {event['person']}, {clock(event['onset_seconds'])} to "
      f"{clock(event['offset_seconds'])} ({duration:.2f} s)",
      f"apex {clock(event['apex_seconds'])}",
      f"{score}confidence {event['confidence']:.2f}, from {event['evidence']}",
    ]
    tiles.append(Tile(images, f"{event['label'] or 'expression'}, {event['kind']}", lines))
  rows = [
    [
      clock(event["onset_seconds"]),
      clock(event["apex_seconds"]),
      clock(event["offset_seconds"]),
      str(event["person"]),
      event["kind"],
      event["label"] or "",
      "" if event["score"] is None else f"{event['score']:.2f}",
      f"{event['confidence']:.2f}",
      event["evidence"],
    ]
    for event in events
  ]
  header = ["onset", "apex", "offset", "person", "kind", "label", "score", "confidence", "evidence"]
  more = len(events) - len(tiles)
  return [
    Text(
      "Images of each expression: onset, apex, offset."
      + (f" The first {MAX_TILES} are shown; {more} more are in the table." if more else "")
    ),
    Gallery(tiles, tile_width=270),
    Table("All expressions", header, rows, collapsed=True),
  ]


def _people(summary: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Block:
  if not summary:
    return Text("Nobody was found.")
  header = ["person", "seconds seen", "micro", "macro", "changes", *labels]
  rows = [
    [
      f"person {row['person']}",
      f"{row['seconds_seen']:.1f}",
      str(row["micro"]),
      str(row["macro"]),
      str(row["changes"]),
      *(f"{100 * row[f'share_{label}']:.1f}%" for label in labels),
    ]
    for row in summary
  ]
  return Table("Share of the frames with each label; details in summary.csv.", header, rows)


def _method(record: Mapping[str, Any], model: Mapping[str, Any]) -> list[Block]:
  kinds = {
    "frames": "a folder of images, read as the frames of one clip",
    "video": "a video file",
    "camera": "a camera",
  }
  motion = " Labels of this model describe motion: they are counted for the expressions only."
  return [
    Text(
      f"Source: {record['video']}, {kinds[record['kind']]}. Expressions are found from the motion "
      "of facial regions and, if the model has a class neutral, from its scores."
      + (motion if record["scores_at_rest"] is False else "")
    ),
    Text(
      "The label of an expression is an estimate of what a face shows, not of what a person feels."
    ),
    Text(LICENSE_NOTICE),
  ]
