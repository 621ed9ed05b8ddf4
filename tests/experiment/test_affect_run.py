"""A run with valence and arousal on synthetic faces whose values are known."""

import csv
import json
import pathlib

import numpy as np
import pytest

import jax_me
from jax_me.data.index import read_index
from jax_me.datasets.catalog import prepare
from jax_me.evaluation.affect import concordance
from jax_me.evaluation.predictions import Predictions
from jax_me.experiment.run import run_experiment
from jax_me.training import recipes, settings
from tests.helpers.drawn_folder import write_folder
from tests.helpers.tiny_runs import tiny_run

pytestmark = pytest.mark.usefixtures("quick_compilation")

SETTINGS = {
  "affect_weight": 1.0,
  "epochs": 80.0,
  "batch_size": 32,
  "trackers": (),
  "model.image_size": 32,
  "model.arguments.patch_size": 8,
  "model.arguments.embed_dim": 48,
  "model.arguments.num_heads": 3,
  "model.arguments.depth": 2,
  "data.options.size": 64,
  "data.options.subjects": 16,
  "data.options.clips": 6,
  "evaluate_epochs": 0.0,
}


@pytest.mark.slow
def test_a_run_learns_values_of_held_out_subjects(repository, tmp_path):
  config = recipes.load_recipe(str(repository / "configs/quickstart.py"))
  values = {**SETTINGS, "data.data_dir": tmp_path / "built"}
  settings.override(config, [f"--config.{key}={value}" for key, value in values.items()])
  run = tmp_path / "run"
  assert run_experiment(config, workdir=str(run)) == 0

  builder = prepare(
    "demo_clips", data_dir=str(tmp_path / "built"), input="flow", size=64, subjects=16, clips=6
  )
  index = read_index(builder)
  known = dict(zip(index.file, index.affect, strict=True))
  with (run / "predictions.csv").open() as file:
    rows = list(csv.DictReader(file))
  scores = json.loads((run / "report/scores.json").read_text())["affect"]
  for column, name in enumerate(("valence", "arousal")):
    truth = [float(row[f"truth_{name}"]) for row in rows]
    np.testing.assert_allclose(truth, [known[row["file"]][column] for row in rows], atol=1e-6)
    ccc = concordance(truth, [float(row[name]) for row in rows])
    assert scores[name]["ccc"] == pytest.approx(ccc, abs=1e-6)
    assert ccc > 0.3
  assert "Valence and arousal" in (run / "report.html").read_text()
  saved = jax_me.load(run, verify=True).saved
  assert saved.affect and saved.arguments["num_classes"] == 5 and len(saved.labels) == 3


def with_values(folder: pathlib.Path) -> pathlib.Path:
  rows = [
    {"subject": f"p{i}", "label": label, "valence": "0.5" if label == "x" else "-0.5",
     "arousal": str(i / 10)}
    for i in range(6) for label in "xy"
  ]  # fmt: skip
  return write_folder(folder, rows, "file,subject,label,valence,arousal")


@pytest.mark.slow
def test_folds_in_one_program_and_evaluation(repository, tmp_path, capsys):
  source = with_values(tmp_path / "source")
  changes = {"affect_weight": 1.0, "data__folds": 3, "folds__parallel": "map", "epochs": 1.0}
  assert tiny_run(repository, source, tmp_path / "run", **changes) == 0
  assert "CCC of valence" in capsys.readouterr().out
  alone = {**changes, "folds__parallel": "off"}
  assert tiny_run(repository, source, tmp_path / "alone", **alone) == 0
  first, second = (
    Predictions.load(tmp_path / name / "predictions.csv").affect for name in ("run", "alone")
  )
  # With one fold per device the last bit may differ (`jax_me.training.fold_program`).
  np.testing.assert_allclose(first.prediction, second.prediction, rtol=0, atol=1e-6)
  np.testing.assert_array_equal(first.truth, second.truth)
  (face,) = jax_me.load(tmp_path / "run").predict(np.zeros((16, 16, 3), np.uint8))
  assert -1 < face.valence < 1


def test_a_dataset_without_values_is_refused(repository, tmp_path, capsys):
  rows = [{"subject": f"p{i}", "label": label} for i in range(3) for label in "xy"]
  source = write_folder(tmp_path / "source", rows, "file,subject,label")
  assert tiny_run(repository, source, tmp_path / "run", affect_weight=1.0, data__folds=3) == 2
  assert "has no valence and arousal" in capsys.readouterr().err
