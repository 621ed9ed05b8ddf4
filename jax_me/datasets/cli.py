"""`python -m jax_me data`: builds, lists, checks and previews datasets."""

import argparse
import difflib
import json
import logging
import pathlib
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from jax_me.cpu_cores import available_cores
from jax_me.data.folds import RULES
from jax_me.datasets import built_datasets
from jax_me.datasets.built_datasets import DamagedDataset
from jax_me.datasets.catalog import BUILDERS, builder_class
from jax_me.datasets.generation import published_counts
from jax_me.datasets.generation.build_report import REPORT_FILE
from jax_me.datasets.generation.generate import SUMMARY_FILE
from jax_me.datasets.generation.prepare import prepare_dataset
from jax_me.datasets.option_flags import add_option_flags, given_options, shown
from jax_me.datasets.quality.check import FEW_PICTURES, DatasetCheck, check_dataset
from jax_me.datasets.quality.preview import write_preview
from jax_me.files import write_atomically

PROBLEMS = 5  # problems of a build that are printed; all are in its report
# Flags that take a value: the word after one is not the dataset's name.
VALUED = ("--manual-dir", "--data-dir", "--workers", "--variant", "--output", "--json")

BUILD_EPILOG = """\
The same command goes on where a stopped one ended, and does nothing where the dataset is there.
exit code: 0 done; 1 the disk failed; 2 bad arguments or unusable files; 130 stopped with ctrl-C"""
LIST_EPILOG = "exit code: 0, or 2 for an unknown name"
CHECK_EPILOG = """\
exit code: 0 fit to be scored on; 1 damaged, or something makes scores wrong; 2 bad arguments"""
PREVIEW_EPILOG = "exit code: 0 done; 1 the dataset is damaged or the disk failed; 2 bad arguments"


class DatasetParser(argparse.ArgumentParser):
  """Takes the flags of a dataset's options once the command line has named the dataset."""

  def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
    words = list(args or ())
    before = ["", *words]
    bare = [
      word
      for left, word in zip(before, words, strict=False)
      if not word.startswith("-") and left not in VALUED
    ]
    name = next((word for word in bare if word in BUILDERS), None)
    if name is not None:
      add_option_flags(self, builder_class(name).Options)
    elif bare:
      try:
        built_datasets.check_name(bare[0])
      except ValueError as error:
        self.error(str(error))
    parsed, unknown = super().parse_known_args(words, namespace)
    for word in unknown:
      flag = word.partition("=")[0]
      near = difflib.get_close_matches(flag, self._option_string_actions, n=1)
      hint = f"; did you mean {near[0]}?" if near else ""
      self.error(f"unknown argument {word}{hint} (--help lists all of a dataset)")
    return parsed, unknown


