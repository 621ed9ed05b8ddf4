"""The models that a run leaves: trained on everybody, of all folds, or of one."""

import json

import numpy as np
import pytest

import jax_me
from jax_me.data.sampling import ShuffledSampler
from jax_me.evaluation.predictions import Predictions
from jax_me.experiment import fold_training
from jax_me.experiment.run import run_experiment
from jax_me.training.loop import TrainingResult
from tests.helpers.drawn_folder import write_folder
from tests.helpers.tiny_runs import tiny_recipe, tiny_run

pytestmark = [pytest.mark.usefixtures("quick_compilation"), pytest.mark.slow]
SUBJECTS = 6


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  """Two images of each subject, one per class."""
  rows = [{"subject": f"p{i}", "label": label} for i in range(SUBJECTS) for label in "xy"]
  return write_folder(tmp_path_factory.mktemp("drawn") / "source", rows, "file,subject,label")


@pytest.fixture(scope="module")
def folds(repository, images, tmp_path_factory):
  """Workdir of a cross-validation of three folds."""
  workdir = tmp_path_factory.mktemp("run") / "folds"
  assert tiny_run(repository, images, workdir, data__folds=3) == 0
  return workdir


def probabilities(model, images):
  return np.array([list(face[0].scores.values()) for face in model.predict(images)])


def test_a_run_without_a_test_side_ends_with_a_model(repository, images, tmp_path, capsys):
  assert tiny_run(repository, images, tmp_path / "run", data__split="none", epochs=1.5) == 0
  printed = capsys.readouterr().out
  assert f"jax-me predict PHOTO --checkpoint {tmp_path / 'run'} " in printed
  assert "UF1" not in printed
  assert "There are no scores" in (tmp_path / "run/report.html").read_text()
  assert not (tmp_path / "run/predictions.csv").exists()
  # 12 images, batches of 4: the last step is no multiple of checkpoint_steps.
  assert (tmp_path / "run/checkpoints/4/weights").is_dir()
  assert jax_me.load(tmp_path / "run", verify=True).labels == ["x", "y"]


def test_the_last_lines_have_the_scores_and_the_next_command(repository, images, folds, capsys):
  assert tiny_run(repository, images, folds, data__folds=3) == 0
  lines = capsys.readouterr().out.splitlines()
  (scores,) = [line for line in lines if line.startswith("UF1 ")]
  pooled = json.loads((folds / "report/scores.json").read_text())["pooled"]
  for name, title in (("uf1", "UF1"), ("uar", "UAR"), ("accuracy", "Accuracy")):
    low, high = pooled["intervals"][name]
    assert f"{title} {pooled[name]:.3f} ({low:.2f}–{high:.2f})" in scores
  assert "12 examples pooled over 3 folds, 95% intervals over 6 subjects" in scores
  assert "mean of the probabilities of the 3 folds" in lines[-3]
  assert lines[-1].startswith(f"next: jax-me predict PHOTO --checkpoint {folds} ")


def test_the_final_model_is_trained_on_everybody_after_the_folds(
  repository, images, folds, tmp_path, monkeypatch, capsys
):
  mean = jax_me.load(folds)
  before = {path: path.stat().st_mtime_ns for path in folds.glob("fold*/predictions.csv")}
  assert len(before) == 3

  def stopped(program, runs, *args, **options):
    assert [run.name for run in runs] == ["final"]
    return TrainingResult({}, 1, True, frozenset())

  with monkeypatch.context() as patch:
    patch.setattr(fold_training, "train", stopped)
    assert tiny_run(repository, images, folds, data__folds=3, final="all") == 130
  assert repr(jax_me.load(folds)) == repr(mean)
  seen = []

  def record(sampler, start, count, at=ShuffledSampler.at):
    seen.append(at(sampler, start, count))
    return seen[-1]

  monkeypatch.setattr(ShuffledSampler, "at", record)
  assert tiny_run(repository, images, folds, data__folds=3, final="all") == 0
  assert set(np.concatenate(seen)) == set(range(12))
  assert {path: path.stat().st_mtime_ns for path in before} == before
  assert "final model" in repr(jax_me.load(folds))
  assert repr(jax_me.load(folds / "ensemble")) == repr(mean)
  # The settings are those of the folds, and it is the model of a run without folds.
  assert tiny_run(repository, images, tmp_path / "alone", data__folds=3, data__split="none") == 0
  photographs = [images / f"{number}.png" for number in range(3)]
  expected = probabilities(jax_me.load(tmp_path / "alone"), photographs)
  assert np.array_equal(probabilities(jax_me.load(folds), photographs), expected)
  capsys.readouterr()
  assert tiny_run(repository, images, folds, data__folds=3, final="all") == 0
  assert "final model: finished earlier" in capsys.readouterr().out


def test_the_final_model_of_a_selection_holds_subjects_out(repository, images, tmp_path, capsys):
  changes = {"select": "train", "evaluate_epochs": 1.0, "data__fold": 0, "final": "all"}
  assert tiny_run(repository, images, tmp_path / "run", data__folds=3, **changes) == 0
  assert "final model: 10 examples, 2 held out to select the weights" in capsys.readouterr().out
  assert "final model" in repr(jax_me.load(tmp_path / "run"))


def test_the_mean_of_the_folds_is_evaluated(repository, images, folds, tmp_path):
  config = tiny_recipe(repository, images, data__folds=3)
  config.init_from = str(folds / "ensemble")
  assert run_experiment(config, workdir=str(tmp_path / "eval"), mode="eval") == 0
  found = Predictions.load(tmp_path / "eval/predictions.csv")
  expected = probabilities(jax_me.load(folds / "ensemble"), [images / name for name in found.file])
  np.testing.assert_allclose(found.scores, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"final": "everybody"}, "final must be one of"),
    ({"final": "all", "data__split": "none"}, "final=all trains a classifier on everybody after"),
  ],
)
def test_impossible_settings(repository, images, tmp_path, capsys, changes, message):
  assert tiny_run(repository, images, tmp_path / "run", **changes) == 2
  assert message in capsys.readouterr().err


def test_several_folds_cannot_be_initial_weights(repository, images, folds, tmp_path, capsys):
  changes = {"init_from": folds / "ensemble", "data__folds": 3}
  assert tiny_run(repository, images, tmp_path / "run", **changes) == 1
  assert "is the mean of 3 folds, and one model is needed" in capsys.readouterr().err
