"""`python -m jax_me predict`: expressions in images, videos and camera streams."""

import argparse
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import cv2

from jax_me.bundled import import_bundled
from jax_me.faces.detector import DETECTORS, LICENSE_NOTICE
from jax_me.inference.predictor import load
from jax_me.inference.video.result_files import PredictionsFile, model_record, write_events


def configure(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "inputs",
    nargs="+",
    metavar="INPUT",
    help="images, folders of frames (sorted by number), video files, or camera:0",
  )
  parser.add_argument(
    "--checkpoint",
    required=True,
    metavar="SOURCE",
    help="model folder, run, checkpoint file, or name of weights (hf://OWNER/NAME)",
  )
  parser.add_argument("--offline", action="store_true", help="download no weights")
  parser.add_argument("--output", required=True, type=pathlib.Path, help="output folder")
  parser.add_argument(
    "--fps",
    type=float,
    help="frames per second, for folders or to override the rate of a video file",
  )
  parser.add_argument(
    "--video", action="store_true", help="also write a copy of the video with boxes and labels"
  )
  parser.add_argument(
    "--every", type=int, default=1, metavar="K", help="process every K-th frame only (default 1)"
  )
  parser.add_argument(
    "--seconds",
    type=float,
    help="stop after this many seconds of each video (cameras otherwise run until Ctrl-C)",
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
    "--detector",
    choices=DETECTORS,
    help="face detector (default: that of the model's training images; hog for older models)",
  )
  parser.add_argument(
    "--batch",
    type=int,
    default=4,
    help="faces per model call (default 4; larger batches help on accelerators only)",
  )


def main(args: argparse.Namespace) -> int:
  """Exit code 0; 1 for invalid input; 130 after Ctrl-C, with partial results written."""
  # Silences OpenCV and FFmpeg: broken frames and missing cameras are reported in the results and
  # by our own error messages.
  os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
  cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
  try:
    if args.offline:
      import_bundled("convert.weight_names").go_offline()
    return _predict(args)
  except (ValueError, OSError) as error:
    print(f"predict: {error}", file=sys.stderr)
    return 1


def _predict(args: argparse.Namespace) -> int:
  from jax_me.inference.model_input import InputSpec, with_detector
  from jax_me.inference.video.frame_stream import FrameStreamSettings
  from jax_me.inference.video.run import VideoSession, VideoSessionSettings, classify_photograph
  from jax_me.inference.video.sources import find_sources
  from jax_me.inference.video.spotting import SpottingSettings

  stream = FrameStreamSettings(
    every=args.every,
    motion=args.motion,
    recognise=args.recognise,
    smooth_seconds=args.smooth,
    batch=args.batch,
  )
  sources = find_sources(args.inputs, args.fps)
  predictor = load(args.checkpoint)
  if args.detector:
    predictor.saved = with_detector(predictor.saved, args.detector)
  spec = InputSpec.from_model(predictor.saved)
  photographs = [source for source in sources if source.kind == "photograph"]
  if spec.is_motion and photographs:
    raise ValueError(
      f"the model was trained on motion ({spec.input}), but {photographs[0].name} is a single "
      "image; give a video or a folder of frames"
    )
  if spec.align:
    print(f"note: {LICENSE_NOTICE}", file=sys.stderr)
  videos = [source for source in sources if source.kind != "photograph"]
  suffixes = _file_suffixes([source.name for source in videos])
  records: list[dict[str, Any]] = []
  predictions = PredictionsFile(args.output, predictor.labels)
  model = model_record(predictor.saved, args.checkpoint)
  write_events(args.output, model, records)  # replaces that of an earlier run
  interrupted = False
  try:
    for source in photographs:
      predictions.write(source.name, classify_photograph(source, predictor))
    for source, suffix in zip(videos, suffixes, strict=True):
      if source.note:
        print(f"{source.name}: {source.note}", file=sys.stderr)
      session = VideoSession(
        source,
        predictor,
        VideoSessionSettings(
          stream=stream,
          spotting=SpottingSettings(),
          timeline=args.output / f"timeline{suffix}.png",
          annotated=args.output / f"annotated{suffix}.mp4" if args.video else None,
          seconds=args.seconds,
        ),
      )
      try:
        session.run(predictions)
      except KeyboardInterrupt:
        interrupted = True
      records.append(session.finish())
      write_events(args.output, model, records)
      print(_summary(records[-1]))
      if interrupted:
        break
  except KeyboardInterrupt:  # while reading photographs
    interrupted = True
  finally:
    predictions.close()
  print(predictions.path)
  return 130 if interrupted else 0


def _file_suffixes(videos: list[str]) -> list[str]:
  """Suffixes that make the output files of several videos unique: "" for one video."""
  if len(videos) < 2:
    return [""] * len(videos)
  stems = [pathlib.PurePath(video.replace(":", "")).stem for video in videos]
  return [
    f"_{stem}" if stems.count(stem) == 1 else f"_{number}_{stem}"
    for number, stem in enumerate(stems, start=1)
  ]


def _summary(record: Mapping[str, Any]) -> str:
  statuses = ", ".join(f"{count} {status}" for status, count in record["statuses"].items())
  micro = sum(event["kind"] == "micro" for event in record["events"])
  macro = len(record["events"]) - micro
  people = "1 person" if record["people"] == 1 else f"{record['people']} people"
  return (
    f"{record['video']}: {record['frames']} frames ({statuses}), {people}, "
    f"{micro} micro-expressions, {macro} macro-expressions"
  )
