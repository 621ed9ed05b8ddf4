"""`python -m jax_me score FILE`: anyone's predictions, scored by the rules of this project."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from jax_me.evaluation.read_predictions import read_predictions, to_three_classes
from jax_me.evaluation.subject_groups import read_groups
from jax_me.evaluation.summary import REPEATS, summarize
from jax_me.reports.report import PARTS_FOLDER, write_report
from jax_me.reports.saved_report import FACTS
from jax_me.reports.terminal import describe


def configure(parser: argparse.ArgumentParser) -> None:
  parser.description = (
    "Scores predictions pooled over folds and databases (UF1, UAR, accuracy), with bootstrap "
    "confidence intervals over subjects. FILE is a CSV with the columns truth and prediction and, "
    "where known, database, subject, clip, file, fold and score_<label>; or a log in the form of "
    "MEGC 2019 (a line 'casme2 sub01', then lines 'clip truth prediction')."
  )
  parser.add_argument("file", type=Path, metavar="FILE", help="the predictions")
  parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
  parser.add_argument("--output", type=Path, help="folder for tables, pictures and report.html")
  parser.add_argument("--labels", help="class names in the order of their integers: a,b,c")
  parser.add_argument(
    "--classes",
    type=int,
    choices=(3,),
    help="3: score expressions as negative, positive and surprise, leaving out what is neither",
  )
  parser.add_argument(
    "--groups", type=Path, help="CSV with subject and one column a division, such as sex or age"
  )
  parser.add_argument(
    "--resamples", type=_positive, default=REPEATS, help="of the bootstrap (default: %(default)s)"
  )
  parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")


def main(args: argparse.Namespace) -> int:
  """Exit code 0, or 1 when there is nothing to score or the output cannot be written."""
  try:
    labels = [label.strip() for label in args.labels.split(",")] if args.labels else None
    predictions = read_predictions(args.file, labels=labels)
    groups = read_groups(args.groups) if args.groups else None
    facts = {"predictions": args.file.name, "labels": ", ".join(predictions.labels)}
    if args.classes:
      predictions, left_out = to_three_classes(predictions)
      facts["scored as"] = f"{', '.join(predictions.labels)}. {left_out}".strip()
    summary = summarize(predictions, groups=groups, repeats=args.resamples, seed=args.seed)
    page = None
    if args.output:
      _check_output(args.output)
      page = write_report(
        args.output,
        title=f"Scores of {args.file.name}",
        predictions=predictions,
        groups=groups,
        facts=facts,
        summary=summary,
      )
  except (ValueError, OSError) as error:
    print(f"score: {error}", file=sys.stderr)
    return 1
  if args.json:
    print(json.dumps({"source": facts, "labels": predictions.labels, **summary}, indent=2))
  else:
    lines = [f"{name}: {value}" for name, value in facts.items()]
    text = "\n".join([*lines, "", describe(summary, predictions.labels)])
    # Names need not be UTF-8; odd bytes are shown, not a reason to fail.
    print(text.encode("utf-8", "backslashreplace").decode("utf-8"))
  if page is not None:
    print(f"report: {page}", file=sys.stderr if args.json else sys.stdout)
  return 0


def _check_output(folder: Path) -> None:
  """Refuses a folder of other things: a report would mix with them."""
  if folder.exists() and not folder.is_dir():
    raise ValueError(f"--output {folder} is a file; give a folder")
  if folder.is_dir() and any(folder.iterdir()) and not (folder / PARTS_FOLDER / FACTS).exists():
    raise ValueError(f"--output {folder} holds other files; give an empty or a new folder")


def _positive(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
  return int(text)
