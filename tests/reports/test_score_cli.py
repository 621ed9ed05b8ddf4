import csv
import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from jax_me.__main__ import main
from jax_me.reports.score_text import describe_intervals
from tests.helpers.killed_write import kill_at_write

HEADER = "database,subject,clip,truth,prediction"
LABELS = ("negative", "positive", "surprise")
# The pooled matrix is [[4, 0, 0], [0, 2, 0], [1, 1, 0]]: UF1 (8/9 + 4/5 + 0) / 3 = 0.563. The
# subjects separately have 1, 1, 0 and 5/9, with a mean of 0.639, which some papers publish.
ROWS_BY_SUBJECT = [("s1", "000", "000"), ("s2", "1", "1"), ("s3", "2", "0"), ("s4", "012", "011")]


def write(path, rows, header=HEADER):
  path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
  return path


def subject_table(folder):
  rows = [
    ("x", subject, f"c{i}", true, predicted)
    for subject, truth, prediction in ROWS_BY_SUBJECT
    for i, (true, predicted) in enumerate(zip(truth, prediction, strict=True))
  ]
  return write(folder / "subjects.csv", rows)


def random_rows(seed, subjects=9, scores=False):
  generator = np.random.default_rng(seed)
  rows = []
  for i in range(90):
    truth = int(generator.choice(3, p=[0.6, 0.25, 0.15]))
    scored = generator.dirichlet(1 + 3 * np.eye(3)[truth])
    database = ("casme2", "samm", "smic")[i % 3]
    row = (database, f"s{i % subjects}", f"c{i}", LABELS[truth], LABELS[scored.argmax()])
    rows.append((*row, *(scored if scores else ())))
  return rows


def score(*arguments):
  return main(["score", *map(str, arguments), *(["--resamples", "50"])])


def as_json(capsys, *arguments):
  assert score(*arguments, "--json") == 0
  return json.loads(capsys.readouterr().out)


def test_pooled_score_is_first_and_the_mean_is_marked_as_not_comparable(tmp_path, capsys):
  assert (
    score(subject_table(tmp_path), "--labels", ",".join(LABELS), "--output", tmp_path / "out") == 0
  )
  output = capsys.readouterr().out
  assert output.index("0.563") < output.index("0.639")
  line = next(line for line in output.splitlines() if "0.639" in line)
  assert line.startswith("Mean over subjects, NOT comparable with the pooled scores: UF1 0.639")
  for name in ("report.md", "report.html"):
    page = (tmp_path / "out" / name).read_text()
    assert 0 < page.index("0.563") < page.index("0.639")
    assert page.index("NOT comparable") < page.index("0.639")
  result = as_json(capsys, subject_table(tmp_path))
  assert result["pooled"]["uf1"] == pytest.approx((8 / 9 + 4 / 5) / 3)
  assert result["mean_over_subjects"]["uf1"] == pytest.approx((1 + 1 + 0 + 5 / 9) / 4)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed", range(10))
