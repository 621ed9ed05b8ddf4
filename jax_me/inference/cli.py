"""`python -m jax_me predict`: expressions in images, videos and camera streams."""

import argparse
import collections
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2

from jax_me.faces.image_files import encode_image
from jax_me.faces.license_notice import print_license_notice
from jax_me.files import write_atomically
from jax_me.inference.predictor import Predictor, load
from jax_me.inference.video.result_files import PredictionsFile, model_record, write_results

if TYPE_CHECKING:
  from jax_me.inference.video.frame_stream import FrameStreamSettings
  from jax_me.inference.video.output_files import OutputFiles
  from jax_me.inference.video.sources import VideoSource


def configure(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "inputs",
    nargs="+",
    metavar="INPUT",
    help="images, folders of images (sorted by number), video files, or camera:0",
  )
  parser.add_argument("--checkpoint", required=True, help="folder of a run or of a converted model")
  parser.add_argument("--output", required=True, type=pathlib.Path, help="output folder")
  parser.add_argument(
    "--as",
    dest="read_as",
    choices=("photos", "frames"),
    help="read the images of a folder as unrelated photographs, each on its own, or as the frames "
    "of one clip (default: frames if they are numbered and neighbours look alike)",
  )
  parser.add_argument(
    "--seconds",
    type=float,
    help="stop after this many seconds of each video (cameras otherwise run until Ctrl-C)",
  )
  add_video_arguments(parser)


