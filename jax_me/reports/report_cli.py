"""Command line of `python -m jax_me report WORKDIR`: writes the report of a run again."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from jax_me.evaluation.subject_groups import read_groups
from jax_me.reports.run_report import DATA_FOLDER, write_report
from jax_me.reports.saved_report import SavedReport
from jax_me.run_folder import lock_run, verify_results
from jax_me.training.logging.history import read_history
from jax_me.training.logging.metrics_log import METRICS_FILE


def configure(parser: argparse.ArgumentParser) -> None:
  """Adds the arguments of the command."""
  parser.add_argument("workdir", type=Path, help="folder of an evaluated run")
  parser.add_argument("--title", help="heading of the page (default: unchanged)")
  parser.add_argument(
    "--groups",
    type=Path,
    help="CSV with a column subject and one column per attribute, such as sex or age",
  )


def main(args: argparse.Namespace) -> int:
  """Writes the report again. Exit code 0."""
  if not args.workdir.is_dir():
    raise ValueError(f"{args.workdir} is not the folder of a run")
  with lock_run(args.workdir):
    path = _write_again(args)
  print(path)
  return 0


def _write_again(args: argparse.Namespace) -> Path:
  verify_results(args.workdir, METRICS_FILE, DATA_FOLDER)
  report = SavedReport.load(args.workdir / DATA_FOLDER)
  log = args.workdir / METRICS_FILE  # Newer than the saved history if training continued.
  report = dataclasses.replace(
    report,
    title=args.title or report.title,
    history=read_history(log) if log.exists() else report.history,
    groups=read_groups(args.groups) if args.groups else report.groups,
  )
  return write_report(args.workdir, report)
