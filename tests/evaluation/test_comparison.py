import dataclasses

import numpy as np
import pytest
from scipy import stats

from jax_me.evaluation.comparison import DifferentExamples, compare_runs
from jax_me.evaluation.mcnemar import holm_correction, mcnemar_test
from jax_me.evaluation.metrics import SCORE_NAMES, bootstrap_scores, subject_bootstrap
from jax_me.evaluation.predictions import Predictions

LABELS = ("negative", "positive", "surprise")


def table(seed=0, right=0.6, count=90, **changes):
  """Predictions of 15 subjects with the same truths for every seed."""
  truth = np.random.default_rng(100).integers(0, 3, count)
  generator = np.random.default_rng(seed)
  prediction = np.where(generator.random(count) < right, truth, generator.integers(0, 3, count))
  columns = {
    "subject": [f"s{i % 15}" for i in range(count)],
    "file": [f"{i}.png" for i in range(count)],
    "fold": [f"fold{i % 15 % 5}" for i in range(count)],
  }
  return Predictions(LABELS, truth, prediction, **{**columns, **changes})


def take(predictions, rows):
  columns = {name: [getattr(predictions, name)[i] for i in rows] for name in ("subject", "file")}
  return dataclasses.replace(
    predictions,
    truth=predictions.truth[rows],
    prediction=predictions.prediction[rows],
    database=(),
    clip=(),
    fold=(),
    **columns,
  )


@pytest.mark.parametrize("first, second", [(0, 0), (0, 5), (3, 4), (7, 17), (10, 14)])
def test_few_discordant_examples_are_tested_exactly(first, second):
  expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
  assert mcnemar_test(first, second) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("first, second", [(10, 15), (30, 30), (5, 60), (400, 500)])
def test_many_discordant_examples_are_tested_by_chi_squared(first, second):
  statistic = max(abs(first - second) - 1, 0) ** 2 / (first + second)
  assert mcnemar_test(first, second) == pytest.approx(stats.chi2.sf(statistic, 1), rel=1e-12)


def test_holm_correction():
  # Holm 1979: sorted p values times 3, 2, 1, never decreasing.
  assert holm_correction([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
  assert holm_correction([0.9, 0.8]) == [1.0, 1.0]


def test_bootstrap_of_one_run_is_that_of_its_report():
  run = table()
  arguments = run.bootstrap_units, 3
  intervals = subject_bootstrap(run.truth, run.prediction, *arguments)
  resamples = bootstrap_scores(run.truth, [run.prediction], *arguments)
  for name in SCORE_NAMES:
    assert np.quantile(resamples[name], [0.025, 0.975]).tolist() == list(intervals[name])


def test_differences_are_paired(monkeypatch):
  truth, better = table().truth, table(1, 0.9)
  same = compare_runs({"a": better, "b": dataclasses.replace(better)})
  assert same["pairs"][0]["intervals"]["uf1"] == (0, 0) and same["pairs"][0]["p"] == 1
  units = better.bootstrap_units
  worse = table(2, 0.5).prediction
  whole = bootstrap_scores(truth, [worse, better.prediction], units, 3, repeats=300)
  monkeypatch.setattr("jax_me.evaluation.metrics.MAX_DRAWS", 1000)  # In several blocks.
  parts = bootstrap_scores(truth, [worse, better.prediction], units, 3, repeats=300)
  assert all(np.array_equal(whole[name], parts[name]) for name in SCORE_NAMES)
  # Each resample is scored for both runs on the same subjects.
  alone = bootstrap_scores(truth, [better.prediction, better.prediction], units, 3, repeats=50)
  assert np.array_equal(alone["uf1"][:, 0], alone["uf1"][:, 1])


def test_a_better_run_is_found():
  result = compare_runs({"worse": table(1, 0.4), "better": table(2, 0.95)})
  (pair,) = result["pairs"]
  low, high = pair["intervals"]["uf1"]
  assert 0 < low < pair["difference"]["uf1"] < high
  assert pair["p"] < 1e-4 and pair["only_second"] > pair["only_first"]
  scores = result["runs"]
  difference = scores["better"]["uf1"] - scores["worse"]["uf1"]
  assert pair["difference"]["uf1"] == pytest.approx(difference)
  assert result["notes"] == [] and result["examples"] == 90


def test_order_of_examples_and_classes_does_not_matter():
  first, other = table(1), table(2)
  order = np.random.default_rng(0).permutation(90)
  swapped = [LABELS.index(label) for label in reversed(LABELS)]
  shuffled = take(other, order)
  shuffled = dataclasses.replace(
    shuffled,
    labels=LABELS[::-1],
    truth=np.array(swapped)[shuffled.truth],
    prediction=np.array(swapped)[shuffled.prediction],
  )
  expected = compare_runs({"a": first, "b": other})
  assert compare_runs({"a": first, "b": shuffled}) == expected


def test_other_examples_are_refused_or_left_out():
  runs = {"a": table(1), "b": take(table(2), np.arange(80))}
  with pytest.raises(DifferentExamples, match="10 of the 90 of a .first: s5 80.png.*--common.* 80"):
    compare_runs(runs)
  result = compare_runs(runs, common_only=True)
  assert result["examples"] == 80
  assert result["notes"][0].startswith("Only the 80 examples that all runs tested are compared")


@pytest.mark.parametrize(
  "other, text",
  [
    (table(file=[f"x{i}.png" for i in range(90)]), "they have none in common"),
    (dataclasses.replace(table(), truth=(table().truth + 1) % 3), "true labels of 90 examples"),
    (dataclasses.replace(table(), labels=("a", "b", "c")), "the classes differ: negative, .*a, b"),
    (table(file=(), subject=()), "neither a file nor a clip"),
  ],
)
def test_runs_that_cannot_be_compared(other, text):
  for common_only in (False, True):
    with pytest.raises(DifferentExamples, match=text):
      compare_runs({"a": table(), "b": other}, common_only=common_only)


def test_one_run_cannot_be_compared():
  with pytest.raises(DifferentExamples, match="at least two"):
    compare_runs({"a": table()})


def test_other_folds_are_noted():
  other = table(2, fold=[f"s{i % 15}" for i in range(90)])
  (note,) = compare_runs({"a": table(1), "b": other})["notes"]
  assert note.startswith("b was tested in other folds than a")


def test_one_subject_has_no_intervals():
  runs = {name: table(seed, subject=["s1"] * 90) for seed, name in enumerate("ab")}
  result = compare_runs(runs)
  assert result["pairs"][0]["intervals"] is None
