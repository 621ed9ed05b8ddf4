"""Command line of `python -m jax_me faces`: face alignment of a folder."""

import argparse
import shlex
import sys

from jax_me.beam.beam_flags import add_beam_flags, beam_runner
from jax_me.beam.beam_runner import PipelineFailed
from jax_me.cpu_cores import available_cores
from jax_me.faces import align_folder, alignment, detector, image_files
from jax_me.faces.license_notice import print_license_notice
from jax_me.terminal import print_error

EPILOG = f"""\
OUTPUT/report.jsonl has one row per file; OUTPUT/summary.json has the counts and the mean and
standard deviation of the aligned images. Run the same command again to resume an interrupted run.

On Apache Beam: jax-me faces --input photos --output faces --beam_runner=DirectRunner

exit code: 0 success; 1 files failed (unreadable, or without a face under --on-no-face error) or
the output cannot be written, or the pipeline failed; 2 bad arguments; 130 interrupted with ctrl-C.

{detector.LICENSE_NOTICE}
"""


def configure(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.epilog = EPILOG
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  add = parser.add_argument
  add("--input", required=True, metavar="DIR", help="folder with images, at any depth")
  add("--output", required=True, metavar="DIR", help="folder for the aligned faces")
  add("--size", type=int, default=224, help="side of the aligned faces in pixels (default 224)")
  add(
    "--workers",
    type=int,
    default=None,
    help=f"processes, each with its own models, 75 MB (default: one per core, "
    f"here {available_cores()})",
  )
  add(
    "--on-no-face",
    choices=alignment.ON_NO_FACE,
    default="skip",
    help="images without a face: leave out, use the centred square, or leave out and count as "
    "failed (default skip)",
  )
  add(
    "--clips",
    action="store_true",
    help="the numbered images of a folder are the frames of one clip: align all with one "
    "transform, from the first frame with a face",
  )
  add(
    "--format",
    choices=image_files.ENCODINGS,
    default="png",
    help="png is lossless; jpg takes a fifth of the space (default png)",
  )
  add(
    "--follow-links",
    action="store_true",
    help="follow links in INPUT that leave it (default: they are reported and not read)",
  )
  add(
    "--detector",
    choices=detector.DETECTORS,
    help="hog: dlib's detector, as in version 0.1; yunet: also finds small, turned, masked and "
    "half-hidden faces; yunet+hog: HOG where YuNet finds none "
    f"(default {detector.DEFAULT_DETECTOR}; in the folder of an earlier run, that of the run)",
  )
  add_beam_flags(parser)


def next_step(args: argparse.Namespace) -> str:
  """The command after an alignment."""
  folder = shlex.quote(str(args.output))
  return (
    f"train --config finetune_images --config.data.manual_dir={folder} "
    "--config.data.options.align=False  # if its folders are classes"
  )


def main(args: argparse.Namespace) -> int:
  """Runs the command; returns its exit code."""
  print_license_notice()
  try:
    summary = align_folder.align_folder(
      args.input,
      args.output,
      size=args.size,
      workers=args.workers,
      on_no_face=args.on_no_face,
      clips=args.clips,
      image_format=args.format,
      detector=args.detector,
      follow_links=args.follow_links,
      beam=beam_runner(args),
    )
  except KeyboardInterrupt:
    print("\nstopped; run the same command again to resume", file=sys.stderr)
    return 130
  except align_folder.OutputError as error:
    full = "; free some space and run the same command again" * ("No space left" in str(error))
    print_error(f"{error}{full}")
    return 1
  except PipelineFailed as error:
    print_error(error)
    return 1
  except (ValueError, RuntimeError, FileNotFoundError) as error:
    print_error(error)
    return 2
  counts = ", ".join(f"{number} {status}" for status, number in summary["counts"].items())
  print(f"{summary['files']} files: {counts}")
  if summary["mean"] is not None:
    mean, std = (", ".join(f"{x:.4f}" for x in summary[key]) for key in ("mean", "std"))
    print(f"aligned images in [0, 1], RGB: mean [{mean}], std [{std}]")
  print(f"aligned faces, {align_folder.SUMMARY_NAME} and report.jsonl are in {args.output}")
  if summary["failed"]:
    print(f"{summary['failed']} files failed; report.jsonl gives the reasons", file=sys.stderr)
    return 1
  return 0
