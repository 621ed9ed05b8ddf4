"""Fold batch: the files of separate runs, resuming after kill -9, and separation of subjects."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jax_me.data.sampling import ShuffledSampler
from jax_me.evaluation.predictions import Predictions
from jax_me.experiment import fold_batch
from jax_me.experiment.preparation import prepare
from jax_me.experiment.run import run_experiment
from jax_me.models import model_folder
from jax_me.training import recipes, settings
from jax_me.training.fold_chunks import remove_folder, unfinished_chunk
from tests.helpers import tiny_runs
from tests.helpers.drawn_folder import write_folder

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = {**tiny_runs.TINY, "data.split": "loso", "epochs": 3.0, "evaluate_epochs": 2.0}
SUBJECTS = {
  "a": 2,
  "b": 6,
  "c": 3,
  "d": 1,
  "e": 9,
}  # Images of each, so that folds differ in length.


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
  subjects = [subject for subject, count in SUBJECTS.items() for _ in range(count)]
  rows = [{"subject": s, "label": "xyz"[i % 3]} for i, s in enumerate(subjects)]
  return write_folder(tmp_path_factory.mktemp("drawn") / "source", rows, "file,subject,label")


def overrides(image_folder, **extra):
  folders = {
    "data.manual_dir": str(image_folder),
    "data.data_dir": str(image_folder.parent / "built"),
  }
  return {**folders, **TINY, **{key.replace("__", "."): value for key, value in extra.items()}}


def recipe(repository, image_folder, **extra):
  config = recipes.load_recipe(str(repository / "configs/finetune_images.py"))
  flags = [f"--config.{key}={value}" for key, value in overrides(image_folder, **extra).items()]
  settings.override(config, flags)
  return config


def start(repository, image_folder, workdir, **extra):
  """`run.py` on one device."""
  flags = [f"--config.{key}={value}" for key, value in overrides(image_folder, **extra).items()]
  return subprocess.Popen(
    [
      sys.executable,
      str(repository / "run.py"),
      f"--config={repository}/configs/finetune_images.py",
      f"--workdir={workdir}",
      *flags,
    ],
    env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"},
    cwd=repository,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


@pytest.fixture(scope="module")
def separate(repository, image_folder, tmp_path_factory):
  """Workdir of a run that trains one fold after the other."""
  workdir = tmp_path_factory.mktemp("separate") / "run"
  run = start(repository, image_folder, workdir, folds__parallel="off")
  output, _ = run.communicate(timeout=300)
  assert run.returncode == 0, output
  return workdir


def rows_of(path):
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_run_killed_in_the_second_chunk_ends_with_the_files_of_separate_runs(
  repository, image_folder, separate, tmp_path
):
  workdir = tmp_path / "run"
  killed = start(repository, image_folder, workdir, folds__chunk=2)
  deadline = time.monotonic() + 300
  chunk = workdir / fold_batch.CHUNK_FOLDER
  while killed.poll() is None and time.monotonic() < deadline:
    finished = {path.parent.name for path in workdir.glob("*/predictions.csv")}
    saves = [p for p in (chunk / model_folder.CHECKPOINTS_FOLDER).glob("*") if p.name.isdigit()]
    if len(finished) == 2 and saves and finished.isdisjoint(unfinished_chunk(chunk)[0]):
      break
    time.sleep(0.002)
  killed.send_signal(signal.SIGKILL)
  assert killed.wait() == -signal.SIGKILL, killed.stdout.read()
  done = {path: path.stat().st_mtime_ns for path in workdir.glob("*/predictions.csv")}

  resumed = start(repository, image_folder, workdir, folds__chunk=2)
  output, _ = resumed.communicate(timeout=300)
  assert resumed.returncode == 0, output
  assert "resumed at step" in output
  assert all(path.stat().st_mtime_ns == before for path, before in done.items())
  assert not (workdir / fold_batch.CHUNK_FOLDER).exists()
  for subject in SUBJECTS:
    name = f"{subject}/predictions.csv"
    assert (workdir / name).read_bytes() == (separate / name).read_bytes()
    ours, theirs = (
      [{**row, "images_per_second": 0} for row in rows_of(run / subject / "metrics.jsonl")]
      for run in (workdir, separate)
    )
    assert ours == theirs
  assert (workdir / "predictions.csv").read_bytes() == (separate / "predictions.csv").read_bytes()
  assert model_folder.load_model(workdir / "d").labels == ["x", "y", "z"]


@pytest.mark.slow
def test_folds_train_without_their_test_subject_and_in_their_own_order(
  repository, image_folder, separate, tmp_path, monkeypatch
):
  """In parallel on four devices; the test records the batches sent to the program."""
  sent = []

  def compile_recording(*args, compile_folds=fold_batch.compile_folds, **options):
    program = compile_folds(*args, **options)

    def advance(state, images, columns, indices, counts):
      sent.append((np.asarray(indices), np.asarray(counts)))
      return program.advance_folds(state, images, columns, indices, counts)

    return dataclasses.replace(program, advance_folds=advance)

  monkeypatch.setattr(fold_batch, "compile_folds", compile_recording)
  config = recipe(repository, image_folder, folds__parallel="vmap")
  experiment = prepare(config)
  assert run_experiment(config, workdir=str(tmp_path)) == 0
  folds = sorted(experiment.folds, key=lambda fold: -experiment.cadence(fold).total)
  totals = [experiment.cadence(fold).total for fold in folds]
  assert len(set(totals)) > 1 and sent[0][0].shape[0] == 8  # Five folds fill four devices.
  for row, fold in enumerate(folds):
    seen = np.concatenate([indices[row, : counts[row]].ravel() for indices, counts in sent])
    assert not np.isin(seen, fold.test).any()
    assert np.array_equal(seen, ShuffledSampler(fold.train, seed=0).at(0, 4 * totals[row]))
  ours, theirs = (Predictions.load(path / "predictions.csv") for path in (tmp_path, separate))
  assert ours.file == theirs.file and (ours.prediction == theirs.prediction).all()
  np.testing.assert_allclose(ours.scores, theirs.scores, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_selected_weights_are_tested_and_evaluated_again(repository, image_folder, tmp_path):
  options = {"select": "train", "data__split": "kfold", "data__folds": 2}
  for parallel in ("off", "map"):
    config = recipe(repository, image_folder, folds__parallel=parallel, **options)
    assert run_experiment(config, workdir=str(tmp_path / parallel)) == 0
  off, batch = (Predictions.load(tmp_path / p / "predictions.csv") for p in ("off", "map"))
  np.testing.assert_allclose(off.scores, batch.scores, rtol=0, atol=1e-5)
  steps = [[p.name for p in (tmp_path / w / "fold1/selected").iterdir()] for w in ("off", "map")]
  assert steps[0] == steps[1]
  assert run_experiment(config, workdir=str(tmp_path / "map"), mode="eval") == 0
  again = Predictions.load(tmp_path / "map/predictions.csv")
  np.testing.assert_allclose(again.scores, batch.scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
  "changes, mode",
  [
    ({}, "map"),
    ({"folds__parallel": "vmap"}, "vmap"),
    ({"folds__parallel": "off"}, "off"),
    ({"mesh__fsdp": 2}, "off"),
    ({"mesh__split_update": 2}, "off"),
    ({"data__resident_mib": 0}, "off"),
    ({"data__split": "holdout"}, "off"),
  ],
)
def test_mode_of_the_fold_batch(repository, image_folder, changes, mode):
  experiment = prepare(recipe(repository, image_folder, **changes))
  assert fold_batch.choose_mode(experiment, len(experiment.folds)) == mode


def test_impossible_mode_gives_a_message(repository, image_folder, tmp_path, capsys):
  config = recipe(repository, image_folder, folds__parallel="vmap", mesh__fsdp=2)
  assert run_experiment(config, workdir=str(tmp_path)) == 1
  assert "folds.parallel=vmap is impossible" in capsys.readouterr().err


def test_finished_folds_and_folds_with_checkpoints_are_not_pending(
  repository, image_folder, tmp_path
):
  experiment = prepare(recipe(repository, image_folder))
  (tmp_path / "b" / model_folder.CHECKPOINTS_FOLDER).mkdir(parents=True)
  (tmp_path / "d").mkdir()
  (tmp_path / "d" / "predictions.csv").write_text("")
  (tmp_path / "e").mkdir()
  pending = fold_batch.pending_folds(experiment, tmp_path)
  assert [fold.name for fold in pending] == ["a", "c", "e"]


@pytest.mark.parametrize("split, names", [("step", ["fold1", "fold2"]), ("lodo", None)])
def test_splits_by_setting(repository, image_folder, split, names):
  config = recipe(repository, image_folder, data__split=split, data__folds=2)
  if names is None:
    with pytest.raises(ValueError, match="leave-one-database-out needs two databases"):
      prepare(config)
  else:
    assert [fold.name for fold in prepare(config).folds] == names


def test_chunk_folder_is_removed_in_one_step(tmp_path, monkeypatch):
  """A kill during the removal leaves no incomplete folder of a chunk."""
  chunk = tmp_path / fold_batch.CHUNK_FOLDER
  (chunk / "checkpoints/4").mkdir(parents=True)
  (chunk / "chunk.json").write_text("{}")

  def killed(path, ignore_errors=False):
    if not ignore_errors:
      raise KeyboardInterrupt

  monkeypatch.setattr("jax_me.training.fold_chunks.shutil.rmtree", killed)
  with pytest.raises(KeyboardInterrupt):
    remove_folder(chunk)
  assert not chunk.exists()
  monkeypatch.undo()
  remove_folder(chunk)
  assert not list(tmp_path.iterdir())
