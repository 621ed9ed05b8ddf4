"""Two processes with two CPU devices each equal one process with four, also after a kill."""

import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

import jax_me.models.model_folder as saved
from jax_me.training.param_groups import parameter_paths
from jax_me.training.processes import DistributedError, connect
from tests.helpers.quick_compilation import QUICK_ENVIRONMENT

SETTINGS = [
  "--config.data.options.align=False",
  "--config.data.read_size=16",
  "--config.data.split=holdout",
  "--config.batch_size=8",
  "--config.steps=12",
  "--config.log_steps=1",
  "--config.checkpoint_steps=3",
  "--config.model.image_size=16",
  "--config.model.arguments.patch_size=8",
  "--config.model.arguments.embed_dim=32",
  "--config.model.arguments.num_heads=2",
  "--config.model.arguments.depth=2",
  "--config.accum_steps=2",
  "--config.ema_decay=0.9",
]


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
  """10 subjects, each with a dark and a light image."""
  folder = tmp_path_factory.mktemp("image_folder")
  rng = np.random.default_rng(0)
  for label, level in (("dark", 60), ("light", 190)):
    for subject in range(10):
      clip = folder / f"p{subject}" / label / "clip"
      clip.mkdir(parents=True)
      image = np.clip(rng.normal(level, 20, (20, 20, 3)), 0, 255).astype(np.uint8)
      cv2.imwrite(str(clip / "1.png"), image)
  return folder


def start(repository, image_folder, workdir, *extra, devices):
  command = [
    sys.executable,
    str(repository / "run.py"),
    f"--config={repository}/configs/finetune_images.py",
    f"--config.data.manual_dir={image_folder}",
    f"--config.data.data_dir={image_folder.parent / 'built'}",
    f"--workdir={workdir}",
    *SETTINGS,
    *extra,
  ]
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(devices),
    **QUICK_ENVIRONMENT,
  }
  return subprocess.Popen(
    command,
    env=environment,
    cwd=repository,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
  )


def start_pair(repository, image_folder, workdir, *extra):
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    address = f"localhost:{probe.getsockname()[1]}"
  shared = [f"--distributed={address}", "--processes=2", *extra]
  return [
    start(repository, image_folder, workdir, *shared, f"--process={number}", devices=2)
    for number in range(2)
  ]


def finish(*processes):
  try:
    for process in processes:
      output, _ = process.communicate(timeout=300)
      assert process.returncode == 0, output
  finally:
    for process in processes:
      process.kill()


def losses(workdir: pathlib.Path) -> dict[int, float]:
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}


def weights(workdir: pathlib.Path):
  return parameter_paths(saved.split_model(saved.load_model(workdir).model)[1])


@pytest.fixture(scope="module")
def pair(repository, image_folder, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("pair") / "run"
  finish(*start_pair(repository, image_folder, workdir, "--config.mesh.fsdp=2"))
  return workdir


@pytest.mark.slow
def test_same_losses_as_one_process_with_four_devices(repository, image_folder, pair, tmp_path):
  finish(start(repository, image_folder, tmp_path, "--config.mesh.fsdp=2", devices=4))
  single_losses, pair_losses = losses(tmp_path), losses(pair)
  assert list(pair_losses) == list(range(1, 13))
  np.testing.assert_allclose(
    list(pair_losses.values()), list(single_losses.values()), rtol=1e-5, atol=1e-6
  )
  rows = [list(csv.DictReader((folder / "predictions.csv").open())) for folder in (tmp_path, pair)]
  for one, other in zip(*rows, strict=True):
    # The scores may differ in their last digits.
    for column in ("file", "subject", "fold", "truth", "prediction"):
      assert one[column] == other[column]
  assert json.loads((pair / "run.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_restart_after_a_killed_process_is_bit_identical(repository, image_folder, pair, tmp_path):
  workdir = tmp_path / "run"
  processes = start_pair(repository, image_folder, workdir, "--config.mesh.fsdp=2")
  deadline = time.monotonic() + 200
  while time.monotonic() < deadline and processes[1].poll() is None:
    saves = workdir / "checkpoints"
    if saves.is_dir() and any(p.name.isdigit() for p in saves.iterdir()):
      break
    time.sleep(0.01)
  processes[1].send_signal(signal.SIGKILL)
  assert processes[1].wait() == -signal.SIGKILL
  # The other process waits in a collective; on a cluster, the scheduler terminates it.
  processes[0].kill()
  processes[0].wait()
  for process in processes:
    process.stdout.close()
  assert not (workdir / "report.html").exists()

  finish(*start_pair(repository, image_folder, workdir, "--config.mesh.fsdp=2"))
  left, right = weights(pair), weights(workdir)
  for path, value in left.items():
    assert np.array_equal(value, right[path]), path
  predictions = [(folder / "predictions.csv").read_bytes() for folder in (pair, workdir)]
  assert predictions[0] == predictions[1]


@pytest.mark.slow
def test_signal_to_one_process_stops_and_saves_all(repository, image_folder, tmp_path):
  processes = start_pair(
    repository, image_folder, tmp_path, "--config.steps=100000", "--config.checkpoint_steps=100000"
  )
  deadline = time.monotonic() + 200
  log = tmp_path / "metrics.jsonl"
  while time.monotonic() < deadline and not (log.exists() and log.stat().st_size):
    time.sleep(0.05)
  processes[1].send_signal(signal.SIGTERM)
  outputs = [process.communicate(timeout=120)[0] for process in processes]
  assert [process.returncode for process in processes] == [130, 130], outputs
  steps = [int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
  assert len(steps) == 1 and f"stopped at step {steps[0]}" in outputs[0]


@pytest.mark.parametrize(
  "settings, message",
  [
    (("localhost", 2, 0), "is no address"),
    (("localhost:1234", None, 0), "needs --processes"),
    (("localhost:1234", 2, 2), "from 0 to N - 1"),
    (("", 2, None), "need --distributed"),
  ],
)
def test_incomplete_addresses_raise(settings, message):
  with pytest.raises(DistributedError, match=message):
    connect(*settings)
