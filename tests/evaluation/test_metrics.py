import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from jax_me.evaluation.metrics import confusion_matrix, mean_of_scores, scores, subject_bootstrap


def test_confusion_matrix_rows_are_the_truth():
  confusion = confusion_matrix([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0], 3)
  np.testing.assert_array_equal(confusion, [[1, 1, 0], [0, 1, 0], [1, 0, 2]])


def test_masked_examples_are_ignored_even_with_invalid_labels():
  truth, prediction = np.array([0, 1, -1, 99]), np.array([0, 0, 1, 7])
  mask = np.array([True, True, False, False])
  np.testing.assert_array_equal(confusion_matrix(truth, prediction, 2, mask), [[1, 0], [1, 0]])
  np.testing.assert_array_equal(
    confusion_matrix(truth, prediction, 2, mask & False), np.zeros((2, 2))
  )


@pytest.mark.parametrize(
  ("truth", "prediction", "mask", "message"),
  [
    ([0, 3], [0, 1], None, r"truth\[1\] is 3"),
    ([0, 1], [-1, 1], None, r"prediction\[0\] is -1"),
    ([0, 1], [0], None, "differ in length"),
    ([0.0, 1.0], [0, 1], None, "integer labels"),
    ([[0], [1]], [[0], [1]], None, "integer labels"),
    ([0, 1], [0, 1], [1, 0], "mask must be bool"),
  ],
)
def test_confusion_matrix_rejects_invalid_labels(truth, prediction, mask, message):
  with pytest.raises(ValueError, match=message):
    confusion_matrix(truth, prediction, 3, mask)


def test_scores_of_a_hand_computed_matrix():
  # Class a: TP 6, FN 2, FP 1; class b: TP 3, FN 2, FP 3; class c: TP 1, FN 1, FP 1.
  result = scores([[6, 2, 0], [1, 3, 1], [0, 1, 1]], ["a", "b", "c"])
  assert result["examples"] == 15
  assert result["accuracy"] == pytest.approx(10 / 15)
  assert result["uar"] == pytest.approx((6 / 8 + 3 / 5 + 1 / 2) / 3)
  assert result["uf1"] == pytest.approx((12 / 15 + 6 / 11 + 2 / 4) / 3)
  assert result["per_class"][1] == {
    "label": "b",
    "support": 5,
    "predicted": 6,
    "precision": pytest.approx(3 / 6),
    "recall": pytest.approx(3 / 5),
    "f1": pytest.approx(6 / 11),
  }
  assert result["notes"] == []


def test_perfect_and_always_wrong_classifiers():
  perfect = scores(np.diag([4, 2]))
  assert (perfect["accuracy"], perfect["uar"], perfect["uf1"]) == (1, 1, 1)
  always_wrong = scores([[0, 3], [5, 0]])
  assert (always_wrong["accuracy"], always_wrong["uar"], always_wrong["uf1"]) == (0, 0, 0)


def test_absent_and_never_predicted_class_is_excluded_with_a_note():
  result = scores([[3, 1, 0], [0, 2, 0], [0, 0, 0]], ["neg", "pos", "sur"])
  assert result["uar"] == pytest.approx((3 / 4 + 1) / 2)
  assert result["uf1"] == pytest.approx((6 / 7 + 4 / 5) / 2)
  absent = result["per_class"][2]
  assert (absent["recall"], absent["precision"], absent["f1"]) == (None, None, None)
  assert len(result["notes"]) == 1 and result["notes"][0].startswith("sur: no examples")


def test_absent_but_predicted_class_has_no_recall_and_zero_f1():
  result = scores([[3, 0, 1], [0, 2, 0], [0, 0, 0]], ["neg", "pos", "sur"])
  assert result["uar"] == pytest.approx((3 / 4 + 1) / 2)
  assert result["uf1"] == pytest.approx((6 / 7 + 1 + 0) / 3)
  assert result["per_class"][2]["recall"] is None
  assert result["per_class"][2]["f1"] == 0
  assert "counts in UF1" in result["notes"][0]


def test_never_predicted_class_counts_as_zero():
  result = scores([[4, 0], [2, 0]])
  assert result["uar"] == pytest.approx(0.5)
  assert result["uf1"] == pytest.approx((8 / 10 + 0) / 2)
  assert result["per_class"][1]["precision"] is None
  assert result["notes"] == []


def test_scores_are_json_serialisable():
  result = scores(np.array([[1, 0], [0, 0]]))
  assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize(
  ("confusion", "message"),
  [
    (np.zeros((2, 2), int), "no example"),
    (np.ones((2, 3), int), "square"),
    (np.ones((2, 2)), "counts"),
    (np.array([[1, -1], [0, 1]]), "counts"),
  ],
)
def test_scores_rejects_an_invalid_confusion_matrix(confusion, message):
  with pytest.raises(ValueError, match=message):
    scores(confusion)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed", range(60))
