"""Command line `python -m jax_me data`: builds, lists, checks and previews datasets."""

import argparse
import dataclasses
import difflib
import json
import logging
import pathlib
import shlex
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from jax_me.beam.beam_flags import add_beam_flags, beam_runner
from jax_me.beam.beam_runner import PipelineFailed
from jax_me.cpu_cores import available_cores
from jax_me.data.folds import RULES
from jax_me.datasets import catalog
from jax_me.datasets.built_datasets import DamagedDataset, find_build, list_builds, open_build
from jax_me.datasets.catalog import BUILDERS, builder_class
from jax_me.datasets.generation import published_counts
from jax_me.datasets.generation.build_report import REPORT_FILE
from jax_me.datasets.generation.checksums import SUMMARY_FILE
from jax_me.datasets.generation.prepare import prepare_dataset
from jax_me.datasets.option_flags import add_option_flags, format_value, given_options
from jax_me.datasets.quality.check import MAX_IMAGES_FOR_FACES, DatasetCheck, check_dataset
from jax_me.datasets.quality.preview import write_preview
from jax_me.files import write_atomically
from jax_me.terminal import format_table, print_error, program_name
from jax_me.worker_pool import WorkerDied

DATA_DIR = pathlib.Path("data")
MAX_PROBLEMS = 5  # printed problems of a build; all are in its report

BUILD_EPILOG = """\
examples:
  jax-me data build demo_clips --input flow --subjects 12
  jax-me data build demo_clips --input flow --beam_runner=DirectRunner
Repeat the command to continue an interrupted build. An existing build is left as it is.
exit code: 0 done; 1 disk error, a worker process died or the pipeline failed; 2 bad arguments or
unusable files; 130 interrupted (ctrl-C)"""
LIST_EPILOG = "exit code: 0, or 2 for an unknown name"
CHECK_EPILOG = """\
exit code: 0 valid for evaluation; 1 damaged or not valid for evaluation; 2 bad arguments"""
PREVIEW_EPILOG = "exit code: 0 done; 1 damaged dataset or disk error; 2 bad arguments"


class DatasetParser(argparse.ArgumentParser):
  """Parser that adds the option flags of the dataset named on the command line."""

  def parse_known_args(  # type: ignore[override]
    self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
  ) -> tuple[argparse.Namespace, list[str]]:
    words = list(args or ())
    # The word after a flag that takes a value is not the dataset's name.
    with_value = {flag for flag, a in self._option_string_actions.items() if a.nargs != 0}
    positional = [
      word
      for previous, word in zip(["", *words], words, strict=False)
      if not word.startswith("-") and previous not in with_value
    ]
    name = next((word for word in positional if word in BUILDERS), None)
    if name is not None:
      add_option_flags(self, builder_class(name).Options)
    elif positional:
      try:
        catalog.check_name(positional[0])
      except ValueError as error:
        self.error(str(error))
    parsed, unknown = super().parse_known_args(words, namespace)
    for word in unknown:
      flag = word.partition("=")[0]
      similar = difflib.get_close_matches(flag, self._option_string_actions, n=1)
      hint = f"; did you mean {similar[0]}?" if similar else ""
      self.error(f"unknown argument {word}{hint} (see --help)")
    return parsed, unknown


