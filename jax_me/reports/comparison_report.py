"""Report of a comparison of runs: page, Markdown, CSV tables and text for the terminal."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from jax_me.csv_files import csv_bytes
from jax_me.evaluation.comparison import Comparison, PairComparison
from jax_me.evaluation.mcnemar import EXACT_BELOW
from jax_me.evaluation.metrics import SCORE_NAMES, ScoreName
from jax_me.files import write_atomically
from jax_me.reports.comparison_plot import draw_comparison
from jax_me.reports.csv_tables import INTERVAL_COLUMNS, interval_cells
from jax_me.reports.document import (
  Block,
  Document,
  Figure,
  Gallery,
  Section,
  Table,
  Text,
  Tile,
  to_html,
  to_markdown,
)
from jax_me.reports.score_text import SCORE_TITLES, score_cells, score_text
from jax_me.terminal import format_table

DATA_FOLDER, SCORES_FILE = "comparison", "comparison.json"
RUN_HEADER = ("run", "UF1", "UAR", "accuracy")
PAIR_COLUMNS = (
  "first",
  "second",
  *(f"difference_{name}" for name in INTERVAL_COLUMNS),
  "only_first_correct",
  "only_second_correct",
  "mcnemar_p",
  "mcnemar_p_holm",
  "test",
)
Settings = Mapping[str, Mapping[str, object]]  # Name of the run -> setting -> value.


def write_comparison(
  folder: str | os.PathLike[str], comparison: Comparison, settings: Settings
) -> Path:
  """Writes comparison.html, comparison.md, and the folder comparison/ with tables and figure.

  Args:
    folder: of the output.
    comparison: the scores.
    settings: recipe of each run, as far as known, by dotted key.

  Returns:
    the path of comparison.html.
  """
  document, folder = compose_comparison(comparison, settings), Path(folder)
  pairs: list[tuple[object, ...]] = [PAIR_COLUMNS]
  for pair in comparison["pairs"]:
    cells = interval_cells(pair["difference"], pair["intervals"])
    tests = (pair["only_first"], pair["only_second"], pair["p"], pair["p_holm"], pair["test"])
    pairs.append((pair["first"], pair["second"], *cells, *tests))
  runs: list[tuple[object, ...]] = [("run", "examples", *INTERVAL_COLUMNS)]
  for name, scores in comparison["runs"].items():
    runs.append((name, scores["examples"], *interval_cells(scores, scores["intervals"])))
  # The first file marks the folder as that of a comparison.
  files = {SCORES_FILE: (json.dumps(comparison, indent=2) + "\n").encode()}
  files["runs.csv"], files["pairs.csv"] = csv_bytes(runs), csv_bytes(pairs)
  files |= {figure.name: figure.png for figure in document.figures}
  for name, content in files.items():
    write_atomically(folder / DATA_FOLDER / name, content)
  write_atomically(folder / "comparison.md", to_markdown(document, DATA_FOLDER).encode())
  write_atomically(folder / "comparison.html", to_html(document).encode())
  return folder / "comparison.html"


def compose_comparison(comparison: Comparison, settings: Settings) -> Document:
  """Builds the page of a comparison."""
  runs, pairs = comparison["runs"], comparison["pairs"]
  lead: list[Block] = [Text(describe_pair(pair)) for pair in pairs[:3]]
  lead += [Text(note, warning=True) for note in comparison["notes"]]
  labels = comparison["labels"]
  recalls = [
    (
      row["label"],
      str(row["support"]),
      *(score_text(run["per_class"][c]["f1"]) for run in runs.values()),
    )
    for c, row in enumerate(next(iter(runs.values()))["per_class"])
  ]
  differing = differing_settings(settings)
  sections = [
    Section(
      "Scores",
      [
        Table(
          f"Scores on the same {comparison['examples']} examples, with 95% confidence intervals",
          RUN_HEADER,
          run_rows(comparison),
        ),
        _figure(comparison),
      ],
    ),
    Section(
      "Differences",
      [
        Table(
          "Second run minus first run, with 95% confidence intervals",
          ("pair", "UF1", "UAR", "accuracy"),
          difference_rows(pairs),
        ),
        Table(
          "McNemar's test: examples that only one of the two runs predicts correctly",
          *mcnemar_table(pairs),
        ),
        *(Text(text) for text in describe_method(comparison)),
      ],
    ),
    Section(
      "Classes",
      [Table("F1 of each class", ("class", "examples", *runs), recalls)] if labels else [],
    ),
  ]
  if differing:
    rows = [(key, *(str(value) for value in values)) for key, values in differing.items()]
    caption = "Settings that are not the same in all runs"
    sections.append(Section("Settings", [Table(caption, ("setting", *settings), rows)]))
  return Document(f"Comparison of {', '.join(runs)}", lead, sections)


def differing_settings(settings: Settings) -> dict[str, list[object]]:
  """Settings whose values differ between the runs: dotted key -> a value of each run."""
  keys = dict.fromkeys(key for values in settings.values() for key in values)
  table = {key: [values.get(key, "–") for values in settings.values()] for key in keys}
  return {key: values for key, values in table.items() if any(v != values[0] for v in values)}


def format_comparison(comparison: Comparison) -> str:
  """Formats a comparison for the terminal: tables, what they mean, and warnings last."""
  pairs = comparison["pairs"]
  blocks = [
    format_table(RUN_HEADER, run_rows(comparison)),
    format_table(("difference", "UF1", "UAR", "accuracy"), difference_rows(pairs)),
    format_table(*mcnemar_table(pairs)),
    "\n".join(map(describe_pair, pairs)),
    "\n".join(describe_method(comparison)),
  ]
  if comparison["notes"]:
    blocks.append("\n".join(f"note: {note}" for note in comparison["notes"]))
  return "\n\n".join(blocks)


def run_rows(comparison: Comparison) -> list[list[str]]:
  """The scores of each run, in the order of `RUN_HEADER`."""
  return [[name, *score_cells(scores)] for name, scores in comparison["runs"].items()]


def difference_rows(pairs: Sequence[PairComparison]) -> list[list[str]]:
  """The differences of each pair with their intervals."""
  return [[_name(pair), *(_difference(pair, name) for name in SCORE_NAMES)] for pair in pairs]


def mcnemar_table(pairs: Sequence[PairComparison]) -> tuple[list[str], list[list[str]]]:
  """Header and rows of McNemar's test; corrected p values where there are several pairs."""
  several = len(pairs) > 1
  header = ["first, second", "only first correct", "only second correct", "p"]
  header += ["p, corrected"] * several + ["distribution"]
  rows = []
  for pair in pairs:
    p_values = [pair["p"], pair["p_holm"]] if several else [pair["p"]]
    rows.append(
      [
        f"{pair['first']}, {pair['second']}",
        str(pair["only_first"]),
        str(pair["only_second"]),
        *map(_p_text, p_values),
        pair["test"],
      ]
    )
  return header, rows


