import numpy as np
import pytest

from jax_me.csv_files import TableError
from jax_me.evaluation.clip_predictions import aggregate_clips
from jax_me.evaluation.prediction_reader import read_predictions, to_three_classes
from jax_me.evaluation.predictions import InvalidPredictions, Predictions
from jax_me.evaluation.score_warnings import score_warnings
from jax_me.evaluation.subject_groups import read_groups
from jax_me.evaluation.summary import summarize
from jax_me.reports.score_text import format_scores

LOG = """casme2 sub01
EP02_01f 0 2
EP03_02f\t0  0

# samm follows
samm, 006
006_1_2 1 1
smic s03
s3_sur_01 surprise neg
"""


def write_file(tmp_path, content, name="p.csv"):
  path = tmp_path / name
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return path


def test_megc_log(tmp_path):
  table = read_predictions(write_file(tmp_path, LOG, "log.txt"))
  assert table.labels == ("negative", "positive", "surprise")
  assert table.truth.tolist() == [0, 0, 1, 2] and table.prediction.tolist() == [2, 0, 1, 0]
  assert table.database == ("casme2", "casme2", "samm", "smic")
  assert table.subject == ("sub01", "sub01", "006", "s03")
  assert table.clip == ("EP02_01f", "EP03_02f", "006_1_2", "s3_sur_01")
  assert len(table.rows_by("fold")) == 3


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("casme2 sub01\nEP 0\nEP 0 1 2\n", "line 3: 'EP 0 1 2' is not '<clip> <truth> <prediction>'"),
    ("casme2 sub01\nEP 0 3\n", "line 2, prediction: '3' is none of the labels 0 negative"),
    ("casme2 sub01\nEP happy 1\n", "line 2, truth: 'happy' is none"),
    ("casme2 sub01\n", "contains no predictions"),
    ("", "no column truth and no column prediction"),
    ("EP02 0 1\n", "no column truth"),
  ],
)
def test_invalid_logs_are_rejected(tmp_path, content, message):
  with pytest.raises(InvalidPredictions, match=message) as error:
    read_predictions(write_file(tmp_path, content, "log.txt"))
  assert "log.txt" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
  "content",
  [
    "database,subject,clip,truth,prediction\nsmic,s1,c1,negative,surprise\n",
    "extra,Prediction, TRUTH ,Clip,subject,database\n7,surprise,negative,c1,s1,smic\n",
    "database;subject;clip;truth;prediction\r\nsmic;s1;c1;0;2\r\n\r\n",
    "\ufeffdatabase\tsubject\tclip\ttruth\tprediction\nsmic\ts1\tc1\t0\t2\n\n",
  ],
)
def test_csv_variants(tmp_path, content):
  labels = ("negative", "positive", "surprise")
  table = read_predictions(write_file(tmp_path, content), labels=labels)
  assert (table.truth.tolist(), table.prediction.tolist()) == ([0], [2])
  assert (table.database, table.subject, table.clip) == (("smic",), ("s1",), ("c1",))


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "p.csv"),
    ("truth;prediction;clip\na,b,c\n", "line 2: 1 cells, the header has 3"),
    ("truth,prediction\nHappy,happiness\n", "'Happy' and 'happiness' mean the same"),
    ("truth,prediction\n0,1\n5,1\n", "line 3, column truth: '5' is none of the labels a, b"),
    ("truth,prediction,score_a\na,b,1\n", "score_a do not match the labels a, b"),
    ("truth,prediction,score_a,score_b\na,b,1,\n", "line 2, column score_b: '' is not a finite"),
  ],
)
def test_invalid_tables_are_rejected(tmp_path, content, message):
  labels = ("a", "b") if b"a, b" in message.encode() or "score_b" in message else None
  with pytest.raises(InvalidPredictions, match=message) as error:
    read_predictions(write_file(tmp_path, content), labels=labels)
  assert str(tmp_path / "p.csv") in str(error.value)


def test_three_classes_from_names():
  labels = ("anger", "happiness", "others", "surprise")
  table = Predictions(
    labels, [0, 1, 2, 3], [1, 1, 2, 0], clip=list("abcd"), subject=["s1", "s1", "s2", "s2"]
  )
  three, note = to_three_classes(table)
  assert three.labels == ("negative", "positive", "surprise")
  assert three.truth.tolist() == [0, 1, 2] and three.prediction.tolist() == [1, 1, 0]
  assert three.clip == ("a", "b", "d") and three.subject == ("s1", "s1", "s2")
  assert note == "1 row excluded: the true label (others) is in none of these classes."
  wrong = Predictions(labels, [0], [2], clip=["x"])
  with pytest.raises(InvalidPredictions, match="x was predicted as 'others'.*score_<label>"):
    to_three_classes(wrong)
  with pytest.raises(InvalidPredictions, match="no clip remains"):
    to_three_classes(Predictions(("neutral",), [0], [0]))


def test_three_classes_from_scores():
  labels = ("anger", "fear", "happiness", "neutral")
  table = Predictions.from_scores(
    [[0.2, 0.25, 0.3, 0.25], [0.1, 0.0, 0.1, 0.8], [0, 0, 0, 1]], [2, 1, 3], labels
  )
  three, _ = to_three_classes(table)
  np.testing.assert_allclose(three.scores, [[0.6, 0.4, 0], [0.5, 0.5, 0]], atol=1e-6)
  assert three.prediction.tolist() == [0, 0] and three.truth.tolist() == [1, 0]


