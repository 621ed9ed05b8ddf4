"""Valence and arousal: their scores, and their columns in a table of predictions."""

import numpy as np
import pytest

from jax_me.evaluation.affect import AffectValues, affect_scores, concordance
from jax_me.evaluation.predictions import InvalidPredictions, Predictions, concatenate
from jax_me.evaluation.summary import summarize
from jax_me.reports.saved_report import SavedReport
from jax_me.reports.score_text import describe_result, format_scores

RNG = np.random.default_rng(0)
TRUTH = RNG.uniform(-1, 1, (60, 2)).astype(np.float32)
PREDICTION = (0.7 * TRUTH + 0.1 + RNG.normal(0, 0.2, (60, 2))).astype(np.float32)
UNITS = [str(row % 12) for row in range(60)]


def table(rows=slice(None), truth=TRUTH):
  count = len(TRUTH[rows])
  return Predictions(
    ("x", "y"),
    np.zeros(count, int),
    np.zeros(count, int),
    subject=UNITS[rows],
    file=[str(row) for row in range(60)][rows],
    affect=AffectValues(truth[rows], PREDICTION[rows]),
  )


def test_concordance_is_that_of_lin():
  x, y = TRUTH[:, 0].astype(float), PREDICTION[:, 0].astype(float)
  correlation = np.corrcoef(x, y)[0, 1]
  expected = 2 * correlation * x.std() * y.std() / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
  assert expected < correlation and concordance(x, y) == pytest.approx(expected)
  assert concordance(x, x) == pytest.approx(1) and concordance(x, -x) < 0
  assert concordance(np.ones(3), np.ones(3)) == concordance([], []) == 0


def test_scores_leave_out_unknown_values():
  truth = TRUTH.copy()
  truth[::2] = np.nan
  scores = affect_scores(AffectValues(truth, PREDICTION), UNITS, repeats=200, seed=0, level=0.95)
  for column, name in enumerate(("valence", "arousal")):
    x, y = TRUTH[1::2, column], PREDICTION[1::2, column]
    score = scores[name]
    assert score["examples"] == 30 and score["ccc"] == pytest.approx(concordance(x, y))
    assert score["rmse"] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), rel=1e-5)
    low, high = score["ccc_interval"]
    assert low < score["ccc"] < high and high - low < 0.5
  unknown = AffectValues(np.full_like(TRUTH, np.nan), PREDICTION)
  nothing = affect_scores(unknown, UNITS, repeats=2, seed=0, level=0.95)["valence"]
  assert nothing == {"ccc": None, "ccc_interval": None, "rmse": None, "examples": 0}


def test_tables_keep_the_values(tmp_path):
  truth = TRUTH.copy()
  truth[4] = np.nan
  joined = concatenate([table(slice(0, 20), truth), table(slice(20, 60), truth)], expected=60)
  joined.save(tmp_path / "predictions.csv")
  loaded = Predictions.load(tmp_path / "predictions.csv").affect
  np.testing.assert_array_equal(loaded.truth, truth)
  np.testing.assert_array_equal(loaded.prediction, PREDICTION)
  text = (tmp_path / "predictions.csv").read_text()
  assert text.splitlines()[0].endswith("prediction,valence,arousal,truth_valence,truth_arousal")
  (tmp_path / "bad.csv").write_text(text.replace(str(PREDICTION[0, 0]), "high"))
  with pytest.raises(InvalidPredictions, match="line 2, column valence: 'high'"):
    Predictions.load(tmp_path / "bad.csv")
  with pytest.raises(InvalidPredictions, match="have 60 rows, not 1"):
    Predictions(("x",), [0], [0], affect=AffectValues(TRUTH, PREDICTION))


def test_summary_and_report_give_ccc_and_rmse(tmp_path):
  summary = summarize(table(), repeats=50)
  ccc = concordance(TRUTH[:, 0], PREDICTION[:, 0])
  assert summary["affect"]["valence"]["ccc"] == pytest.approx(ccc)
  assert f"CCC of valence {ccc:.3f} (" in describe_result(summary)
  assert "RMSE" in format_scores(summary, ("x", "y"))
  from jax_me.reports.run_report import write_report

  page = write_report(tmp_path, SavedReport("t", table()), summary).read_text()
  assert "Valence and arousal" in page and f"{ccc:.3f}" in page
  plain = Predictions(("x", "y"), [0, 1], [0, 1], file=["a", "b"])
  without = summarize(plain, repeats=5)
  assert without["affect"] is None and "CCC" not in describe_result(without)
