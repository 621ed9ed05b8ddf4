"""`python -m jax_me predict`: reads the expressions of photographs, videos, a camera."""

import argparse
import os
import pathlib
import sys
from typing import Any

import cv2

from jax_me.faces.detector import LICENSE_NOTICE
from jax_me.inference.predictor import load
from jax_me.inference.video.result_files import PredictionsFile, model_record, write_events


def configure(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "inputs",
    nargs="+",
    metavar="INPUT",
    help="pictures, folders of frames (in the order of their numbers), video files, or camera:0",
  )
  parser.add_argument("--checkpoint", required=True, help="folder of a run or of a converted model")
  parser.add_argument("--output", required=True, type=pathlib.Path, help="folder for the results")
  parser.add_argument(
    "--fps", type=float, help="frames a second, for folders and instead of what a file states"
  )
  parser.add_argument(
    "--video", action="store_true", help="also write a copy with boxes and labels"
  )
  parser.add_argument(
    "--every", type=int, default=1, metavar="K", help="look at every K-th frame only (default 1)"
  )
  parser.add_argument(
    "--seconds",
    type=float,
    help="stop after so many seconds of each video; cameras run till ctrl-C",
  )
  parser.add_argument(
    "--smooth",
    type=float,
    default=0.0,
    metavar="SECONDS",
    help="time constant of a running mean over the scores (default 0: none)",
  )
  parser.add_argument(
    "--no-motion",
    dest="motion",
    action="store_false",
    help="do not measure the face's motion: faster; expressions are then found by scores alone",
  )
  parser.add_argument(
    "--no-recognise",
    dest="recognise",
    action="store_false",
    help="who comes back after more than a second is a new person",
  )
  parser.add_argument(
    "--batch",
    type=int,
    default=4,
    help="faces a model call (default 4; more pay off on accelerators only)",
  )


def main(args: argparse.Namespace) -> int:
  """Exit code 0; 1 for what cannot be opened; 130 after ctrl-C, with the results so far."""
  # OpenCV's and FFmpeg's own lines about broken frames and missing cameras: the rows and our one
  # error say it.
  os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
  cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
  try:
    return _predict(args)
  except (ValueError, OSError) as error:
    print(f"predict: {error}", file=sys.stderr)
    return 1


def _predict(args: argparse.Namespace) -> int:
  from jax_me.inference.model_input import InputForm
  from jax_me.inference.video.frame_stream import ObservationSettings
  from jax_me.inference.video.run import SessionSettings, VideoSession, photograph_rows
  from jax_me.inference.video.sources import find_footage
  from jax_me.inference.video.spotting import SpottingSettings

  observation = ObservationSettings(
    every=args.every,
    motion=args.motion,
    recognise=args.recognise,
    smooth_seconds=args.smooth,
    batch=args.batch,
  )
  inputs = find_footage(args.inputs, args.fps)
  predictor = load(args.checkpoint)
  form = InputForm.of_source(predictor.saved.source, predictor.saved.image_size)
  photographs = [footage for footage in inputs if footage.kind == "photograph"]
  if form.is_motion and photographs:
    raise ValueError(
      f"the model was trained on motion ({form.input}), and {photographs[0].name} is a single "
      "picture; give a video or a folder of frames"
    )
  if form.align:
    print(f"note: {LICENSE_NOTICE}", file=sys.stderr)
  videos = [footage for footage in inputs if footage.kind != "photograph"]
  names = _names([footage.name for footage in videos])
  records: list[dict[str, Any]] = []
  predictions = PredictionsFile(args.output, predictor.labels)
  model = model_record(predictor.saved, args.checkpoint)
  write_events(args.output, model, records)  # none of an older run
  interrupted = False
  try:
    for footage in photographs:
      predictions.write(photograph_rows(footage, predictor))
    for footage, name in zip(videos, names, strict=True):
      if footage.note:
        print(f"{footage.name}: {footage.note}", file=sys.stderr)
      session = VideoSession(
        footage,
        predictor,
        SessionSettings(
          observation=observation,
          spotting=SpottingSettings(),
          timeline=args.output / f"timeline{name}.png",
          annotated=args.output / f"annotated{name}.mp4" if args.video else None,
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
  except KeyboardInterrupt:  # among photographs
    interrupted = True
  finally:
    predictions.close()
  print(predictions.path)
  return 130 if interrupted else 0


def _names(videos: list[str]) -> list[str]:
  """What tells the pictures of several videos apart: "" for one, "_<name>" for more."""
  if len(videos) < 2:
    return [""] * len(videos)
  stems = [pathlib.PurePath(video.replace(":", "")).stem for video in videos]
  return [
    f"_{stem}" if stems.count(stem) == 1 else f"_{place}_{stem}"
    for place, stem in enumerate(stems, start=1)
  ]


def _summary(record: dict[str, Any]) -> str:
  statuses = ", ".join(f"{count} {status}" for status, count in record["statuses"].items())
  micro = sum(event["kind"] == "micro" for event in record["events"])
  return (
    f"{record['video']}: {record['frames']} frames ({statuses}), {record['people']} people, "
    f"{micro} micro- and {len(record['events']) - micro} macro-expressions"
  )
