"""Runs that are started again with other settings: longer ones, and harmless changes."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import jax_me
from jax_me.evaluation.predictions import PREDICTIONS_FILE
from jax_me.experiment import fold_training, resumption
from jax_me.models.model_folder import checkpoint_steps
from jax_me.training import settings
from tests.helpers.drawn_folder import write_folder
from tests.helpers.tiny_runs import TINY, tiny_recipe, tiny_run

pytestmark = [pytest.mark.usefixtures("quick_compilation"), pytest.mark.slow]
CONSTANT = {"optimizer__schedule": "constant", "optimizer__warmup_epochs": 0.5}
HOLDOUT = {"data__split": "holdout", **CONSTANT}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  rows = [{"subject": f"p{i}", "label": label} for i in range(8) for label in "xy"]
  return write_folder(tmp_path_factory.mktemp("drawn") / "source", rows, "file,subject,label")


@pytest.fixture(scope="module")
def undisturbed(repository, images, tmp_path_factory):
  """Run of 4 epochs, 12 steps."""
  workdir = tmp_path_factory.mktemp("undisturbed") / "run"
  assert tiny_run(repository, images, workdir, epochs=4.0, **HOLDOUT) == 0
  return workdir


class StopAfter:
  """Takes the place of `StopSignal`: a signal that arrives after a number of checks."""

  def __init__(self, checks):
    self._checks = checks

  def __call__(self):
    return self

  def __enter__(self):
    return self

  def __exit__(self, *error):
    pass

  @property
  def received(self):
    self._checks -= 1
    return None if self._checks >= 0 else 15


def predictions(workdir):
  return (workdir / PREDICTIONS_FILE).read_bytes()


def assert_same_weights(left, right):
  ours, theirs = (jax_me.load(workdir).saved.split()[1] for workdir in (left, right))
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_finished_run_is_extended(repository, images, undisturbed, tmp_path, capsys):
  run = tmp_path / "run"
  assert tiny_run(repository, images, run, **HOLDOUT) == 0
  assert predictions(run) != predictions(undisturbed)
  capsys.readouterr()
  assert tiny_run(repository, images, run, epochs=4.0, **HOLDOUT) == 0
  printed = capsys.readouterr().out
  assert "extended from 2 to 4 epochs (holdout: 6 to 12 steps)" in printed
  assert "does not depend on the length; the result is that of a run of 4 epochs" in printed
  assert predictions(run) == predictions(undisturbed)
  assert_same_weights(run, undisturbed)
  assert json.loads((run / "config.json").read_text())["epochs"] == 4.0


def test_an_extension_that_is_killed_goes_on(
  repository, images, undisturbed, tmp_path, monkeypatch
):
  run = tmp_path / "run"
  assert tiny_run(repository, images, run, **HOLDOUT) == 0

  def killed(folder, reopen=resumption._reopen):
    reopen(folder)
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(resumption, "_reopen", killed)
    with pytest.raises(KeyboardInterrupt):
      tiny_run(repository, images, run, epochs=4.0, **HOLDOUT)
  # Until the end it is an interrupted run, whose newest checkpoint is its model.
  assert jax_me.load(run).labels == ["x", "y"]
  with monkeypatch.context() as patch:
    patch.setattr(fold_training, "StopSignal", StopAfter(3))
    assert tiny_run(repository, images, run, epochs=4.0, **HOLDOUT) == 130
  assert tiny_run(repository, images, run, epochs=4.0, **HOLDOUT) == 0
  assert predictions(run) == predictions(undisturbed)


def test_harmless_settings_change_while_a_run_is_stopped(
  repository, images, undisturbed, tmp_path, monkeypatch, capsys
):
  run = tmp_path / "run"
  with monkeypatch.context() as patch:
    patch.setattr(fold_training, "StopSignal", StopAfter(12))
    assert tiny_run(repository, images, run, epochs=4.0, **HOLDOUT) == 130
  (step,) = checkpoint_steps(run)[-1:]
  assert 0 < step < 12
  changes = {
    "evaluate_epochs": 1.0,
    "checkpoint_steps": 3,
    "log_steps": 5,
    "keep_checkpoints": 1,
    "trackers": ("tensorboard",),
    "data__workers": 1,
    "data__resident": "on",
  }
  capsys.readouterr()
  assert tiny_run(repository, images, run, epochs=4.0, **HOLDOUT, **changes) == 0
  printed = capsys.readouterr().out
  assert "settings changed since the run was started:" in printed
  assert "log_steps 1 -> 5" in printed and "checkpoint_steps 4 -> 3" in printed
  assert predictions(run) == predictions(undisturbed)
  assert_same_weights(run, undisturbed)
  assert checkpoint_steps(run) == [12] and (run / "tensorboard").is_dir()
  changed_from_the_start = tmp_path / "changed_from_the_start"
  assert tiny_run(repository, images, changed_from_the_start, epochs=4.0, **HOLDOUT, **changes) == 0
  assert predictions(run) == predictions(changed_from_the_start)
  assert_same_weights(run, changed_from_the_start)


def test_the_log_says_what_a_cosine_does(repository, images, tmp_path, capsys):
  cosine = {"data__split": "holdout", "optimizer__warmup_epochs": 1.0}
  assert tiny_run(repository, images, tmp_path / "run", **cosine) == 0
  capsys.readouterr()
  assert tiny_run(repository, images, tmp_path / "run", epochs=4.0, **cosine) == 0
  printed = capsys.readouterr().out
  assert "the cosine ends at step 12 instead of 6; at step 6 it goes from 0 to 0.00075" in printed
  assert "not that of a run of 4 epochs from the start" in printed


def test_folds_and_the_final_model_are_extended(repository, images, tmp_path, capsys):
  folds = {"data__folds": 2, "folds__parallel": "off", "final": "all", **CONSTANT}
  run, whole = tmp_path / "run", tmp_path / "whole"
  assert tiny_run(repository, images, run, **folds) == 0
  capsys.readouterr()
  assert tiny_run(repository, images, run, epochs=4.0, **folds) == 0
  assert "fold1: 4 to 8 steps" in capsys.readouterr().out
  assert tiny_run(repository, images, whole, epochs=4.0, **folds) == 0
  assert predictions(run) == predictions(whole)
  for part in ("fold1", "fold2", "final"):
    assert_same_weights(run / part, whole / part)
  assert "final model" in repr(jax_me.load(run))
  assert [checkpoint_steps(run / fold) for fold in ("fold1", "fold2")] == [[8], [8]]


def test_folds_that_keep_no_checkpoint_are_not_extended(repository, images, tmp_path, capsys):
  folds = {"data__folds": 2, "folds__parallel": "off", "folds__checkpoints": "off"}
  changes = {"select": "train", "evaluate_epochs": 1.0, "select_holdout": 0.3}
  run = tmp_path / "run"
  assert tiny_run(repository, images, run, **folds, **changes) == 0
  for fold in ("fold1", "fold2"):
    left = {path.name for path in (run / fold).iterdir()}
    assert {"weights", "predictions.csv"} <= left
    assert not left & {"checkpoints", ".checkpoints.removed", "selected"}
  before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
  assert tiny_run(repository, images, run, epochs=4.0, **folds, **changes) == 2
  assert "keeps no checkpoint from which it could go on" in capsys.readouterr().err
  assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
  ("first", "then", "message"),
  [
    ({}, {"epochs": 1.0}, "epochs was 2.0, is 1.0"),
    ({}, {"steps": 50}, "steps was 0, is 50"),
    ({"steps": 8}, {"steps": 4}, "steps was 8, is 4"),
    ({}, {"seed": 1, "log_steps": 3}, "(seed was 0, is 1)"),
    ({}, {"optimizer__learning_rate": 0.1, "epochs": 4.0}, "optimizer.learning_rate was"),
    ({"select": "train"}, {"select": "train", "evaluate_epochs": 1.0}, "evaluate_epochs was"),
    ({"steps": 8}, {"steps": 12, "epochs": 9.0}, ""),
    ({"steps": 8}, {"steps": 8, "epochs": 1.0}, ""),
    ({}, {"accum_steps": 2, "remat": True, "final": "all"}, ""),
  ],
)
def test_changes_that_are_allowed_and_refused(repository, images, tmp_path, first, then, message):
  config = tiny_recipe(repository, images, **first)
  (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
  config = tiny_recipe(repository, images, **then)
  settings.check(config)
  changes = resumption.changes_of(tmp_path, config)
  if not message:
    resumption.check_changes(tmp_path, config, changes)
    return
  with pytest.raises(ValueError, match="was started with other settings") as refused:
    resumption.check_changes(tmp_path, config, changes)
  assert message in str(refused.value)


def test_a_run_of_an_earlier_version_has_the_defaults(repository, images, tmp_path):
  config = tiny_recipe(repository, images)
  stored = config.to_dict()
  del stored["final"], stored["scan_layers"]
  (tmp_path / "config.json").write_text(json.dumps(stored))
  assert resumption.changes_of(tmp_path, config) == {}


def test_folds_of_one_program_are_extended_alone(repository, images, tmp_path):
  """On one device, where a fold of a program has the bits of a fold alone."""

  def run(workdir, epochs):
    values = {**TINY, "data.folds": 3, "optimizer.schedule": "constant", "epochs": epochs}
    values |= {"data.manual_dir": images, "data.data_dir": images.parent / "built"}
    values |= {"optimizer.warmup_epochs": 0.5}
    done = subprocess.run(
      [
        sys.executable,
        str(repository / "run.py"),
        f"--config={repository}/configs/finetune_images.py",
        f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in values.items()),
      ],
      env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"},
      cwd=repository,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

  assert "3 folds in 1 program run(s)" in run(tmp_path / "run", 2.0)
  assert "extended from 2 to 4 epochs" in run(tmp_path / "run", 4.0)
  assert "3 folds in 1 program run(s)" in run(tmp_path / "whole", 4.0)
  assert predictions(tmp_path / "run") == predictions(tmp_path / "whole")
  assert not (tmp_path / "run/folds_in_progress").exists()