def test_scores_agree_with_scikit_learn(seed):
  generator = np.random.default_rng(seed)
  classes = int(generator.integers(2, 9))
  count = int(generator.integers(1, 60))  # few examples of many classes: some are absent
  weights = generator.dirichlet(np.full(classes, 0.7))
  truth = generator.choice(classes, count, p=weights)
  guess = generator.choice(classes, count)
  prediction = np.where(generator.random(count) < 0.6, truth, guess)

  confusion = confusion_matrix(truth, prediction, classes)
  np.testing.assert_array_equal(
    confusion, sklearn_metrics.confusion_matrix(truth, prediction, labels=range(classes))
  )
  result = scores(confusion)
  assert result["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, prediction))
  assert result["uar"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(truth, prediction))
  assert result["uf1"] == pytest.approx(
    sklearn_metrics.f1_score(truth, prediction, average="macro")
  )
  precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
    truth, prediction, labels=range(classes), zero_division=np.nan
  )
  for c, row in enumerate(result["per_class"]):
    assert row["support"] == support[c]
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
      value = np.nan if row[name] is None else row[name]
      assert value == pytest.approx(expected[c], nan_ok=True), name


def test_pooled_scores_come_from_summed_matrices_not_from_the_mean_of_folds():
  """A common error in published code: the mean of per-subject scores is too high."""
  folds = [([0, 0, 0], [0, 0, 0]), ([1], [1]), ([2], [0]), ([0, 1, 2], [0, 1, 1])]
  parts = [confusion_matrix(truth, prediction, 3) for truth, prediction in folds]
  pooled = scores(sum(parts))
  mean = mean_of_scores([scores(part) for part in parts])

  truth, prediction = (np.concatenate([fold[i] for fold in folds]) for i in (0, 1))
  assert pooled == scores(confusion_matrix(truth, prediction, 3))
  assert pooled["uf1"] == pytest.approx((8 / 9 + 4 / 5 + 0) / 3)  # 0.563
  # Separately, the folds have UF1 1, 1, 0 and (1 + 2/3 + 0) / 3.
  assert mean["uf1"] == pytest.approx((1 + 1 + 0 + 5 / 9) / 4)  # 0.639
  assert mean["uf1"] > pooled["uf1"] + 0.05


def test_bootstrap_resamples_whole_subjects():
  # Ten subjects of ten equal clips; half of them are all correct. Resampling clips would
  # give accuracy 0.5 +- 0.1; resampling subjects gives +- 0.3.
  truth = np.arange(100) % 2
  subjects = [f"s{i // 10}" for i in range(100)]
  prediction = np.where(np.arange(100) < 50, truth, 1 - truth)
  low, high = subject_bootstrap(truth, prediction, subjects, 2)["accuracy"]
  assert low <= 0.21 and high >= 0.79
  clips_low, clips_high = subject_bootstrap(truth, prediction, range(100), 2)["accuracy"]
  assert clips_low >= 0.38 and clips_high <= 0.62


def test_bootstrap_agrees_with_scoring_each_resample():
  generator = np.random.default_rng(1)
  truth, prediction = generator.integers(0, 3, (2, 60))
  subjects = generator.integers(0, 8, 60)
  rows = [np.flatnonzero(subjects == s) for s in range(8)]
  drawn = []
  for _ in range(3000):
    chosen = np.concatenate([rows[s] for s in generator.integers(0, 8, 8)])
    drawn.append(scores(confusion_matrix(truth[chosen], prediction[chosen], 3))["uf1"])
  low, high = subject_bootstrap(truth, prediction, list(subjects), 3, repeats=3000)["uf1"]
  assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.015)


def test_bootstrap_is_deterministic_and_contains_the_score():
  generator = np.random.default_rng(0)
  truth = generator.integers(0, 3, 90)
  prediction = np.where(generator.random(90) < 0.7, truth, generator.integers(0, 3, 90))
  subjects = list(np.arange(90) // 5)
  first = subject_bootstrap(truth, prediction, subjects, 3)
  assert first == subject_bootstrap(truth, prediction, subjects, 3)
  assert first != subject_bootstrap(truth, prediction, subjects, 3, seed=1)
  point = scores(confusion_matrix(truth, prediction, 3))
  for name, (low, high) in first.items():
    assert low < point[name] < high
  wide = subject_bootstrap(truth, prediction, subjects, 3, level=0.99)
  assert wide["uf1"][0] < first["uf1"][0] and wide["uf1"][1] > first["uf1"][1]


@pytest.mark.slow
def test_bootstrap_of_many_examples_without_subjects():
  generator = np.random.default_rng(0)
  truth = generator.integers(0, 8, 100_000)
  prediction = np.where(generator.random(100_000) < 0.6, truth, 0)
  low, high = subject_bootstrap(truth, prediction, range(100_000), 8)["accuracy"]
  assert 0 < high - low < 0.01


def test_bootstrap_rejects_a_single_subject():
  with pytest.raises(ValueError, match="at least 2"):
    subject_bootstrap([0, 1], [0, 1], ["a", "a"], 2)
  with pytest.raises(ValueError, match="level"):
    subject_bootstrap([0, 1], [0, 1], ["a", "b"], 2, level=95)
