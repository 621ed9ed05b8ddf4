"""`run.py` as a subprocess: full runs, resuming after kill -9, invalid commands."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

import jax_me.models.model_folder as saved
from jax_me.training.param_groups import parameter_paths
from tests.helpers.quick_compilation import QUICK_ENVIRONMENT

TINY = [
  "--config.data.options.align=False",
  "--config.data.options.size=16",
  "--config.data.read_size=16",
  "--config.data.split=holdout",
  "--config.batch_size=8",
  "--config.steps=14",
  "--config.checkpoint_steps=3",
  "--config.model.image_size=16",
  "--config.model.arguments.patch_size=8",
  "--config.model.arguments.embed_dim=24",
  "--config.model.arguments.num_heads=2",
  "--config.model.arguments.depth=1",
]


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
  """12 subjects, each with a light and a dark image, listed in labels.csv."""
  folder = tmp_path_factory.mktemp("image_folder")
  rng = np.random.default_rng(0)
  with (folder / "labels.csv").open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["file", "subject", "label"])
    for subject in range(12):
      for label, level in (("dark", 60), ("light", 190)):
        name = f"{subject:02}_{label}.png"
        image = np.clip(rng.normal(level, 20, (20, 20, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / name), image)
        table.writerow([name, f"p{subject}", label])
  return folder


def command(repository, image_folder, workdir, *extra, recipe="finetune_images"):
  return [
    sys.executable,
    str(repository / "run.py"),
    f"--config={repository}/configs/{recipe}.py",
    f"--config.data.manual_dir={image_folder}",
    f"--config.data.data_dir={image_folder.parent / 'built'}",
    f"--workdir={workdir}",
    *TINY,
    *extra,
  ]


def environment(devices):
  return {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(devices),
    **QUICK_ENVIRONMENT,
  }


def run(repository, image_folder, workdir, *extra, devices=1, **options):
  return subprocess.run(
    command(repository, image_folder, workdir, *extra, **options),
    env=environment(devices),
    cwd=repository,
    capture_output=True,
    text=True,
    timeout=300,
  )


def weights(workdir):
  loaded = saved.load_model(workdir, verify=True)  # A run is a model folder when it is finished.
  return parameter_paths(saved.split_model(loaded.model)[1])


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_killed_and_resumed_run_is_bit_identical(repository, image_folder, tmp_path, devices):
  whole = run(repository, image_folder, tmp_path / "whole", devices=devices)
  assert whole.returncode == 0, whole.stderr
  assert f"report: {tmp_path / 'whole'}" in whole.stdout
  assert (tmp_path / "whole/report.html").stat().st_size > 10_000

  killed = subprocess.Popen(
    command(repository, image_folder, tmp_path / "killed"),
    env=environment(devices),
    cwd=repository,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  log = tmp_path / "killed/metrics.jsonl"
  stop_at = random.Random(devices).randrange(4, 12)
  deadline = time.monotonic() + 200
  while killed.poll() is None and time.monotonic() < deadline:
    saves = tmp_path / "killed/checkpoints"
    done = [int(p.name) for p in saves.iterdir() if p.name.isdigit()] if saves.is_dir() else []
    if max(done, default=0) >= stop_at - 3 and log.exists():
      break
    time.sleep(0.005)
  killed.send_signal(signal.SIGKILL)
  assert killed.wait() == -signal.SIGKILL, "the run ended before it could be killed"

  resumed = run(repository, image_folder, tmp_path / "killed", devices=devices)
  assert resumed.returncode == 0, resumed.stderr
  left, right = weights(tmp_path / "whole"), weights(tmp_path / "killed")
  for path, value in left.items():
    assert np.array_equal(value, right[path]), path
  predictions = [(tmp_path / n / "predictions.csv").read_bytes() for n in ("whole", "killed")]
  assert predictions[0] == predictions[1]


@pytest.fixture(scope="module")
def folds(repository, image_folder, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("folds") / "run"
  done = run(
    repository,
    image_folder,
    workdir,
    "--config.data.split=kfold",
    "--config.data.folds=3",
    "--config.steps=4",
  )
  assert done.returncode == 0, done.stderr
  return workdir


@pytest.mark.slow
def test_every_example_is_predicted_once_over_all_folds(folds):
  rows = list(csv.DictReader((folds / "predictions.csv").open()))
  assert len({row["file"] for row in rows}) == len(rows) == 24
  folds_of_subject = {}
  for row in rows:
    folds_of_subject.setdefault(row["subject"], set()).add(row["fold"])
  assert all(len(own) == 1 for own in folds_of_subject.values())


@pytest.mark.slow
def test_each_fold_is_a_model_with_labels(folds):
  loaded = saved.load_model(folds / "fold2")
  assert loaded.labels == ["dark", "light"] and loaded.image_size == 16
  assert loaded.model(np.zeros((1, 16, 16, 3), np.float32)).shape == (1, 2)


@pytest.mark.slow
def test_eval_mode_gives_the_same_predictions_and_scores_as_json(repository, image_folder, folds):
  before = (folds / "predictions.csv").read_bytes()
  done = run(
    repository,
    image_folder,
    folds,
    "--config.data.split=kfold",
    "--config.data.folds=3",
    "--config.steps=4",
    "--mode=eval",
    "--json",
  )
  assert done.returncode == 0, done.stderr
  assert (folds / "predictions.csv").read_bytes() == before
  printed = json.loads(done.stdout)
  assert printed["labels"] == ["dark", "light"] and printed["source"]["examples"] == 24
  scores = json.loads((folds / "report/scores.json").read_text())
  assert {name: printed[name] for name in scores} == scores
  assert "report: " in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
  "extra, message",
  [
    (["--config.optimizer.lerning_rate=1"], "did you mean optimizer.learning_rate"),
    (["--epochs=5"], "a setting is changed with --config.epochs=..."),
    (["--config.batch_size=abc"], "batch_size takes a whole number, for example 64"),
    (["--config.model.name=vit_tny_patch16"], "vit_tiny_patch16"),
    (["--config.data.manual_dir=/nowhere/at/all"], "/nowhere/at/all"),
    (["--config.batch_size=7", "--config.accum_steps=2"], "must divide batch_size=7"),
    (["--config.task=segment"], "task must be one of"),
    (["--mode=eval"], "holds no run to evaluate"),
    (["--json"], "--json needs --mode eval"),
    (["--checkpoint=model"], "--checkpoint needs --mode eval"),
    (["--config.data.name=demo_clips", "--labels=a,b"], "--labels needs --mode eval"),
    (["--labels=dark"], "has one class only (dark)"),
  ],
)
def test_invalid_command_gives_a_one_line_message(
  repository, image_folder, tmp_path, extra, message
):
  failed = run(repository, image_folder, tmp_path / "run", *extra)
  assert failed.returncode == 2
  assert message in failed.stderr
  assert "Traceback" not in failed.stderr
  assert not (tmp_path / "run/checkpoints").exists()


@pytest.mark.slow
def test_workdir_with_other_settings_is_refused(repository, image_folder, folds):
  failed = run(repository, image_folder, folds, "--config.seed=5")
  assert failed.returncode == 2
  assert "was started with other settings" in failed.stderr and "seed was 0, is 5" in failed.stderr
  assert json.loads((folds / "config.json").read_text())["seed"] == 0


@pytest.mark.slow
def test_fine_tuning_from_masked_pretraining(repository, image_folder, tmp_path):
  pretrained = tmp_path / "mae"
  checkpoint_dir = tmp_path / "shared"
  done = run(
    repository,
    image_folder,
    pretrained,
    "--config.data.split=none",
    f"--config.checkpoint_dir={checkpoint_dir}",
    recipe="mae_images",
  )
  assert done.returncode == 0, done.stderr
  assert not (pretrained / "checkpoints").exists() and (checkpoint_dir / "all/14/weights").is_dir()
  assert list((pretrained / "reconstructions").glob("*.png"))
  assert "reconstructed" in (pretrained / "report.md").read_text().lower()
  with np.load(pretrained / "report/reconstructions.npz") as sheets:
    visible = (sheets["masked"] == sheets["original"]).all(axis=(1, 2, 3))
    assert not visible.any() and sheets["original"].shape == (8, 16, 16, 3)

  tuned = tmp_path / "tuned"
  done = run(repository, image_folder, tuned, f"--config.init_from={pretrained}")
  assert done.returncode == 0, done.stderr
  report = json.loads((tuned / "init_from.json").read_text())
  taken = {row["path"] for row in report["taken"]}
  assert "blocks.0.attn.qkv.kernel" in taken and "patch_embed.proj.kernel" in taken
  assert {row["path"].split(".")[0] for row in report["fresh"]} == {"head", "fc_norm"}


@pytest.mark.slow
def test_weights_of_another_size_are_refused(repository, image_folder, folds, tmp_path):
  failed = run(
    repository,
    image_folder,
    tmp_path / "run",
    f"--config.init_from={folds / 'fold1'}",
    "--config.model.arguments.depth=2",
  )
  assert failed.returncode == 1
  assert "cannot be initialised from" in failed.stderr and "Traceback" not in failed.stderr
