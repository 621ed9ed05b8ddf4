"""Comparison of runs on the same test examples: paired bootstrap and McNemar's test."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from jax_me.evaluation.mcnemar import EXACT_BELOW, holm_correction, mcnemar_test
from jax_me.evaluation.metrics import (
  Intervals,
  MainScores,
  ScoreName,
  bootstrap_scores,
  percentile_interval,
  scores,
)
from jax_me.evaluation.predictions import TEXT_COLUMNS, Predictions
from jax_me.evaluation.summary import LEVEL, REPEATS, Bootstrap, IntervalScores, describe_units

Resamples = dict[ScoreName, NDArray[np.float64]]
KEY_COLUMNS = ("database", "subject", "clip", "file")


class DifferentExamples(ValueError):
  """Runs that were not tested on the same examples with the same labels."""


class PairComparison(TypedDict):
  """Two runs on the same examples.

  Attributes:
    first, second: names of the runs.
    difference: scores of the second run minus those of the first.
    intervals: bootstrap intervals of the differences, None with fewer than two resampling units.
    only_first, only_second: number of examples that only this run predicts correctly.
    p: of McNemar's test.
    p_holm: corrected for the number of pairs.
    test: "exact binomial" or "chi-squared".
  """

  first: str
  second: str
  difference: MainScores
  intervals: Intervals | None
  only_first: int
  only_second: int
  p: float
  p_holm: float
  test: str


class Comparison(TypedDict):
  """All scores of a comparison; JSON-serialisable.

  Attributes:
    examples: number of compared examples.
    labels: class names.
    runs: scores of each run on these examples.
    pairs: every two runs.
    bootstrap: settings of the intervals.
    notes: sentences about examples that are left out, and about different folds.
  """

  examples: int
  labels: list[str]
  runs: dict[str, IntervalScores]
  pairs: list[PairComparison]
  bootstrap: Bootstrap
  notes: list[str]


def compare_runs(
  runs: Mapping[str, Predictions],
  *,
  common_only: bool = False,
  repeats: int = REPEATS,
  seed: int = 0,
) -> Comparison:
  """Compares the predictions of two or more runs on the same test examples.

  The intervals are those of a bootstrap over subjects in which each resample is scored for all
  runs, so that the differences are paired.

  Args:
    runs: predictions by name of the run; the examples are matched by database, subject, clip and
      file, and may be in any order.
    common_only: compare the examples that all runs tested, if they differ.
    repeats: number of bootstrap resamples.
    seed: random seed of the bootstrap.

  Returns:
    the comparison.

  Raises:
    DifferentExamples: fewer than two runs, other examples, labels or classes.
  """
  aligned, notes = align_runs(runs, common_only=common_only)
  tables = list(aligned.values())
  first, units = tables[0], tables[0].bootstrap_units
  # Without two units there are no resamples, so the intervals are None.
  resamples: Resamples | None = None
  if len(set(units)) > 1:
    resamples = bootstrap_scores(
      first.truth,
      [table.prediction for table in tables],
      units,
      len(first.labels),
      repeats=repeats,
      seed=seed,
    )
  scored: dict[str, IntervalScores] = {}
  for number, (name, table) in enumerate(aligned.items()):
    own = scores(table.confusion(), table.labels)
    scored[name] = {**own, "intervals": _intervals(resamples, number)}
  pairs = []
  for i, j in itertools.combinations(range(len(tables)), 2):
    pair = _compare_pair(list(aligned)[i], list(aligned)[j], aligned, scored)
    pair["intervals"] = _intervals(resamples, j, minus=i)
    pairs.append(pair)
  for pair, p in zip(pairs, holm_correction([pair["p"] for pair in pairs]), strict=True):
    pair["p_holm"] = p
  return {
    "examples": len(first),
    "labels": list(first.labels),
    "runs": scored,
    "pairs": pairs,
    "bootstrap": {
      "over": describe_units(first),
      "units": len(set(units)),
      "repeats": repeats,
      "seed": seed,
      "level": LEVEL,
    },
    "notes": notes + _fold_notes(aligned),
  }


def _intervals(
  resamples: Resamples | None, number: int, minus: int | None = None
) -> Intervals | None:
  """Intervals of the scores of a run, or of their differences to those of another one."""
  if resamples is None:
    return None
  return {
    key: percentile_interval(values[:, number] - (0 if minus is None else values[:, minus]), LEVEL)
    for key, values in resamples.items()
  }


def _compare_pair(
  first: str, second: str, tables: Mapping[str, Predictions], scored: Mapping[str, IntervalScores]
) -> PairComparison:
  """Two runs by name, without intervals."""
  right, other = tables[first].correct, tables[second].correct
  only_first, only_second = int((right & ~other).sum()), int((other & ~right).sum())
  p = mcnemar_test(only_first, only_second)
  return {
    "first": first,
    "second": second,
    "difference": {
      "uf1": scored[second]["uf1"] - scored[first]["uf1"],
      "uar": scored[second]["uar"] - scored[first]["uar"],
      "accuracy": scored[second]["accuracy"] - scored[first]["accuracy"],
    },
    "intervals": None,
    "only_first": only_first,
    "only_second": only_second,
    "p": p,
    "p_holm": p,
    "test": "exact binomial" if only_first + only_second < EXACT_BELOW else "chi-squared",
  }


def align_runs(
  runs: Mapping[str, Predictions], *, common_only: bool = False
) -> tuple[dict[str, Predictions], list[str]]:
  """Brings the runs to the same examples, in the order of the first run, and to the same classes.

  Args:
    runs: predictions by name of the run.
    common_only: keep the examples that all runs tested, if they differ.

  Returns:
    the aligned tables, and sentences about the examples that are left out.

  Raises:
    DifferentExamples: see `compare_runs`.
  """
  if len(runs) < 2:
    raise DifferentExamples("a comparison needs at least two different runs")
  rows = {name: _rows_of_examples(name, table) for name, table in runs.items()}
  (first, reference), *others = runs.items()
  common = set(rows[first]).intersection(*rows.values())
  sentences = []
  for name in runs:
    missing = [key for key in rows[name] if key not in common]
    if missing:
      example = " ".join(filter(None, missing[0]))
      sentences.append(f"{len(missing)} of the {len(rows[name])} of {name} (first: {example})")
  if sentences and not (common_only and common):
    remedy = (
      f"--common compares the {len(common)} that all runs tested"
      if common
      else "they have none in common"
    )
    raise DifferentExamples(
      f"the runs were tested on different examples: {', '.join(sentences)} are not in all runs; "
      f"{remedy}"
    )
  notes = []
  if sentences:
    notes.append(
      f"Only the {len(common)} examples that all runs tested are compared. Left out: "
      f"{', '.join(sentences)}."
    )
  keys = [key for key in rows[first] if key in common]
  aligned = {first: _take(reference, [rows[first][key] for key in keys])}
  for name, table in others:
    if set(table.labels) != set(reference.labels):
      raise DifferentExamples(
        f"the classes differ: {', '.join(reference.labels)} in {first}, "
        f"{', '.join(table.labels)} in {name}"
      )
    aligned[name] = _with_labels(_take(table, [rows[name][key] for key in keys]), reference.labels)
    different = np.flatnonzero(aligned[name].truth != aligned[first].truth)
    if len(different):
      row = int(different[0])
      truths = [aligned[n].labels[aligned[n].truth[row]] for n in (first, name)]
      raise DifferentExamples(
        f"the true labels of {len(different)} examples differ (first: "
        f"{aligned[first].describe_row(row)} is {truths[0]} in {first} and {truths[1]} in {name})"
      )
  return aligned, notes


def _rows_of_examples(name: str, table: Predictions) -> dict[tuple[str, ...], int]:
  rows: dict[tuple[str, ...], int] = {}
  for row, key in enumerate(zip(*(getattr(table, column) for column in KEY_COLUMNS), strict=True)):
    if not any(key[2:]):
      raise DifferentExamples(
        f"{name}: the examples have neither a file nor a clip, by which they could be matched"
      )
    if key in rows:
      raise DifferentExamples(f"{name}: {table.describe_row(row)} occurs twice")
    rows[key] = row
  return rows


def _take(table: Predictions, rows: Sequence[int]) -> Predictions:
  columns: dict[str, Any] = {
    name: [getattr(table, name)[row] for row in rows] for name in TEXT_COLUMNS
  }
  return dataclasses.replace(
    table,
    truth=table.truth[rows],
    prediction=table.prediction[rows],
    scores=None if table.scores is None else table.scores[rows],
    affect=None if table.affect is None else table.affect.take(rows),
    **columns,
  )


def _with_labels(table: Predictions, labels: tuple[str, ...]) -> Predictions:
  """The table with its classes in another order."""
  new = np.array([labels.index(label) for label in table.labels])
  probabilities = table.scores
  if probabilities is not None:
    probabilities = probabilities[:, [table.labels.index(label) for label in labels]]
  return dataclasses.replace(
    table,
    labels=labels,
    truth=new[table.truth],
    prediction=new[table.prediction],
    scores=probabilities,
  )


def _fold_notes(runs: Mapping[str, Predictions]) -> list[str]:
  """A sentence if the runs tested the examples in different folds."""
  names = [name for name, table in runs.items() if all(table.fold)]

  def parts(name: str) -> set[frozenset[int]]:
    return {frozenset(rows.tolist()) for rows in runs[name].rows_by("fold").values()}

  different = [name for name in names[1:] if parts(name) != parts(names[0])]
  if not different:
    return []
  return [
    f"{', '.join(different)} {'was' if len(different) == 1 else 'were'} tested in other folds than "
    f"{names[0]}, so the models were trained on other subjects."
  ]