def configure(parser: argparse.ArgumentParser) -> None:
  """Adds the commands and their arguments; the parser adds those of a dataset by its name."""
  commands = parser.add_subparsers(
    dest="data_command",
    required=True,
    metavar="<build|list|check|preview>",
    parser_class=DatasetParser,
  )

  def add_command(name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    subparser = commands.add_parser(
      name,
      help=summary,
      description=f"{summary[0].upper()}{summary[1:]}.",
      epilog=epilog,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
    )
    subparser.add_argument(
      "name", nargs="?" if name == "list" else None, help="name of the dataset"
    )
    subparser.add_argument(
      "--data-dir",
      type=pathlib.Path,
      default=DATA_DIR,
      metavar="DIR",
      help="root folder of built datasets (default data)",
    )
    return subparser

  build = add_command("build", "build a dataset, from your own files if needed", BUILD_EPILOG)
  build.add_argument("--manual-dir", metavar="DIR", help="folder with your copy of the dataset")
  build.add_argument(
    "--follow-links",
    action="store_true",
    help="follow links in this folder that leave it (default: they are left out and reported)",
  )
  add_beam_flags(build)
  listing = add_command("list", "list available and built datasets", LIST_EPILOG)
  listing.add_argument("--json", action="store_true", help="print JSON instead of text")
  check = add_command("check", "check that a built dataset is valid for evaluation", CHECK_EPILOG)
  check.add_argument(
    "--split-rule",
    choices=RULES,
    help="rule that makes the folds (default: official if there are several splits, loso if "
    "subjects are known, else kfold)",
  )
  check.add_argument(
    "--folds", type=int, default=5, metavar="N", help="folds of kfold, step and holdout (default 5)"
  )
  check.add_argument(
    "--split-seed", type=int, default=0, metavar="N", help="seed of kfold and holdout (default 0)"
  )
  check.add_argument(
    "--train-splits",
    type=lambda text: tuple(text.split(",")),
    default=("train",),
    metavar="NAME,NAME",
    help="splits that official trains on, as --config.data.train_splits of a run (default train)",
  )
  check.add_argument(
    "--json", type=pathlib.Path, metavar="FILE", help="also write all findings to this file"
  )
  check.add_argument(
    "--faces",
    action=argparse.BooleanOptionalAction,
    help="compare faces across folds; takes 0.1 s per image and core, descriptors are cached "
    f"(default: for at most {MAX_IMAGES_FOR_FACES:,} images)",
  )
  preview = add_command("preview", "write a preview page of a built dataset", PREVIEW_EPILOG)
  preview.add_argument(
    "--output",
    type=pathlib.Path,
    default=pathlib.Path("."),
    metavar="FILE.html|DIR",
    help="page, or folder for it; the contact sheet is saved next to it as PNG (default: .)",
  )
  for subparser in (build, check):
    subparser.add_argument(
      "--workers",
      type=int,
      metavar="N",
      help=f"processes that read images (default: one per core, here {available_cores()})",
    )
  for subparser in (check, preview):
    subparser.add_argument(
      "--variant",
      metavar="NAME",
      help="folder name of the build, or a prefix of it, if there are several",
    )


def main(args: argparse.Namespace) -> int:
  """Runs a data command and returns its exit code."""
  run = {"build": _build, "list": _list, "check": _check, "preview": _preview}[args.data_command]
  args.data_dir = args.data_dir.expanduser()
  handler = logging.StreamHandler(sys.stderr)
  # Shows the builders' messages, except the count table, which is printed below in any case.
  handler.addFilter(lambda record: record.name != published_counts.logger.name)
  logger = logging.getLogger("jax_me")
  level, propagates = logger.level, logger.propagate
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  logger.propagate = False
  try:
    return run(args)
  except KeyboardInterrupt:
    print("\ninterrupted; repeat the command to continue", file=sys.stderr)
    return 130
  except DamagedDataset as error:
    print_error(error)
    return 1
  except ValueError as error:
    text = str(error).replace(catalog.CONFIG_OVERRIDE, catalog.DATA_FLAG)
    print_error(text)
    return 2
  except (OSError, WorkerDied, PipelineFailed) as error:
    print_error(error)
    return 1
  finally:
    logger.removeHandler(handler)
    logger.setLevel(level)
    logger.propagate = propagates


def next_step(args: argparse.Namespace) -> str:
  """The command after a build or a check."""
  where = "" if args.data_dir == DATA_DIR else f" --data-dir {shlex.quote(str(args.data_dir))}"
  if args.data_command == "build":
    return f"data check {args.name}{where}"
  if args.data_command == "check":
    return f"data preview {args.name}{where}"
  return ""


def _build(args: argparse.Namespace) -> int:
  cls = builder_class(args.name)
  existing = {build.folder for build in list_builds(args.data_dir, args.name)}
  builder = prepare_dataset(
    cls,
    data_dir=args.data_dir,
    manual_dir=args.manual_dir,
    workers=args.workers,
    follow_links=args.follow_links,
    beam=beam_runner(args),
    **given_options(args),
  )
  folder = pathlib.Path(builder.data_path)
  summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
  splits = ", ".join(f"{number} {split}" for split, number in summary["examples"].items())
  is_old = folder in existing
  print(f"{args.name}: {'already built' if is_old else 'built'}, {splits}")
  if summary["known_counts"]:
    print(published_counts.format_counts(summary["known_counts"]))
  else:
    print(format_table(("class", "stored"), summary["classes"].items()))
  if is_old:  # a new build logs its problems itself
    for line in _format_problems(summary["files"], folder / REPORT_FILE):
      print(line)
  print(f"folder: {folder}")
  return 0


def _list(args: argparse.Namespace) -> int:
  names = sorted(BUILDERS) if args.name is None else [args.name]
  if args.json:
    document = {
      "datasets": [dataclasses.asdict(catalog.describe(name)) for name in names],
      "builds": [dataclasses.asdict(build) for build in list_builds(args.data_dir, args.name)],
    }
    print(json.dumps(document, indent=2, default=str))
    return 0
  print("Available datasets:")
  for name in names:
    description = catalog.describe(name)
    options = _format_options(description.options, ", ")
    files = "needs --manual-dir" if description.needs_files else "needs no files"
    lines = [description.summary, f"{files}; options: {options or 'none'}"]
    if args.name is None and description.terms:
      lines.append(description.terms)
    print(f"\n{name}")
    for line in lines:
      print(textwrap.fill(line, 100, initial_indent="  ", subsequent_indent="    "))
    if args.name is not None and description.instructions:
      print(textwrap.indent(description.instructions, "  "))
  if args.name is None:
    print(f"\nRequired content of --manual-dir: {program_name()} data list NAME")
  builds = list_builds(args.data_dir, args.name)
  print(f"\nBuilt in {args.data_dir}:" + ("" if builds else " nothing"))
  for build in builds:
    print(f"\n{build.name}  {build.folder}")
    splits = ", ".join(f"{number} {split}" for split, number in build.examples.items())
    options = _format_options(build.options, " ")
    print(f"  {splits or 'no examples'}; {build.size / 1e6:.1f} MB; {options}")
    if build.problem:
      print(f"  {build.problem}")
  return 0


def _format_options(options: Mapping[str, object], separator: str) -> str:
  return separator.join(f"{name}={format_value(value)}" for name, value in options.items())


def _check(args: argparse.Namespace) -> int:
  build = find_build(args.name, args.data_dir, given_options(args), args.variant)
  result = check_dataset(
    open_build(build),
    rule=args.split_rule,
    folds=args.folds,
    seed=args.split_seed,
    train_splits=args.train_splits,
    faces=args.faces,
    workers=args.workers,
  )
  print(_format_check(result))
  if args.json is not None:
    write_atomically(args.json, (json.dumps(result.as_json(), indent=1) + "\n").encode())
  return 0 if result.valid else 1


def _preview(args: argparse.Namespace) -> int:
  build = find_build(args.name, args.data_dir, given_options(args), args.variant)
  page = args.output
  if page.suffix.lower() not in (".html", ".htm"):
    page = page / f"{build.name}-{build.variant}.html"
  for path in write_preview(open_build(build), page):
    print(path)
  return 0


def _format_check(result: DatasetCheck) -> str:
  prefixes = {"error": "ERROR  ", "warning": "warning", "note": "note   ", "ok": "ok     "}
  lines = [f"dataset: {result.dataset}", f"folder: {result.folder}", ""]
  rows = [
    (row["split"], row["class"], row["examples"], "–" if (n := row["subjects"]) is None else n)
    for row in result.classes
  ]
  lines += [format_table(("split", "class", "examples", "subjects"), rows), ""]
  if result.counts:
    lines += [published_counts.format_counts(result.counts), ""]
  for finding in result.findings:
    lines.append(f"{prefixes[finding.level]}  {finding.topic}: {finding.text}")
  errors = sum(finding.level == "error" for finding in result.findings)
  warnings = sum(finding.level == "warning" for finding in result.findings)
  verdict = "valid for evaluation" if result.valid else "NOT valid for evaluation"
  lines += ["", f"{verdict}: {errors} errors, {warnings} warnings"]
  return "\n".join(lines)


def _format_problems(counts: dict[str, int], report: pathlib.Path) -> Iterable[str]:
  """Lines with the counts of all statuses but "ok", and the first files concerned."""
  problems = {status: count for status, count in counts.items() if status != "ok"}
  if not problems:
    return
  yield f"problems: {', '.join(f'{count} {status}' for status, count in problems.items())}"
  with report.open(encoding="utf-8") as lines:
    rows = (row for row in map(json.loads, lines) if row["status"] != "ok")
    for row, _ in zip(rows, range(MAX_PROBLEMS), strict=False):
      detail = f" ({row['detail']})" if row.get("detail") else ""
      yield f"  {row['file']}: {row['status']}{detail}"
  if sum(problems.values()) > MAX_PROBLEMS:
    yield f"  full list: {report}"