def warnings_of(**columns):
  count = len(next(iter(columns.values())))
  return score_warnings(
    Predictions(("a", "b"), [0] * count, [1] * count, allow_duplicates=True, **columns)
  )


def test_warnings_about_clips_and_subjects():
  subjects = [f"s{i}" for i in range(12)]
  assert warnings_of(subject=subjects, clip=subjects) == []
  (warning,) = warnings_of(subject=[*subjects, "s3"], clip=[*subjects, "s3"])
  assert warning.startswith("1 clip appears in the table more than once") and "s3 s3" in warning
  (warning,) = warnings_of(
    subject=[*subjects, "s3"], clip=[*subjects, "s3"], file=[*subjects, "other"]
  )
  assert "1 of 12 clips has rows of several files" in warning and "scores of frames" in warning
  clips = [str(i) for i in range(24)]
  (warning,) = warnings_of(
    subject=subjects * 2, clip=clips, fold=["1"] * 12 + ["1"] * 10 + ["2"] * 2
  )
  assert warning.startswith("2 subjects appear in more than one fold: s10, s11.")
  # Equal names in two databases are two subjects.
  assert warnings_of(subject=subjects * 2, fold=clips, database=["x"] * 12 + ["y"] * 12) == []
  assert "only 2 subjects" in warnings_of(subject=["s1", "s2"], clip=["1", "2"])[0]
  assert "1 of 13 rows has no subject" in warnings_of(subject=[*subjects, ""], clip=clips[:13])[0]


def test_warnings_about_scores():
  subjects = [f"s{i}" for i in range(10)]
  table = Predictions(
    ("a", "b"), [0] * 10, [1] * 10, np.full((10, 2), [0.9, 0.3]), subject=subjects
  )
  warnings = score_warnings(table)
  assert "In 10 rows the prediction is not the class with the highest score" in warnings[0]
  assert "not probabilities" in warnings[1]


def test_groups_match_subjects_of_one_or_any_database(tmp_path):
  content = "age,Subject,database,sex\n20,s1,x,f\n30,s1,,m\n,s2,,f\n"
  groups = read_groups(write_file(tmp_path, content, "g.csv"))
  table = Predictions(
    ("a",), [0] * 4, [0] * 4, database=list("xyxx"), subject=["s1", "s1", "s2", "s9"]
  )
  expected = {"age": ["20", "30", "unknown", "unknown"], "sex": ["f", "m", "f", "unknown"]}
  assert groups.groups_of_rows(table) == expected
  groups.save(tmp_path / "again.csv")
  assert read_groups(tmp_path / "again.csv") == groups
  with pytest.raises(TableError, match="list none of the predicted subjects.*s1, s2.*against p7"):
    groups.groups_of_rows(Predictions(("a",), [0], [0], subject=["p7"]))


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("sex\nf\n", "no column subject"),
    ("subject\ns1\n", "no column besides subject"),
    ("subject,sex\n,f\n", "line 2, column subject: it is empty"),
    ("subject,sex\ns1,f\ns1,m\n", "line 3: subject s1 appears twice"),
  ],
)
def test_invalid_groups_are_rejected(tmp_path, content, message):
  with pytest.raises(TableError, match=message):
    read_groups(write_file(tmp_path, content, "g.csv"))


def test_frames_of_a_clip_are_aggregated():
  scores = [[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]]
  columns = {
    "subject": ["s1"] * 3 + ["s2", "s2"],
    "clip": ["c", "c", "c", "c", ""],
    "file": list("abcde"),
  }
  table = Predictions.from_scores(scores, [0, 0, 0, 1, 1], ("n", "p"), **columns)
  clips = aggregate_clips(table)
  assert clips.clip == ("c", "c", "") and clips.subject == ("s1", "s2", "s2")
  assert clips.truth.tolist() == [0, 1, 1]
  assert clips.prediction.tolist() == [0, 1, 0]  # The mean of s1's clip is (0.57, 0.43).
  np.testing.assert_allclose(clips.scores[0], [1.7 / 3, 1.3 / 3], atol=1e-6)
  without = Predictions(("n", "p"), table.truth, table.prediction, **columns)
  assert aggregate_clips(without).prediction.tolist() == [1, 1, 0]  # Two of three votes.
  summary = summarize(table, repeats=20)
  assert summary["pooled"]["examples"] == 5 and summary["per_clip"]["examples"] == 3
  assert summary["per_clip"]["accuracy"] == pytest.approx(2 / 3)
  assert "over 3 clips" in format_scores(summary, table.labels)


def test_tables_that_are_not_aggregated():
  clips = Predictions(("n", "p"), [0, 1], [0, 1], clip=["c", "d"], file=["c.png", "d.png"])
  frames = Predictions(("n", "p"), [0, 1], [0, 1], clip=["c", "c"], file=["1.png", "2.png"])
  assert aggregate_clips(clips) is None and aggregate_clips(frames) is None
