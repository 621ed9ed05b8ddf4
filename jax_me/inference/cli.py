"""`python -m jax_me predict`: expressions in images, videos and camera streams."""

import argparse
import json
import os
import pathlib
import shlex
import sys
from typing import TYPE_CHECKING

import cv2

from jax_me.bundled import PACKAGED, import_bundled
from jax_me.faces.detector import DETECTORS
from jax_me.faces.image_files import MAX_PIXELS
from jax_me.faces.license_notice import print_license_notice
from jax_me.inference.model_input import with_detector
from jax_me.inference.predictor import Predictor, load
from jax_me.inference.training_note import training_note
from jax_me.inference.video.video_limits import MAX_FRAMES, VideoLimits

if TYPE_CHECKING:
  from jax_me.inference.video.frame_stream import FrameStreamSettings


def configure(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "inputs",
    nargs="+",
    metavar="INPUT",
    help="images, folders of images (sorted by number), video files, or camera:0",
  )
  add_model_arguments(parser)
  parser.add_argument(
    "--output",
    type=pathlib.Path,
    help="output folder; videos need one, and of photographs the labels are always printed",
  )
  parser.add_argument(
    "--json",
    action="store_true",
    help="print the faces of photographs as JSON; with --output they are in its files",
  )
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


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the options for the model that `predict` and `study` share."""
  parser.add_argument(
    "--checkpoint",
    default=PACKAGED,
    metavar="SOURCE",
    help="model folder, run, checkpoint file, or name of weights (hf://OWNER/NAME); default: the "
    "expression model that comes with jax_me",
  )
  parser.add_argument("--offline", action="store_true", help="download no weights")


def add_detector_argument(parser: argparse.ArgumentParser) -> None:
  """Adds the option for the face detector."""
  parser.add_argument(
    "--detector",
    choices=DETECTORS,
    help="face detector (default: that of the model's training images; hog for older models)",
  )


def add_video_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the options for reading videos that `predict` and `study` share."""
  add_detector_argument(parser)
  parser.add_argument(
    "--align",
    action=argparse.BooleanOptionalAction,
    help="detect and crop faces; --no-align uses images as they are: aligned faces, or the motion "
    "images of a motion model (default: as the model was trained; a converted model gets the "
    "whole image)",
  )
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
    "--regions",
    action="store_true",
    help="also write the motion of twelve facial regions to predictions.csv (see docs/spotting.md)",
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
  parser.add_argument(
    "--max-pixels",
    type=int,
    default=MAX_PIXELS,
    metavar="N",
    help="refuse video files whose frames have more pixels (default %(default)s)",
  )
  parser.add_argument(
    "--max-frames",
    type=int,
    default=MAX_FRAMES,
    metavar="N",
    help="refuse video files with more frames, unless --seconds is given (default %(default)s)",
  )


def load_predictor(args: argparse.Namespace, *, labels: bool = True) -> Predictor:
  """Loads the model with the options of `add_model_arguments` and `add_detector_argument`.

  Raises:
    ValueError: the model cannot be loaded, or `labels` are needed and it has none.
  """
  if args.offline:
    import_bundled("convert.weight_names").go_offline()
  predictor = load(args.checkpoint)
  if labels:
    predictor.require_labels()
  if args.detector:
    predictor.saved = with_detector(predictor.saved, args.detector)
  return predictor


def stream_settings(args: argparse.Namespace) -> "FrameStreamSettings":
  """The settings of a frame stream from the options of `add_video_arguments`."""
  from jax_me.inference.video.frame_stream import FrameStreamSettings

  return FrameStreamSettings(
    every=args.every,
    motion=args.motion,
    recognise=args.recognise,
    smooth_seconds=args.smooth,
    batch=args.batch,
    align=args.align,
  )


def video_limits(args: argparse.Namespace) -> VideoLimits:
  """The limits of video files from the options of `add_video_arguments`."""
  return VideoLimits(args.max_pixels, args.max_frames)


def main(args: argparse.Namespace) -> int:
  """Exit code 0; 130 after Ctrl-C, with partial results written."""
  silence_opencv()
  from jax_me.inference.model_input import InputSpec
  from jax_me.inference.photograph_stream import stream_photographs
  from jax_me.inference.prediction_inputs import photographs_of
  from jax_me.inference.prediction_run import VideoJob, write_predictions
  from jax_me.inference.video.result_files import model_record
  from jax_me.inference.video.sources import find_sources

  stream = stream_settings(args)
  sources = find_sources(args.inputs, args.fps, args.read_as, video_limits(args))
  for source in sources:
    source.check_length(args.seconds)
  photographs = [source for source in sources if source.files]
  if args.output is None and (args.annotate or len(photographs) < len(sources)):
    raise ValueError("results of videos and copies with boxes are files: give --output FOLDER")
  if args.output and args.json:
    raise ValueError("--json is for results without --output, which writes events.json and tables")
  predictor = load_predictor(args)
  spec = InputSpec.from_model(predictor.saved, align=args.align)
  if spec.is_motion and photographs and args.align is not False:
    raise ValueError(
      f"the model was trained on motion ({spec.input}), but {photographs[0].name} "
      + (
        "is a single image; give a video or a folder of frames, or motion images with --no-align"
        if photographs[0].kind == "photograph"
        else "is read as photographs; if they are the frames of one clip, add --as frames"
      )
    )
  print(
    f"model: {predictor.saved.title}; "
    f"{training_note(predictor.saved.source.get('trained_on', ''))}",
    file=sys.stderr if args.json else sys.stdout,
  )
  if spec.align:
    print_license_notice()
  for source in sources:
    if source.note:
      print(f"{source.name}: {source.note}", file=sys.stderr)
  images = [image for source in photographs for image in photographs_of(source)]
  if args.output is None:
    found = predictor.predict(
      [image.name for image in images], align=args.align, as_="photos", batch=args.batch
    )
    if args.json:
      model = model_record(predictor.saved, args.checkpoint)
      print(json.dumps({"model": model, "faces": found.to_records()}, indent=2))
    else:
      for item in found:
        print(f"{item.name}: {'; '.join(map(str, item))}")
    return 0
  results = stream_photographs(images, predictor.saved, align=args.align, batch=args.batch)
  written = write_predictions(
    predictor,
    zip((image.name for image in images), results, strict=True),
    [VideoJob(source, stream, args.seconds) for source in sources if not source.files],
    args.output,
    annotate=args.annotate,
    regions=args.regions,
    checkpoint=args.checkpoint,
    say=print,
  )
  if written.outdated:
    names = ", ".join(written.outdated)
    print(f"{args.output} has files of an earlier run: {names}", file=sys.stderr)
  print(written.table)
  return 130 if written.interrupted else 0


def next_step(args: argparse.Namespace) -> str:
  """The command after a prediction."""
  if args.annotate:
    return ""
  model = [] if args.checkpoint == PACKAGED else ["--checkpoint", args.checkpoint]
  words = ["predict", *args.inputs, *model, "--output", str(args.output or "out"), "--annotate"]
  return f"{shlex.join(words)}  # {'boxes and labels' if args.output else 'tables and boxes'}"


def silence_opencv() -> None:
  """Silences OpenCV and FFmpeg: broken frames and missing cameras are reported by the results."""
  os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
  cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
