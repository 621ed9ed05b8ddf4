"""Command line of `python -m jax_me score FILE`: scores of a table of predictions."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from jax_me.evaluation.prediction_reader import read_predictions, to_three_classes
from jax_me.evaluation.subject_groups import read_groups
from jax_me.evaluation.summary import REPEATS, summarize
from jax_me.files import has_files
from jax_me.reports.run_report import DATA_FOLDER, score_document, write_report
from jax_me.reports.saved_report import DETAILS_FILE, SavedReport
from jax_me.reports.score_text import format_scores
from jax_me.run_folder import has_results_list


def configure(parser: argparse.ArgumentParser) -> None:
  """Adds the description and arguments of the command."""
  parser.description = (
    "Computes UF1, UAR and accuracy, pooled over folds and databases, with bootstrap confidence "
    "intervals over subjects. FILE is a CSV with the columns truth and prediction and, optionally, "
    "database, subject, clip, file, fold and score_<label>; or a log in the format of MEGC 2019 "
    "(a line 'casme2 sub01', then lines 'clip truth prediction')."
  )
  parser.add_argument("file", type=Path, metavar="FILE", help="the predictions")
  parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
  parser.add_argument("--output", type=Path, help="folder for report.html, tables and figures")
  parser.add_argument("--labels", help="class names in the order of their integers: a,b,c")
  parser.add_argument(
    "--classes",
    type=int,
    choices=(3,),
    help="3: map expressions to negative, positive and surprise, and exclude all others",
  )
  parser.add_argument(
    "--groups",
    type=Path,
    help="CSV with a column subject and one column per attribute, such as sex or age",
  )
  add_bootstrap_arguments(parser)


def main(args: argparse.Namespace) -> int:
  """Prints the scores, and writes the report with --output. Exit code 0."""
  labels = [label.strip() for label in args.labels.split(",")] if args.labels else None
  predictions = read_predictions(args.file, labels=labels)
  groups = read_groups(args.groups) if args.groups else None
  details = {"predictions": args.file.name, "labels": ", ".join(predictions.labels)}
  if args.classes:
    predictions, excluded = to_three_classes(predictions)
    details["scored as"] = f"{', '.join(predictions.labels)}. {excluded}".strip()
  summary = summarize(predictions, groups=groups, repeats=args.resamples, seed=args.seed)
  title = f"Scores of {args.file.name}"
  report = SavedReport(title, predictions, details=details, groups=groups)
  page = None
  if args.output:
    details_file = args.output / DATA_FOLDER / DETAILS_FILE
    check_output(args.output, is_report=details_file.exists() or has_results_list(args.output))
    page = write_report(args.output, report, summary)
  if args.json:
    print(json.dumps(score_document(report, summary), indent=2))
  else:
    lines = [f"{name}: {value}" for name, value in details.items()]
    text = "\n".join([*lines, "", format_scores(summary, predictions.labels)])
    # File names may contain bytes that are not UTF-8; they are printed as escapes.
    print(text.encode("utf-8", "backslashreplace").decode("utf-8"))
  if page is not None:
    print(f"report: {page}", file=sys.stderr if args.json else sys.stdout)
  return 0


def next_step(args: argparse.Namespace) -> str:
  """The command after scores on the terminal."""
  return "" if args.output else f"score {shlex.quote(str(args.file))} --output scores"


def check_output(folder: Path, *, is_report: bool) -> None:
  """Rejects a folder with other files, which would be mixed with those of the report.

  Args:
    folder: of the output; may be missing.
    is_report: whether an earlier call, which may have been killed, wrote to it.

  Raises:
    ValueError: a file, or a folder with other files.
  """
  if folder.exists() and not folder.is_dir():
    raise ValueError(f"--output {folder} is a file, not a folder")
  if has_files(folder) and not is_report:
    raise ValueError(f"--output {folder} contains other files; choose an empty or new folder")


def add_bootstrap_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds --resamples and --seed."""
  parser.add_argument(
    "--resamples",
    type=positive,
    default=REPEATS,
    help="number of bootstrap resamples (default: %(default)s)",
  )
  parser.add_argument(
    "--seed", type=int, default=0, help="random seed of the bootstrap (default: %(default)s)"
  )


def positive(text: str) -> int:
  """Parses a positive integer for argparse."""
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
  return int(text)
