"""Properties of the training step: devices, accumulation, moving average, one compilation."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jax_me.data.augment.augmentation import Augmentation
from jax_me.data.augment.mixup import MixupSettings
from jax_me.training.param_groups import parameter_paths
from jax_me.training.sharding import make_mesh, parameter_sharding, shard_batch
from jax_me.training.state import initial_key
from tests.helpers.tiny_training import CONSTANTS, make_batch, make_program

pytestmark = pytest.mark.usefixtures("quick_compilation")

MIXED = dict(mixing=MixupSettings(mixup_alpha=0.8, cutmix_alpha=1.0))


def run(devices: int, fsdp: int = 1, steps: int = 3, **options):
  mesh = make_mesh(fsdp, jax.devices()[:devices])
  program = make_program(mesh, **options)
  state = program.create(initial_key(0))
  state["constants"] = program.place(CONSTANTS)
  losses = []
  for number in range(steps):
    state, metrics = program.step(state, shard_batch(make_batch(number), mesh))
    losses.append(float(metrics["loss"]))
  return program, jax.device_get(state), losses


def close(left, right, tolerance=1e-5):
  for path, value in parameter_paths(left).items():
    np.testing.assert_allclose(
      value, parameter_paths(right)[path], atol=tolerance, rtol=tolerance, err_msg=path
    )


@pytest.fixture(scope="module")
def one_device():
  return run(1, **MIXED)


def test_four_devices_equal_one(one_device):
  _, state, losses = run(4, **MIXED)
  np.testing.assert_allclose(losses, one_device[2], rtol=1e-5)
  close(state["params"], one_device[1]["params"])


def test_split_parameters_equal_whole_ones(one_device, monkeypatch):
  monkeypatch.setattr("jax_me.training.sharding.FSDP_MIN_SIZE", 64)
  mesh = make_mesh(2, jax.devices()[:4])
  assert parameter_sharding((24, 72), mesh).spec == PartitionSpec(None, "fsdp")
  _, state, losses = run(4, fsdp=2, **MIXED)
  np.testing.assert_allclose(losses, one_device[2], rtol=1e-5)
  close(state["params"], one_device[1]["params"])


def test_losses_depend_neither_on_devices_nor_on_fsdp(repository):
  meshes = ["1x1", "2x1", "4x4", "8x1", "8x2", "8x4"]  # devices x fsdp
  done = subprocess.run(
    [sys.executable, str(repository / "tests/helpers/mesh_losses.py"), *meshes],
    env={
      **os.environ,
      "PYTHONPATH": os.pathsep.join([str(repository), str(repository / "tests/training")]),
      "JAX_PLATFORMS": "cpu",
      "JAX_NUM_CPU_DEVICES": "8",
      "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    },
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  seen = json.loads(done.stdout)
  for mesh in meshes[1:]:
    np.testing.assert_allclose(seen[mesh], seen["1x1"], rtol=1e-5, err_msg=mesh)


def test_the_step_compiles_once(one_device):
  assert one_device[0].step._cache_size() == 1


def test_accumulated_gradients_equal_those_of_the_whole_batch():
  # Without dropout (each part has keys of its own): images are changed as in the whole batch.
  changes = dict(augment=Augmentation(flip=0.5, brightness=0.5), drop_path_rate=0.0)
  whole = run(1, **changes)
  parts = run(1, accum_steps=4, **changes)
  np.testing.assert_allclose(parts[2], whole[2], rtol=1e-5)
  close(parts[1]["params"], whole[1]["params"])


def test_moving_average_follows_its_formula():
  mesh = make_mesh(1, jax.devices()[:1])
  program = make_program(mesh, ema=0.9)
  state = program.create(initial_key(0))
  state["constants"] = program.place(CONSTANTS)
  average = {k: np.asarray(v) for k, v in parameter_paths(state["params"]).items()}
  for number in range(2):
    state, _ = program.step(state, shard_batch(make_batch(number), mesh))
    for path, value in parameter_paths(state["params"]).items():
      average[path] = 0.9 * average[path] + 0.1 * np.asarray(value)
  for path, value in parameter_paths(state["ema"]).items():
    np.testing.assert_allclose(value, average[path], rtol=1e-5, atol=1e-7, err_msg=path)


def test_mesh_refuses_an_axis_that_does_not_divide():
  with pytest.raises(ValueError, match="must divide the number of devices"):
    make_mesh(3, jax.devices()[:4])


def test_batch_refuses_rows_that_cannot_be_split():
  mesh = make_mesh(1, jax.devices()[:4])
  with pytest.raises(ValueError, match="6 rows cannot be split over 4 devices"):
    shard_batch(make_batch(0, rows=6), mesh)