def describe_pair(pair: PairComparison) -> str:
  """Says whether the UF1 of two runs can be distinguished."""
  text = f"UF1 of {pair['second']} minus {pair['first']}: {_difference(pair, 'uf1')}."
  if pair["intervals"] is None:
    return text
  low, high = pair["intervals"]["uf1"]
  if low <= 0 <= high:
    return f"{text} The interval contains 0: these examples do not show which one is better."
  better = pair["second"] if low > 0 else pair["first"]
  return f"{text} The interval does not contain 0: {better} is better on subjects like these."


def describe_method(comparison: Comparison) -> list[str]:
  """Says how intervals and p values were computed."""
  bootstrap, pairs = comparison["bootstrap"], comparison["pairs"]
  percent = f"{100 * bootstrap['level']:g}%"
  if pairs[0]["intervals"] is None:
    sentences = [
      f"There are no intervals: the bootstrap needs two subjects, here are {bootstrap['over']}."
    ]
  else:
    sentences = [
      f"{percent} intervals: percentiles of {bootstrap['repeats']} bootstrap resamples of "
      f"{bootstrap['over']} (seed {bootstrap['seed']}). Each resample is scored for all runs, so "
      "the differences are paired. The intervals cover the choice of the test subjects, not the "
      "chance of training: another seed gives another model."
    ]
  sentences.append(
    "McNemar's test compares the examples that only one of two runs predicts correctly, with the "
    f"binomial distribution for fewer than {EXACT_BELOW} of them. It treats examples of one "
    "subject as independent, which can make p too small; the intervals do not."
  )
  if len(pairs) > 1:
    sentences.append(
      f"Corrected p values take the {len(pairs)} tests into account (Holm); the intervals are not "
      "corrected."
    )
  return sentences


def _figure(comparison: Comparison) -> Gallery:
  def describe(names: Sequence[ScoreName]) -> str:
    parts = [
      f"{SCORE_TITLES[name]} of {run} {score_text(scores[name])}"
      for name in names
      for run, scores in comparison["runs"].items()
    ]
    return f"Scores of the runs and their differences: {', '.join(parts)}."

  tiles = [
    Tile([(draw_comparison(comparison, [name]), describe([name]))], "") for name in SCORE_NAMES
  ]
  caption = (
    "Above: scores of the runs. Below: differences of the pairs; on the dashed line they are "
    "equal. Lines: 95% confidence intervals."
  )
  sheet = draw_comparison(comparison, SCORE_NAMES)
  return Gallery(
    tiles,
    Figure("comparison.png", sheet, describe(SCORE_NAMES), caption),
    tile_width=300,
    charts=True,
  )


def _name(pair: PairComparison) -> str:
  return f"{pair['second']} − {pair['first']}"


def _difference(pair: PairComparison, name: ScoreName) -> str:
  interval = (pair["intervals"] or {}).get(name)
  text = _signed(pair["difference"][name])
  return text if interval is None else f"{text} ({_signed(interval[0])} to {_signed(interval[1])})"


def _signed(value: float) -> str:
  return f"{value:+.3f}".replace("-", "−")


def _p_text(p: float) -> str:
  return "< 0.001" if p < 0.001 else f"{p:.3f}"
