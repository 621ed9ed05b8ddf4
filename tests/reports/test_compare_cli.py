import csv
import json

import numpy as np
import pytest

from jax_me.__main__ import main
from jax_me.evaluation.predictions import Predictions
from tests.helpers.killed_write import kill_at_write

LABELS = ("happy", "sad")


def make_run(folder, seed, count=40, settings=None):
  generator = np.random.default_rng(seed)
  folder.mkdir(parents=True)
  Predictions(
    LABELS,
    np.arange(count) % 2,
    generator.integers(0, 2, count),
    subject=[f"s{i // 4}" for i in range(count)],
    file=[f"{i}.png" for i in range(count)],
  ).save(folder / "predictions.csv")
  if settings is not None:
    (folder / "config.json").write_text(json.dumps(settings))
  return folder


@pytest.fixture
def runs(tmp_path):
  settings = [{"seed": 0, "model": {"name": "vit"}}, {"seed": 0, "model": {"name": "t2t"}}]
  return [make_run(tmp_path / f"run{i}", i, settings=settings[i]) for i in range(2)]


def compare(*arguments):
  return main(["compare", *map(str, arguments)])


def test_text_and_files(runs, tmp_path, capsys):
  out = tmp_path / "out"
  assert compare(*runs, "--output", out) == 0
  printed = capsys.readouterr().out
  assert "run1 − run0" in printed and "McNemar's test" in printed and "10 subjects" in printed
  assert f"report: {out / 'comparison.html'}" in printed
  assert {path.name for path in (out / "comparison").iterdir()} == {
    "comparison.json",
    "comparison.png",
    "pairs.csv",
    "runs.csv",
  }
  rows = list(csv.DictReader((out / "comparison" / "pairs.csv").open()))
  result = json.loads((out / "comparison" / "comparison.json").read_text())
  assert float(rows[0]["difference_uf1"]) == result["pairs"][0]["difference"]["uf1"]
  page = (out / "comparison.html").read_text()
  assert "model.name" in page and "t2t" in page and ">seed<" not in page
  assert page.count("data:image/png") == 3
  assert "(comparison/comparison.png)" in (out / "comparison.md").read_text()
  assert compare(*runs, "--output", out) == 0  # Writes the same folder again.


@pytest.mark.parametrize("write", range(3))
def test_a_killed_command_is_repeated(runs, tmp_path, monkeypatch, write):
  with monkeypatch.context() as patch:
    kill_at_write(patch, write)
    assert compare(*runs, "--output", tmp_path / "out") == 130
  assert compare(*runs, "--output", tmp_path / "out") == 0


def test_json_of_tables_and_runs(runs, capsys):
  assert compare(runs[0], runs[1] / "predictions.csv", "--json", "--resamples", "50") == 0
  result = json.loads(capsys.readouterr().out)
  assert list(result["runs"]) == ["run0", "predictions.csv"]
  assert result["bootstrap"]["repeats"] == 50


def test_refused_runs_give_one_line(runs, tmp_path, capsys):
  unfinished = tmp_path / "unfinished"
  (unfinished / "fold1").mkdir(parents=True)
  (unfinished / "config.json").write_text("{}")
  full = tmp_path / "full"
  full.mkdir()
  (full / "notes.txt").write_text("mine")
  other = make_run(tmp_path / "other", 3, count=44)
  for arguments, text in (
    ([runs[0]], "at least two"),
    ([runs[0], runs[0]], "is given twice"),
    ([runs[0], unfinished], "not finished"),
    ([runs[0], full], "holds no run"),
    ([runs[0], tmp_path / "none.csv"], "none.csv"),
    ([runs[0], other], "--common compares the 40"),
    ([*runs, "--output", full], "contains other files"),
  ):
    assert compare(*arguments) == 1
    printed = capsys.readouterr()
    assert text in printed.err and printed.err.count("\n") == 1 and not printed.out
  assert compare(runs[0], other, "--common") == 0
  assert "Only the 40 examples" in capsys.readouterr().out