def test_composite_databases_and_subjects_agree_with_scikit_learn(tmp_path, capsys, seed):
  rows = random_rows(seed)
  result = as_json(capsys, write(tmp_path / "p.csv", rows))
  parts = {None: result["pooled"], **result["databases"]}
  for database, part in parts.items():
    own = [row for row in rows if database in (None, row[0])]
    truth, prediction = [row[3] for row in own], [row[4] for row in own]
    assert part["uf1"] == pytest.approx(
      sklearn_metrics.f1_score(truth, prediction, average="macro")
    )
    uar = sklearn_metrics.balanced_accuracy_score(truth, prediction)
    assert part["uar"] == pytest.approx(uar)
    assert part["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, prediction))
    matrix = result["confusion"] if database is None else part["confusion"]
    expected = sklearn_metrics.confusion_matrix(truth, prediction, labels=LABELS)
    np.testing.assert_array_equal(matrix, expected)
    for low, high in part["intervals"].values():
      assert low <= high
  assert len(result["databases"]) == 3
  assert sum(part["correct"] for part in result["subjects"].values()) == sum(
    row[3] == row[4] for row in rows
  )


@pytest.mark.slow
def test_output_folder(tmp_path, capsys):
  header = f"{HEADER},{','.join(f'score_{label}' for label in LABELS)}"
  table = write(tmp_path / "p.csv", random_rows(0, scores=True), header)
  groups = write(tmp_path / "g.csv", [(f"s{i}", "fm"[i % 2]) for i in range(9)], "subject,sex")
  assert score(table, "--groups", groups, "--output", tmp_path / "out") == 0
  assert f"report: {tmp_path / 'out' / 'report.html'}" in capsys.readouterr().out
  inner = tmp_path / "out" / "report"
  assert {path.name for path in inner.iterdir()} == {
    "predictions.csv",
    "scores.json",
    "facts.json",
    "subject_groups.csv",
    "classes.csv",
    "databases.csv",
    "subjects.csv",
    "groups.csv",
    "reliability.png",
    *(f"confusion_matrix{part}.csv" for part in ("", "_casme2", "_samm", "_smic")),
    *(f"confusion_matrix{part}.png" for part in ("", "_casme2", "_samm", "_smic")),
  }
  result = json.loads((inner / "scores.json").read_text())
  rows = list(csv.DictReader((inner / "subjects.csv").open()))
  assert len(rows) == 9 and sum(int(row["examples"]) for row in rows) == 90
  rows = list(csv.DictReader((inner / "groups.csv").open()))
  assert [(row["group"], row["subjects"]) for row in rows] == [("f", "5"), ("m", "4")]
  assert float(rows[0]["uf1"]) == result["groups"]["sex"]["f"]["uf1"]
  composite, casme2 = list(csv.DictReader((inner / "databases.csv").open()))[:2]
  assert float(composite["uf1_low"]) == result["pooled"]["intervals"]["uf1"][0]
  assert float(casme2["uf1"]) == result["databases"]["casme2"]["uf1"]
  with (inner / "confusion_matrix.csv").open() as file:
    matrix = [row[1:] for row in list(csv.reader(file))[1:]]
  np.testing.assert_array_equal(np.array(matrix, int), result["confusion"])
  assert result["calibration"]["ece"] > 0

  before = (inner / "groups.csv").read_text()
  assert main(["report", str(tmp_path / "out")]) == 0
  assert (inner / "groups.csv").read_text().count("\n") == before.count("\n")
  assert (
    score(subject_table(tmp_path), "--output", tmp_path / "out") == 0
  )  # Replaces the older report.
  assert not (inner / "groups.csv").exists() and not (inner / "reliability.png").exists()


def test_one_subject_has_no_intervals_and_a_reason(tmp_path, capsys):
  table = write(tmp_path / "p.csv", [("x", "s1", "a", 0, 0), ("x", "s1", "b", 1, 0)])
  result = as_json(capsys, table)
  assert result["pooled"]["intervals"] is None
  assert score(table, "--output", tmp_path / "out") == 0
  sentence = "There are no confidence intervals: the table contains only 1 subject"
  assert sentence in capsys.readouterr().out
  assert sentence in (tmp_path / "out" / "report.md").read_text()


def test_intervals_depend_on_seed_and_resamples_which_are_reported(tmp_path, capsys):
  table = write(tmp_path / "p.csv", random_rows(0))
  first = as_json(capsys, table)
  assert as_json(capsys, table) == first
  assert as_json(capsys, table, "--seed", 1)["pooled"] != first["pooled"]
  assert (
    first["bootstrap"]
    == {
      "over": "27 subjects",  # Nine names in each of three databases.
      "units": 27,
      "repeats": 50,
      "seed": 0,
      "level": 0.95,
    }
    or first["bootstrap"]["over"] == "9 subjects"
  )
  result = describe_intervals(first)
  assert (
    "2.5th and 97.5th percentile" in result
    and "50 bootstrap resamples" in result
    and "seed 0" in result
  )


def test_warnings_are_printed(tmp_path, capsys):
  rows = [("x", "s1", "a", 0, 0), ("x", "s1", "a", 0, 2), ("x", "s2", "b", 2, 2)]
  assert score(write(tmp_path / "p.csv", rows), "--labels", "neg,pos,sur") == 0
  output = capsys.readouterr().out
  assert "warning: 1 clip appears in the table more than once" in output
  assert "warning: pos: no examples and never predicted" in output
  rows = [(*row, fold) for fold, row in enumerate([rows[0], ("x", "s1", "c", 2, 2)])]
  assert score(write(tmp_path / "p.csv", rows, f"{HEADER},fold")) == 0
  assert "warning: 1 subject appears in more than one fold: x s1" in capsys.readouterr().out


def test_three_classes_and_logs(tmp_path, capsys):
  rows = [("x", "s1", "a", "anger", "fear"), ("x", "s2", "b", "others", "joy")]
  result = as_json(capsys, write(tmp_path / "p.csv", rows), "--classes", 3)
  assert result["pooled"]["accuracy"] == 1 and result["pooled"]["examples"] == 1
  assert "1 row excluded: the true label (others)" in result["source"]["scored as"]
  (tmp_path / "log.txt").write_text("casme2 sub01\na 0 0\nb 1 0\nsmic s03\nc 2 2\n")
  result = as_json(capsys, tmp_path / "log.txt")
  assert result["labels"] == list(LABELS) and set(result["databases"]) == {"casme2", "smic"}


def test_invalid_utf8_in_names_is_escaped(tmp_path, capsys):
  (tmp_path / "p.csv").write_bytes(f"{HEADER}\nx,s\xff,a,b\xe9,b\xe9\n".encode("latin-1"))
  assert score(tmp_path / "p.csv", "--output", tmp_path / "out") == 0
  assert "\\udce9" in capsys.readouterr().out


@pytest.mark.parametrize("write", range(4))
def test_a_killed_command_is_repeated(tmp_path, monkeypatch, write):
  table, out = subject_table(tmp_path), tmp_path / "out"
  with monkeypatch.context() as patch:
    kill_at_write(patch, write)
    assert score(table, "--output", out) == 130
  assert score(table, "--output", out) == 0
  assert json.loads((out / "report/scores.json").read_text())["pooled"]


def test_a_list_of_results_of_another_program_is_kept(tmp_path, capsys):
  table, out = subject_table(tmp_path), tmp_path / "out"
  out.mkdir()
  (out / "results.json").write_text('{"files": 3}')
  assert score(table, "--output", out) == 1
  assert "contains other files" in capsys.readouterr().err
  assert (out / "results.json").read_text() == '{"files": 3}'


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["none.csv"], "none.csv"),
    (["bad.csv"], "bad.csv, line 3, column prediction: it is empty"),
    (["good.csv", "--output", "."], "contains other files; choose an empty or new folder"),
    (["good.csv", "--output", "bad.csv"], "is a file, not a folder"),
    (["good.csv", "--groups", "bad.csv"], "the groups list none of the predicted subjects"),
    (["good.csv", "--labels", "a"], "good.csv, line 2, column prediction: 'b' is none"),
  ],
)
def test_errors_are_one_line_and_nothing_is_written(
  tmp_path, monkeypatch, capsys, arguments, message
):
  monkeypatch.chdir(tmp_path)
  write(tmp_path / "good.csv", [("x", "s1", "1", "a", "b")])
  write(tmp_path / "bad.csv", [("x", "s2", "1", "a", "b"), ("x", "s3", "1", "a", "")])
  assert score(*arguments) == 1
  error = capsys.readouterr().err
  assert message in error and " score: " in error and error.count("\n") == 1
  assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "good.csv"]
