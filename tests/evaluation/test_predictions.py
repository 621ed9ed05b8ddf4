import numpy as np
import pytest

from jax_me.evaluation.predictions import InvalidPredictions, Predictions, concatenate
from jax_me.evaluation.summary import summarize

LABELS = ("negative", "positive", "surprise")


def table(count=6, *, fold="", start=0, database="casme2"):
  generator = np.random.default_rng(start)
  scores = generator.dirichlet(np.ones(3), count)
  return Predictions.from_scores(
    scores,
    generator.integers(0, 3, count),
    LABELS,
    database=database,
    subject=[f"s{(start + i) // 3}" for i in range(count)],
    clip=[f"clip {start + i}" for i in range(count)],
    file=[f"s/{start + i}.png" for i in range(count)],
    fold=fold,
  )


def assert_equal(one, other):
  assert one.labels == other.labels
  for name in ("truth", "prediction", "scores"):
    np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
  for name in ("database", "subject", "clip", "file", "fold"):
    assert getattr(one, name) == getattr(other, name)


def test_prediction_is_the_highest_score():
  predictions = Predictions.from_scores([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]], [1, 2], LABELS)
  np.testing.assert_array_equal(predictions.prediction, [1, 0])
  np.testing.assert_array_equal(predictions.correct, [True, False])
  np.testing.assert_array_equal(predictions.confusion(), [[0, 0, 0], [0, 1, 0], [1, 0, 0]])


def test_save_and_load_round_trip_is_exact(tmp_path):
  predictions = table(50, fold="fold 1")
  predictions.save(tmp_path / "results" / "predictions.csv")
  assert_equal(Predictions.load(tmp_path / "results" / "predictions.csv"), predictions)
  header = (tmp_path / "results" / "predictions.csv").read_text().splitlines()[0]
  assert header == (
    "database,subject,clip,file,fold,truth,prediction,score_negative,score_positive,score_surprise"
  )
  assert [p.name for p in (tmp_path / "results").iterdir()] == ["predictions.csv"]


def test_special_characters_survive_the_round_trip(tmp_path):
  predictions = Predictions.from_scores(
    [[0.5, 0.5], [0.1, 0.9]],
    [0, 1],
    ['a, "b"\nc', "日本"],
    file=['comma,quote".png', "invalid byte \udcff.png"],
  )
  predictions.save(tmp_path / "p.csv")
  assert_equal(Predictions.load(tmp_path / "p.csv"), predictions)


def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "p.csv"
  table(3).save(path)
  before = path.read_bytes()
  monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
  with pytest.raises(OSError, match="disk full"):
    table(5).save(path)
  assert path.read_bytes() == before
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  "content",
  [
    "database,subject,clip,truth,prediction\nsmic,s1,c1,negative,surprise\nsmic,s1,c2,surprise,surprise\n",
    "\ufefftruth,prediction,clip\nnegative,surprise,c1\nsurprise,surprise,c2\n",
  ],
)
def test_load_requires_only_truth_and_prediction(tmp_path, content):
  (tmp_path / "p.csv").write_text(content, encoding="utf-8")
  predictions = Predictions.load(tmp_path / "p.csv")
  assert predictions.labels == ("negative", "surprise")
  assert predictions.scores is None
  np.testing.assert_array_equal(predictions.confusion(), [[0, 1], [0, 1]])
  assert predictions.clip == ("c1", "c2")


def test_integer_labels_are_their_own_names(tmp_path):
  (tmp_path / "p.csv").write_text("truth,prediction\n0,3\n10,3\n")
  predictions = Predictions.load(tmp_path / "p.csv")
  assert predictions.labels == tuple(str(i) for i in range(11))
  np.testing.assert_array_equal(predictions.truth, [0, 10])


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("", "no column truth and no column prediction"),
    ("truth,clip\na,b\n", "no column prediction"),
    ("truth,prediction\n", "contains no predictions"),
    ("truth,prediction\na\n", "line 2: 1 cells, the header has 2"),
    ("truth,prediction\na,b,c\n", "line 2: 3 cells, the header has 2"),
    ("truth,prediction,score_a\na,b,1\n", "line 2, column prediction: 'b' is none of the labels a"),
    ("truth,prediction,score_a\na,a,much\n", "line 2, column score_a: 'much' is not a finite"),
    ("truth,prediction,score_a\na,a,nan\n", "column score_a: 'nan' is not a finite"),
    ("truth,prediction\na,a\n\na,\n", "line 4, column prediction: it is empty"),
    ("truth,pred\na,a\n", "no column prediction; .*rename 'pred' to 'prediction'"),
    ("truth,prediction,truth\na,a,a\n", "line 1: column 'truth' appears twice"),
    ("truth,prediction,score_a,score_b,\na,c,1,0,\n", "line 2, column prediction: 'c' is none"),
    ("truth,prediction,file\na,a,x.png\na,a,x.png\n", "x.png occurs twice"),
    ('truth,prediction\n"a,b\n', "p.csv, line"),
  ],
)
def test_invalid_files_are_rejected(tmp_path, content, message):
  (tmp_path / "p.csv").write_text(content)
  with pytest.raises(InvalidPredictions, match=message) as error:
    Predictions.load(tmp_path / "p.csv")
  assert "p.csv" in str(error.value)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"labels": ("a", "a")}, "distinct"),
    ({"truth": [0, 2]}, r"truth\[1\] is 2"),
    ({"file": ["x"]}, "file has 1 entries for 2"),
    ({"scores": [[1.0], [1.0]]}, r"scores must be \[2, 2\]"),
    ({"scores": [[1.0, 0.0], [np.nan, 0.0]], "file": ["x", "y"]}, "scores of y are not finite"),
    ({"file": ["x", "x"]}, "x occurs twice"),
  ],
)
def test_inconsistent_tables_are_rejected(arguments, message):
  base = {"labels": ("a", "b"), "truth": [0, 1], "prediction": [1, 1]}
  with pytest.raises(InvalidPredictions, match=message):
    Predictions(**{**base, **arguments})


