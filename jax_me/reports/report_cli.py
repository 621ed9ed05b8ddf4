"""`python -m jax_me report WORKDIR`: the report of a run, made again from what the run kept."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jax_me.evaluation.subject_groups import read_groups
from jax_me.reports.report import PARTS_FOLDER, write_report
from jax_me.reports.saved_report import load_parts

METRICS_LOG = "metrics.jsonl"


def configure(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("workdir", type=Path, help="folder of a run that has been evaluated")
  parser.add_argument("--title", help="heading of the page (default: as before)")
  parser.add_argument(
    "--groups", type=Path, help="CSV with subject and one column a division, such as sex or age"
  )


def main(args: argparse.Namespace) -> int:
  """Exit code 0, or 1 when the folder holds nothing to report."""
  try:
    parts = load_parts(args.workdir / PARTS_FOLDER)
    log = args.workdir / METRICS_LOG  # has gone on if the training has
    path = write_report(
      args.workdir,
      title=args.title or parts.title,
      predictions=parts.predictions,
      history=log if log.exists() else parts.history,
      samples=parts.samples,
      reconstructions=parts.reconstructions,
      facts=parts.facts,
      groups=read_groups(args.groups) if args.groups else parts.groups,
    )
  except (ValueError, OSError) as error:
    print(f"report: {error}", file=sys.stderr)
    return 1
  print(path)
  return 0
