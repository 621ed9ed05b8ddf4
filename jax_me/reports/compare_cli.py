"""Command line of `jax-me compare RUN RUN ...`: runs on the same test examples."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from jax_me.evaluation.comparison import compare_runs
from jax_me.evaluation.prediction_reader import read_predictions
from jax_me.evaluation.predictions import PREDICTIONS_FILE, Predictions
from jax_me.reports.comparison_report import (
  DATA_FOLDER,
  SCORES_FILE,
  format_comparison,
  write_comparison,
)
from jax_me.reports.score_cli import add_bootstrap_arguments, check_output

CONFIG_FILE = "config.json"


def configure(parser: argparse.ArgumentParser) -> None:
  """Adds the description and arguments of the command."""
  parser.description = (
    "Compares runs that were tested on the same examples: UF1, UAR and accuracy with bootstrap "
    "confidence intervals over subjects, paired intervals of the differences, and McNemar's test. "
    "RUN is the folder of a finished run or a table of predictions, as of `score`."
  )
  parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the runs, at least two")
  parser.add_argument("--output", type=Path, help="folder for comparison.html, tables and figure")
  parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
  parser.add_argument(
    "--common",
    action="store_true",
    help="if the tested examples differ, compare those that all runs tested",
  )
  add_bootstrap_arguments(parser)


def main(args: argparse.Namespace) -> int:
  """Prints the comparison, and writes the page with --output. Exit code 0."""
  names = run_names(args.runs)
  runs = {name: run_predictions(path) for name, path in zip(names, args.runs, strict=True)}
  comparison = compare_runs(runs, common_only=args.common, repeats=args.resamples, seed=args.seed)
  page = None
  if args.output:
    scores = args.output / DATA_FOLDER / SCORES_FILE
    check_output(args.output, is_report=scores.exists())
    settings = {name: run_settings(path) for name, path in zip(names, args.runs, strict=True)}
    page = write_comparison(args.output, comparison, settings)
  if args.json:
    print(json.dumps(comparison, indent=2))
  else:
    text = format_comparison(comparison)
    print(text.encode("utf-8", "backslashreplace").decode("utf-8"))
  if page is not None:
    print(f"report: {page}", file=sys.stderr if args.json else sys.stdout)
  return 0


def next_step(args: argparse.Namespace) -> str:
  """The command after a comparison on the terminal."""
  runs = " ".join(shlex.quote(str(run)) for run in args.runs)
  return "" if args.output else f"compare {runs} --output comparison"


def run_names(paths: Sequence[Path]) -> list[str]:
  """Short names of the runs: the last parts of their paths that distinguish them.

  Raises:
    ValueError: the same path twice.
  """
  resolved = [path.resolve() for path in paths]
  for number, path in enumerate(resolved):
    if path in resolved[:number]:
      raise ValueError(f"{paths[number]} is given twice")
  count = 1
  while True:
    names = [os.path.join(*path.parts[-count:]) for path in resolved]
    if len(set(names)) == len(names):
      return names
    count += 1


def run_predictions(path: Path) -> Predictions:
  """Reads the predictions of a run, of an output folder of `score`, or a table.

  Raises:
    ValueError: the run is not finished, or the table is invalid.
    OSError: the file cannot be read.
  """
  if not path.is_dir():
    return read_predictions(path)
  for candidate in (path / PREDICTIONS_FILE, path / "report" / PREDICTIONS_FILE):
    if candidate.exists():
      return read_predictions(candidate)
  if (path / CONFIG_FILE).exists():
    raise ValueError(
      f"{path} holds a run that is not finished or has no test examples ({PREDICTIONS_FILE} is "
      "missing); repeat its command to finish it"
    )
  raise ValueError(f"{path} holds no run: {PREDICTIONS_FILE} is missing")


def run_settings(path: Path) -> dict[str, object]:
  """The recipe of a run by dotted key; empty where it is unknown."""
  try:
    document = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return {}
  # Imported here: it loads JAX.
  from flax.traverse_util import flatten_dict

  return flatten_dict(document, sep=".") if isinstance(document, dict) else {}