def test_concatenate_folds():
  folds = [table(6, fold="fold 1"), table(3, fold="fold 2", start=6)]
  pooled = concatenate(folds, expected=9)
  assert len(pooled) == 9
  np.testing.assert_array_equal(pooled.confusion(), folds[0].confusion() + folds[1].confusion())
  assert {name: len(rows) for name, rows in pooled.rows_by("fold").items()} == {
    "fold 1": 6,
    "fold 2": 3,
  }


def test_concatenate_rejects_overlapping_or_incomplete_folds():
  one, two = table(6, fold="fold 1"), table(3, fold="fold 2", start=5)
  with pytest.raises(InvalidPredictions, match="s/5.png occurs twice"):
    concatenate([one, two])
  with pytest.raises(InvalidPredictions, match="6 predictions for 7 examples"):
    concatenate([one], expected=7)
  other = Predictions(("x",), [0], [0])
  with pytest.raises(InvalidPredictions, match="differ in labels"):
    concatenate([one, other])
  with pytest.raises(InvalidPredictions, match="no predictions"):
    concatenate([])


def test_rows_by_subject_is_in_natural_order_and_separates_databases():
  subjects = ["s10", "s2", "s2"]
  one = Predictions(("a",), [0, 0, 0], [0, 0, 0], subject=subjects, clip=["1", "2", "3"])
  assert list(one.rows_by("subject")) == ["s2", "s10"]
  two = Predictions(("a",), [0] * 3, [0] * 3, subject=subjects, database=["x", "x", "y"])
  assert list(two.rows_by("subject")) == ["x s2", "x s10", "y s2"]
  assert len(set(two.bootstrap_units)) == 3


def test_summary_pools_folds_and_databases():
  parts = [
    table(9, fold="fold 1", database="casme2"),
    table(6, fold="fold 2", start=9, database="smic"),
  ]
  both = concatenate(parts)
  summary = summarize(both, repeats=50)
  assert summary["pooled"]["examples"] == 15
  assert summary["bootstrap"]["over"] == "5 subjects"
  assert summary["databases"]["smic"]["uf1"] == summarize(parts[1])["pooled"]["uf1"]
  assert summary["folds"]["fold 1"]["uf1"] == summarize(parts[0])["pooled"]["uf1"]
  fold_scores = [fold["uf1"] for fold in summary["folds"].values()]
  assert summary["mean_over_folds"]["uf1"] == pytest.approx(np.mean(fold_scores))
  assert list(summary["subjects"]) == ["casme2 s0", "casme2 s1", "casme2 s2", "smic s3", "smic s4"]


def test_summary_without_subjects_or_folds():
  predictions = Predictions(("a", "b"), [0, 0, 1], [0, 1, 1], file=["1", "2", "3"])
  summary = summarize(predictions, repeats=50)
  assert summary["bootstrap"]["over"] == "3 examples"
  assert summary["folds"] == summary["subjects"] == summary["databases"] == {}
  assert summary["mean_over_folds"] is None
  assert summary["majority"] == {
    "label": "a",
    "accuracy": pytest.approx(2 / 3),
    "uar": 0.5,
    "uf1": pytest.approx(0.4),
  }


def test_summary_of_a_single_subject_has_no_intervals():
  predictions = Predictions(("a", "b"), [0, 1], [0, 1], subject=["s1", "s1"], file=["1", "2"])
  assert summarize(predictions)["pooled"]["intervals"] is None
