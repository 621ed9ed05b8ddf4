"""`python -m jax_me study`: expressions in all videos of a study, with a table of participants."""

import argparse
import pathlib
import sys

from jax_me.faces.license_notice import print_license_notice
from jax_me.inference.cli import (
  add_model_arguments,
  add_video_arguments,
  load_predictor,
  silence_opencv,
  stream_settings,
  video_limits,
)

EPILOG = """\
OUTPUT/videos.csv has a row for each video, events.csv one for each expression and summary.csv one
for each person, all with the columns of the participants. OUTPUT/elan/ has the expressions for
ELAN, as .eaf and as tab-separated text. OUTPUT/videos/ has the results of each video, as `predict`
writes them. Run the same command again to continue after an interruption.

exit code: 0 success; 1 videos failed or are missing, or bad input; 130 interrupted with ctrl-C.
"""


def configure(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.epilog = EPILOG
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.add_argument(
    "folder", type=pathlib.Path, metavar="FOLDER", help="folder with videos, at any depth"
  )
  parser.add_argument(
    "--participants",
    type=pathlib.Path,
    metavar="TABLE",
    help="CSV with a column file (path in FOLDER, or file name) and any others, for example "
    "participant, age, condition",
  )
  add_model_arguments(parser)
  parser.add_argument("--output", required=True, type=pathlib.Path, help="output folder")
  add_video_arguments(parser)


def main(args: argparse.Namespace) -> int:
  """Exit code 0; 1 for failed videos; 130 after Ctrl-C."""
  silence_opencv()
  from jax_me.inference.model_input import InputSpec
  from jax_me.inference.prediction_run import video_line
  from jax_me.inference.study.participants import Participants, read_participants
  from jax_me.inference.study.study import Study, StudySettings, find_videos
  from jax_me.inference.video.result_files import model_record

  videos = find_videos(args.folder, args.output)
  participants = Participants()
  if args.participants:
    participants = read_participants(args.participants, args.folder, videos)
  settings = StudySettings(
    args.checkpoint,
    stream_settings(args),
    args.fps,
    args.annotate,
    args.regions,
    video_limits(args),
  )
  predictor = load_predictor(args)
  study = Study(args.folder, args.output, videos, predictor, settings, participants)
  note = model_record(predictor.saved, args.checkpoint)["training_note"]
  print(f"model: {predictor.saved.name}, {note}")
  if InputSpec.from_model(predictor.saved, align=args.align).align:
    print_license_notice()
  if args.participants and (unlisted := [v for v in videos if v not in participants.rows]):
    print(
      f"{_videos(len(unlisted))} not in {args.participants}, columns stay empty: "
      f"{_shortened(unlisted)}",
      file=sys.stderr,
    )
  earlier, failed = 0, []
  try:
    for number, (video, outcome) in enumerate(study.run(), start=1):
      if outcome.record is None:
        failed.append(video)
        print(f"{video}: {outcome.status}: {outcome.reason}", file=sys.stderr)
      elif outcome.earlier:
        earlier += 1
      else:
        print(f"[{number}/{len(study.videos)}] {video_line(outcome.record)}", flush=True)
  except KeyboardInterrupt:
    print(
      f"interrupted; the same command goes on. Tables so far are in {args.output}", file=sys.stderr
    )
    return 130
  if earlier:
    print(f"{_videos(earlier)} finished by an earlier run")
  print(args.output / "videos.csv")
  if failed:
    print(f"{_videos(len(failed))} failed or missing: {_shortened(failed)}", file=sys.stderr)
  return 1 if failed else 0


def _videos(count: int) -> str:
  return "1 video" if count == 1 else f"{count} videos"


def _shortened(names: list[str]) -> str:
  return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