def add_video_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the options for reading videos that `predict` and `study` share."""
  parser.add_argument(
    "--fps",
    type=float,
    help="frames per second, for folders or to override the rate of a video file",
  )
  parser.add_argument(
    "--annotate",
    "--video",
    dest="annotate",
    action="store_true",
    help="also write copies of the videos and photographs with boxes and labels",
  )
  parser.add_argument(
    "--every", type=int, default=1, metavar="K", help="process every K-th frame only (default 1)"
  )
  parser.add_argument(
    "--smooth",
    type=float,
    default=0.0,
    metavar="SECONDS",
    help="time constant of an exponential moving average of the scores (default 0: none)",
  )
  parser.add_argument(
    "--no-motion",
    dest="motion",
    action="store_false",
    help="do not measure facial motion: faster, but expressions are then spotted from scores only",
  )
  parser.add_argument(
    "--no-recognise",
    dest="recognise",
    action="store_false",
    help="do not re-identify faces: a person who returns after more than a second is a new person",
  )
  parser.add_argument(
    "--batch",
    type=int,
    default=4,
    help="faces per model call (default 4; larger batches help on accelerators only)",
  )


def stream_settings(args: argparse.Namespace) -> "FrameStreamSettings":
  """The settings of a frame stream from the options of `add_video_arguments`."""
  from jax_me.inference.video.frame_stream import FrameStreamSettings

  return FrameStreamSettings(
    every=args.every,
    motion=args.motion,
    recognise=args.recognise,
    smooth_seconds=args.smooth,
    batch=args.batch,
  )


def main(args: argparse.Namespace) -> int:
  """Exit code 0; 1 for invalid input; 130 after Ctrl-C, with partial results written."""
  silence_opencv()
  try:
    return _predict(args)
  except (ValueError, OSError) as error:
    print(f"predict: {error}", file=sys.stderr)
    return 1


def silence_opencv() -> None:
  """Silences OpenCV and FFmpeg: broken frames and missing cameras are reported by the results."""
  os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
  cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _predict(args: argparse.Namespace) -> int:
  from jax_me.inference.model_input import InputSpec
  from jax_me.inference.video.annotated_video import annotated_suffix
  from jax_me.inference.video.output_files import OutputFiles
  from jax_me.inference.video.run import VideoSession, VideoSessionSettings
  from jax_me.inference.video.sources import find_sources
  from jax_me.inference.video.spotting import SpottingSettings

  stream = stream_settings(args)
  sources = find_sources(args.inputs, args.fps, args.read_as)
  predictor = load(args.checkpoint)
  spec = InputSpec.from_model(predictor.saved)
  photographs = [source for source in sources if source.kind in ("photograph", "photographs")]
  if spec.is_motion and photographs:
    raise ValueError(
      f"the model was trained on motion ({spec.input}), but {photographs[0].name} "
      + (
        "is a single image; give a video or a folder of frames"
        if photographs[0].kind == "photograph"
        else "is read as photographs; if they are the frames of one clip, add --as frames"
      )
    )
  model = model_record(predictor.saved, args.checkpoint)
  print(f"model: {predictor.saved.name}, {model['training_note']}")
  if spec.align:
    print_license_notice()
  videos = [source for source in sources if source not in photographs]
  files = OutputFiles(args.output, [source.name for source in videos], annotated_suffix())
  files.remove_outdated()
  records: list[dict[str, Any]] = []
  photograph_records: list[dict[str, Any]] = []
  predictions = PredictionsFile(args.output, predictor.labels)
  write_results(args.output, model, records)  # replaces those of an earlier run
  interrupted = False
  try:
    if photographs:
      annotated = files if args.annotate else None
      photograph_records = _read_photographs(photographs, predictor, predictions, annotated)
      write_results(args.output, model, records, photograph_records)
    for index, source in enumerate(videos):
      if source.note:
        print(f"{source.name}: {source.note}", file=sys.stderr)
      paths = files.of_video(index)
      session = VideoSession(
        source,
        predictor,
        VideoSessionSettings(
          stream=stream,
          spotting=SpottingSettings(),
          timeline=paths.timeline,
          report=paths.report,
          annotated=paths.annotated if args.annotate else None,
          seconds=args.seconds,
        ),
      )
      try:
        session.run(predictions)
      except KeyboardInterrupt:
        interrupted = True
      records.append(session.finish())
      write_results(args.output, model, records, photograph_records)
      print(video_line(records[-1]))
      if interrupted:
        break
  except KeyboardInterrupt:  # while reading photographs
    interrupted = True
  finally:
    predictions.close()
  if outdated := files.of_earlier_runs():
    print(f"{args.output} has files of an earlier run: {', '.join(outdated)}", file=sys.stderr)
  print(predictions.path)
  return 130 if interrupted else 0


def _read_photographs(
  sources: "Sequence[VideoSource]",
  predictor: Predictor,
  predictions: PredictionsFile,
  annotated: "OutputFiles | None",
) -> list[dict[str, Any]]:
  """Records of photographs: one per folder, and one for all single files; see `write_results`."""
  from jax_me.inference.video.annotation import draw_photograph
  from jax_me.inference.video.expression_summary import photograph_summary
  from jax_me.inference.video.run import classify_photographs

  single = [source for source in sources if source.kind == "photograph"]
  name = single[0].name if len(single) == 1 else f"{len(single)} photographs"
  groups = [(source.name, [source]) for source in sources if source.kind == "photographs"]
  records = []
  for group, members in [(name, single)] * bool(single) + groups:
    statuses: collections.Counter[str] = collections.Counter()
    labels: collections.Counter[str] = collections.Counter()
    for source in members:
      if source.note:
        print(f"{source.name}: {source.note}", file=sys.stderr)
      for result in classify_photographs(source, predictor):
        predictions.write(source.name, result)
        statuses[result.status] += 1
        for face in result.detections:
          if face.scores is not None:
            labels[predictor.labels[int(face.scores.argmax())]] += 1
        image = draw_photograph(result, predictor.labels) if annotated else None
        if annotated and image is not None:
          path = annotated.next_photograph(result.frame.file or source.name)
          write_atomically(path, encode_image(image, "jpg"), scratch=_made(path.parent))
    counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
    print(f"{group}: {statuses.total()} photographs ({counts}), {labels.total()} faces")
    records.append(
      {
        "video": group,
        "kind": "photographs",
        "photographs": statuses.total(),
        "statuses": dict(statuses),
        "faces": labels.total(),
        "summary": [photograph_summary(labels, predictor.labels)],
      }
    )
  return records


def _made(folder: pathlib.Path) -> pathlib.Path:
  folder.mkdir(parents=True, exist_ok=True)
  return folder


def video_line(record: Mapping[str, Any]) -> str:
  """One line on a video and what was found in it."""
  statuses = ", ".join(f"{count} {status}" for status, count in record["statuses"].items())
  micro = sum(event["kind"] == "micro" for event in record["events"])
  macro = len(record["events"]) - micro
  people = "1 person" if record["people"] == 1 else f"{record['people']} people"
  return (
    f"{record['video']}: {record['frames']} frames ({statuses}), {people}, "
    f"{micro} micro-expressions, {macro} macro-expressions"
  )
