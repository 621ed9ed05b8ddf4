"""Result files of `predict`, for photographs and videos, from the command line and from Python."""

import collections
import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jax_me.faces.image_files import encode_image
from jax_me.files import write_atomically
from jax_me.inference.predictor import Predictor
from jax_me.inference.video.annotated_video import DEFAULT_SUFFIX, annotated_suffix
from jax_me.inference.video.annotation import draw_photograph
from jax_me.inference.video.expression_summary import photograph_summary
from jax_me.inference.video.frame_stream import FrameDetections, FrameStreamSettings
from jax_me.inference.video.output_files import OutputFiles
from jax_me.inference.video.result_files import (
  PREDICTIONS_FILE,
  RESULT_FILES,
  PredictionsFile,
  model_record,
  write_results,
)
from jax_me.inference.video.sources import VideoSource
from jax_me.run_folder import writing_results

# People with a line in the printed result.
MAX_PEOPLE = 6


@dataclasses.dataclass(frozen=True)
class VideoJob:
  """A video that is to be read.

  Attributes:
    source: the video.
    stream: settings of detection and classification.
    seconds: stop after this many seconds; None reads to the end.
  """

  source: VideoSource
  stream: FrameStreamSettings
  seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class WrittenPredictions:
  """Result of `write_predictions`.

  Attributes:
    table: path of predictions.csv.
    outdated: names of files in the folder that are of an earlier run.
    interrupted: whether KeyboardInterrupt ended it; the files have the results so far.
  """

  table: pathlib.Path
  outdated: list[str]
  interrupted: bool


def write_predictions(
  predictor: Predictor,
  photographs: Iterable[tuple[str, FrameDetections]],
  videos: Sequence[VideoJob],
  folder: str | os.PathLike,
  *,
  annotate: bool = False,
  regions: bool = False,
  checkpoint: str = "",
  quiet: bool = False,
  say: Callable[[str], None] = lambda line: None,
) -> WrittenPredictions:
  """Writes predictions.csv, events.json, the tables, timelines and reports, and their checksums.

  Args:
    predictor: the model.
    photographs: (path, result), read as a stream; `frame.file` is the name of the file where the
      path is that of a file in a folder.
    videos: read one after the other.
    folder: for the files; those of an earlier run are replaced.
    annotate: also write annotated photographs and videos.
    regions: also write the displacement of each facial region.
    checkpoint: folder of the model, for the record.
    quiet: show no progress.
    say: gets one line per video and per group of photographs.

  Returns:
    what was written.

  Raises:
    VideoError: a video has too many frames.
    OSError: the folder cannot be written.
  """
  # Imports Matplotlib, which labels of photographs on the terminal do not need.
  from jax_me.inference.video.run import VideoSession, VideoSessionSettings

  output = pathlib.Path(folder)
  suffix = annotated_suffix() if annotate else DEFAULT_SUFFIX  # PyAV is imported only if needed
  files = OutputFiles(output, [job.source.name for job in videos], suffix)
  output.mkdir(parents=True, exist_ok=True)
  interrupted = False
  try:
    # What an interruption leaves is not listed as finished.
    with writing_results(output, *RESULT_FILES, *files.names()):
      files.remove_outdated()
      model = model_record(predictor.saved, checkpoint)
      write_results(output, model, [])  # replaces those of an earlier run
      predictions = PredictionsFile(
        output, predictor.labels, affect=predictor.saved.affect, regions=regions
      )
      with contextlib.closing(predictions):
        groups = _PhotographGroups(predictor.labels)
        for name, result in photographs:
          groups.add(name, result)
          predictions.write(_folder_of(name, result) or name, result)
          image = draw_photograph(result, predictor.labels) if annotate else None
          if image is not None:
            path = files.next_photograph(result.frame.file or name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, encode_image(image, "jpg"), scratch=path.parent)
        photograph_records = groups.records()
        for record in photograph_records:
          say(_photographs_line(record))
        write_results(output, model, [], photograph_records)
        records: list[dict[str, Any]] = []
        for index, job in enumerate(videos):
          paths = files.of_video(index)
          session = VideoSession(
            job.source,
            predictor,
            VideoSessionSettings(
              stream=job.stream,
              timeline=paths.timeline,
              report=paths.report,
              annotated=paths.annotated if annotate else None,
              seconds=job.seconds,
              quiet=quiet,
            ),
          )
          try:
            session.run(predictions)
          except KeyboardInterrupt:
            interrupted = True
          records.append(session.finish())
          write_results(output, model, records, photograph_records)
          say(video_line(records[-1]))
          if interrupted:
            raise KeyboardInterrupt
  except KeyboardInterrupt:
    interrupted = True
  return WrittenPredictions(output / PREDICTIONS_FILE, files.of_earlier_runs(), interrupted)


def _folder_of(name: str, result: FrameDetections) -> str:
  """The folder in which a photograph was found; "" for one that was given by itself."""
  return str(pathlib.PurePath(name).parent) if result.frame.file else ""


class _PhotographGroups:
  """Counts of the photographs of each folder, and of those that were given by themselves."""

  def __init__(self, labels: Sequence[str]):
    self._labels = labels
    self._names: dict[str, list[str]] = collections.defaultdict(list)
    self._statuses: dict[str, collections.Counter[str]] = collections.defaultdict(
      collections.Counter
    )
    self._found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)

  def add(self, name: str, result: FrameDetections) -> None:
    group = _folder_of(name, result)
    self._names[group].append(name)
    self._statuses[group][result.status] += 1
    for face in result.detections:
      if face.scores is not None:
        self._found[group][self._labels[int(face.scores.argmax())]] += 1

  def records(self) -> list[dict[str, Any]]:
    """One record per group; see `write_results`."""
    return [
      {
        "video": group or (names[0] if len(names) == 1 else f"{len(names)} photographs"),
        "kind": "photographs",
        "photographs": len(names),
        "statuses": dict(self._statuses[group]),
        "faces": self._found[group].total(),
        "summary": [photograph_summary(self._found[group], self._labels)],
      }
      for group, names in self._names.items()
    ]


def _photographs_line(record: Mapping[str, Any]) -> str:
  counts = ", ".join(f"{count} {status}" for status, count in record["statuses"].items())
  photographs, faces = record["photographs"], record["faces"]
  return (
    f"{record['video']}: {photographs} photograph{'s' * (photographs != 1)} ({counts}), "
    f"{faces} face{'s' * (faces != 1)}"
  )


def video_line(record: Mapping[str, Any]) -> str:
  """A line on a video and what was found in it, and one on each of the first people."""
  statuses = ", ".join(f"{count} {status}" for status, count in record["statuses"].items())
  micro = sum(event["kind"] == "micro" for event in record["events"])
  macro = len(record["events"]) - micro
  people = "1 person" if record["people"] == 1 else f"{record['people']} people"
  lines = [
    f"{record['video']}: {record['frames']} frames ({statuses}), {people}, "
    f"{micro} micro-expressions, {macro} macro-expressions"
  ]
  for row in record["summary"][:MAX_PEOPLE]:
    labels = [name.removeprefix("share_") for name in row if name.startswith("share_")]
    shares = [f"{name} {row[f'share_{name}']:.0%}" for name in labels if row[f"share_{name}"]]
    changes = f"{row['changes']} change{'s' * (row['changes'] != 1)} of expression"
    parts = [f"{row['seconds_seen']:.1f} s", *shares, changes]
    lines.append(f"  person {row['person']}: {', '.join(parts)}")
  return "\n".join(lines)