def configure(parser: argparse.ArgumentParser) -> None:
  """Declares the commands and their arguments; those of a dataset come with its name."""
  commands = parser.add_subparsers(
    dest="data_command",
    required=True,
    metavar="<build|list|check|preview>",
    parser_class=DatasetParser,
  )

  def command(name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    made = commands.add_parser(
      name,
      help=summary,
      description=f"{summary[0].upper()}{summary[1:]}.",
      epilog=epilog,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
    )
    made.add_argument("name", nargs="?" if name == "list" else None, help="name of the dataset")
    made.add_argument(
      "--data-dir",
      type=pathlib.Path,
      default=pathlib.Path("data"),
      metavar="DIR",
      help="folder in which datasets are kept (default data)",
    )
    return made

  build = command("build", "build a dataset, from your own files where it needs them", BUILD_EPILOG)
  build.add_argument("--manual-dir", metavar="DIR", help="folder with your copy of the dataset")
  command("list", "list the datasets that can be built, and those built", LIST_EPILOG)
  check = command("check", "check that a built dataset is fit to be scored on", CHECK_EPILOG)
  check.add_argument(
    "--split-rule",
    choices=RULES,
    help="how it is to be divided (default: official where it has several splits, loso where "
    "subjects are known, else kfold)",
  )
  check.add_argument(
    "--folds", type=int, default=5, metavar="N", help="of kfold, step and holdout (default 5)"
  )
  check.add_argument(
    "--split-seed", type=int, default=0, metavar="N", help="of kfold and holdout (default 0)"
  )
  check.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all of it there too")
  check.add_argument(
    "--faces",
    action=argparse.BooleanOptionalAction,
    help="look for the same face on both sides of a fold, 0.1 s a picture and core, kept for the "
    f"next time (default: where there are at most {FEW_PICTURES:,} pictures)",
  )
  preview = command("preview", "draw a page that shows what is in a built dataset", PREVIEW_EPILOG)
  preview.add_argument(
    "--output",
    type=pathlib.Path,
    default=pathlib.Path("."),
    metavar="FILE.html|DIR",
    help="the page, or a folder for it; the contact sheet lies beside it as PNG (default: here)",
  )
  for made in (build, check):
    made.add_argument(
      "--workers",
      type=int,
      metavar="N",
      help=f"processes that look at pictures (default: one per core, here {available_cores()})",
    )
  for made in (check, preview):
    made.add_argument(
      "--variant",
      metavar="NAME",
      help="folder of the build, or the beginning of its name, where several are built",
    )


def main(args: argparse.Namespace) -> int:
  """Runs a command; returns its exit code."""
  run = {"build": _build, "list": _list, "check": _check, "preview": _preview}[args.data_command]
  args.data_dir = args.data_dir.expanduser()
  handler = logging.StreamHandler(sys.stderr)
  # The builders' messages; the table of numbers is printed below, freshly built or not.
  handler.addFilter(lambda record: record.name != published_counts.logger.name)
  logger = logging.getLogger("jax_me")
  level, propagates = logger.level, logger.propagate
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  logger.propagate = False
  try:
    return run(args)
  except KeyboardInterrupt:
    print("\nstopped; the same command goes on from here", file=sys.stderr)
    return 130
  except DamagedDataset as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  except ValueError as error:
    text = str(error).replace(built_datasets.RECIPE_FLAG, built_datasets.FLAG)
    print(f"error: {text}", file=sys.stderr)
    return 2
  except OSError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  finally:
    logger.removeHandler(handler)
    logger.setLevel(level)
    logger.propagate = propagates


def _build(args: argparse.Namespace) -> int:
  cls = builder_class(args.name)
  before = {build.folder for build in built_datasets.list_builds(args.data_dir, args.name)}
  builder = prepare_dataset(
    cls,
    data_dir=args.data_dir,
    manual_dir=args.manual_dir,
    workers=args.workers,
    **given_options(args),
  )
  folder = pathlib.Path(builder.data_path)
  summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
  splits = ", ".join(f"{number} {split}" for split, number in summary["examples"].items())
  is_old = folder in before
  print(f"{args.name}: {'already there' if is_old else 'built'}, {splits}")
  if summary["known_counts"]:
    print(_counts_table(summary["known_counts"]))
  else:
    print(_table(("class", "stored"), summary["classes"].items()))
  if is_old:  # else the builder has just told
    for line in _problems(summary["files"], folder / REPORT_FILE):
      print(line)
  print(f"it lies in {folder}")
  return 0


def _list(args: argparse.Namespace) -> int:
  names = sorted(BUILDERS) if args.name is None else [args.name]
  print("Datasets that can be built:")
  for name in names:
    described = built_datasets.describe(name)
    options = ", ".join(f"{key}={shown(value)}" for key, value in described.options.items())
    files = "needs --manual-dir" if described.needs_files else "needs no files of yours"
    lines = [described.what, f"{files}; options: {options or 'none'}"]
    if args.name is None and described.terms:
      lines.append(described.terms)
    print(f"\n{name}")
    for line in lines:
      print(textwrap.fill(line, 100, initial_indent="  ", subsequent_indent="    "))
    if args.name is not None and described.instructions:
      print(textwrap.indent(described.instructions, "  "))
  if args.name is None:
    print("\nWhat --manual-dir must hold: python -m jax_me data list NAME")
  builds = built_datasets.list_builds(args.data_dir, args.name)
  print(f"\nBuilt in {args.data_dir}:" + ("" if builds else " nothing"))
  for build in builds:
    print(f"\n{build.name}  {build.folder}")
    splits = ", ".join(f"{number} {split}" for split, number in build.examples.items())
    options = " ".join(f"{key}={shown(value)}" for key, value in build.options.items())
    print(f"  {splits or 'no examples'}; {build.size / 1e6:.1f} MB; {options}")
    if build.problem:
      print(f"  {build.problem}")
  return 0


def _check(args: argparse.Namespace) -> int:
  build = built_datasets.find_build(args.name, args.data_dir, given_options(args), args.variant)
  result = check_dataset(
    built_datasets.open_build(build),
    rule=args.split_rule,
    folds=args.folds,
    seed=args.split_seed,
    faces=args.faces,
    workers=args.workers,
  )
  print(_check_text(result))
  if args.json is not None:
    write_atomically(args.json, (json.dumps(result.as_json(), indent=1) + "\n").encode())
  return 0 if result.valid else 1


def _preview(args: argparse.Namespace) -> int:
  build = built_datasets.find_build(args.name, args.data_dir, given_options(args), args.variant)
  page = args.output
  if page.suffix.lower() not in (".html", ".htm"):
    page = page / f"{build.name}-{build.variant}.html"
  for path in write_preview(built_datasets.open_build(build), page):
    print(path)
  return 0


def _check_text(result: DatasetCheck) -> str:
  marks = {"error": "ERROR  ", "warning": "warning", "note": "note   ", "ok": "ok     "}
  lines = [f"{result.dataset} in {result.folder}", ""]
  rows = [
    (row["split"], row["class"], row["examples"], "–" if (n := row["subjects"]) is None else n)
    for row in result.classes
  ]
  lines += [_table(("split", "class", "examples", "subjects"), rows), ""]
  if result.counts:
    lines += [_counts_table(result.counts), ""]
  for finding in result.findings:
    lines.append(f"{marks[finding.level]}  {finding.topic}: {finding.text}")
  errors = sum(finding.level == "error" for finding in result.findings)
  warnings = sum(finding.level == "warning" for finding in result.findings)
  verdict = "fit to be scored on" if result.valid else "NOT fit to be scored on"
  lines += ["", f"{verdict}: {errors} errors, {warnings} warnings"]
  return "\n".join(lines)


def _counts_table(rows: list[dict[str, Any]]) -> str:
  """Published numbers against those of this copy, with a sum for each split."""
  columns = ("expected", "found", "stored")
  lines: list[tuple[Any, ...]] = []
  for split in dict.fromkeys(row["split"] for row in rows):
    of_split = [row for row in rows if row["split"] == split]
    total = {key: sum(row[key] for row in of_split) for key in columns}
    for row in [*of_split, {"class": "all", **total}]:
      numbers = [row[key] for key in columns]
      lines.append((split, row["class"], *numbers, "" if len(set(numbers)) == 1 else "differs"))
  return _table(("split", "class", *columns, ""), lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
  cells = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
  columns = range(len(header))
  numeric = [all(row[i].isdigit() or row[i] == "–" for row in cells[1:]) for i in columns]
  width = [max(len(row[i]) for row in cells) for i in columns]
  return "\n".join(
    "  ".join(
      cell.rjust(width[i]) if numeric[i] else cell.ljust(width[i]) for i, cell in enumerate(row)
    ).rstrip()
    for row in cells
  )


def _problems(counts: dict[str, int], report: pathlib.Path) -> Iterable[str]:
  """What became of files that are not stored unharmed: numbers, and the first ones."""
  bad = {status: number for status, number in counts.items() if status != "ok"}
  if not bad:
    return
  yield f"problems: {', '.join(f'{number} {status}' for status, number in bad.items())}"
  with report.open(encoding="utf-8") as lines:
    rows = (row for row in map(json.loads, lines) if row["status"] != "ok")
    for row, _ in zip(rows, range(PROBLEMS), strict=False):
      detail = f" ({row['detail']})" if row.get("detail") else ""
      yield f"  {row['file']}: {row['status']}{detail}"
  if sum(bad.values()) > PROBLEMS:
    yield f"  all are in {report}"
