"""Training step: devices, accumulation, moving average, one compilation."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from configs.common import common
from jax_me.data.augment.augmentation import Augmentation
from jax_me.data.augment.mixup import MixupSettings
from jax_me.training.param_groups import parameter_paths
from jax_me.training.program import check_mesh
from jax_me.training.sharding import make_mesh, parameter_sharding, shard_batch
from jax_me.training.state import initial_key
from tests.helpers.quick_compilation import QUICK_ENVIRONMENT
from tests.helpers.tiny_training import (
  RUN_PARAMETERS,
  count_compilations,
  make_batch,
  make_program,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

MIXED = dict(mixing=MixupSettings(mixup_alpha=0.8, cutmix_alpha=1.0))


def run(devices: int, fsdp: int = 1, steps: int = 3, **options):
  mesh = make_mesh(fsdp, jax.devices()[:devices])
  program = make_program(mesh, **options)
  state = program.create(initial_key(0))
  state["run_parameters"] = program.put_run_parameters(RUN_PARAMETERS)
  losses, compilations = [], []
  for number in range(steps):
    batch, before = shard_batch(make_batch(number), mesh), count_compilations()
    state, metrics = program.step(state, batch)
    compilations.append(count_compilations() - before)
    losses.append(float(metrics["loss"]))
  return compilations, jax.device_get(state), losses


def close(left, right, tolerance=1e-5):
  for path, value in parameter_paths(left).items():
    np.testing.assert_allclose(
      value, parameter_paths(right)[path], atol=tolerance, rtol=tolerance, err_msg=path
    )


@pytest.fixture(scope="module")
def one_device():
  return run(1, **MIXED)


@pytest.mark.slow
def test_four_devices_equal_one(one_device):
  _, state, losses = run(4, **MIXED)
  np.testing.assert_allclose(losses, one_device[2], rtol=1e-5)
  close(state["params"], one_device[1]["params"])


@pytest.mark.slow
def test_sharded_parameters_equal_replicated_ones(one_device, monkeypatch):
  monkeypatch.setattr("jax_me.training.sharding.FSDP_MIN_SIZE", 64)
  mesh = make_mesh(2, jax.devices()[:4])
  assert parameter_sharding((24, 72), mesh).spec == PartitionSpec(None, "fsdp")
  _, state, losses = run(4, fsdp=2, **MIXED)
  np.testing.assert_allclose(losses, one_device[2], rtol=1e-5)
  close(state["params"], one_device[1]["params"])


@pytest.mark.slow
@pytest.mark.parametrize("accum_steps", [1, 2])
@pytest.mark.parametrize("devices", [2, 4])
def test_an_update_split_over_devices_equals_the_whole_one(monkeypatch, accum_steps, devices):
  monkeypatch.setattr("jax_me.training.sharding.FSDP_MIN_SIZE", 64)
  compilations, split, _ = run(4, ema=0.9, accum_steps=accum_steps, split_update=devices)
  _, whole, _ = run(4, ema=0.9, accum_steps=accum_steps)
  assert compilations == [1, 0, 0]
  for part in ("params", "ema"):
    close(split[part], whole[part])
  jax.tree.map(
    lambda left, right: np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7),
    split["opt_state"],
    whole["opt_state"],
  )


PLAIN = dict(augment=Augmentation(flip=0.5, brightness=0.5), drop_path_rate=0.0)


@pytest.mark.slow
def test_gradients_by_device_equal_those_of_the_whole_batch():
  whole, parts = run(1, **PLAIN), run(4, float32_sum=True, **PLAIN)
  np.testing.assert_allclose(parts[2], whole[2], rtol=1e-5)
  close(parts[1]["params"], whole[1]["params"])


@pytest.mark.slow
def test_one_device_has_nothing_to_sum(one_device):
  # Folds in one program have no sum over devices, and must equal single runs.
  assert run(1, float32_sum=True, **MIXED)[2] == one_device[2]


@pytest.mark.slow
def test_gradients_by_device_are_summed_in_float32():
  def first_moment(devices, **options):
    mesh = make_mesh(1, jax.devices()[:devices])
    program = make_program(
      mesh, augment=Augmentation(), drop_path_rate=0.0, dtype="bfloat16", **options
    )
    state = program.create(initial_key(0))
    state["run_parameters"] = program.put_run_parameters(RUN_PARAMETERS)
    batch = make_batch(0)
    if devices == 1:  # Microbatches are strided: with these rows they are the parts of the devices.
      order = np.arange(8).reshape(4, 2).T.ravel()
      batch = {name: rows[order] for name, rows in batch.items()}
    state, _ = program.step(state, shard_batch(batch, mesh))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state["opt_state"])]

  accumulated = first_moment(1, accum_steps=4)  # In float32.
  for found, expected in zip(first_moment(4, float32_sum=True), accumulated, strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_optimizer_and_average_are_split_and_parameters_whole(monkeypatch):
  monkeypatch.setattr("jax_me.training.sharding.FSDP_MIN_SIZE", 64)
  program = make_program(make_mesh(1, jax.devices()[:4]), ema=0.9, split_update=4)
  state = program.abstract_state()

  def bytes_of_a_device(part):
    leaves = jax.tree.leaves(state[part])
    return sum(np.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)

  whole = bytes_of_a_device("params")
  # A quarter, and the arrays that are too small to be split.
  assert bytes_of_a_device("ema") < 0.3 * whole
  assert bytes_of_a_device("opt_state") < 0.6 * whole


@pytest.mark.slow
def test_losses_do_not_depend_on_devices_or_fsdp(repository):
  meshes = ["1x1", "2x1", "4x4", "8x1", "8x2", "8x4"]  # devices x fsdp
  done = subprocess.run(
    [sys.executable, str(repository / "tests/helpers/mesh_losses.py"), *meshes],
    env={
      **os.environ,
      "PYTHONPATH": os.pathsep.join([str(repository), str(repository / "tests/training")]),
      "JAX_PLATFORMS": "cpu",
      "JAX_NUM_CPU_DEVICES": "8",
      **QUICK_ENVIRONMENT,
    },
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  losses = json.loads(done.stdout)
  for mesh in meshes[1:]:
    np.testing.assert_allclose(losses[mesh], losses["1x1"], rtol=1e-5, err_msg=mesh)


@pytest.mark.slow
def test_step_compiles_once(one_device):
  assert one_device[0] == [1, 0, 0]


@pytest.mark.slow
def test_accumulated_gradients_equal_those_of_the_whole_batch():
  # Without dropout, whose keys differ between microbatches; the augmentation is the same.
  options = dict(augment=Augmentation(flip=0.5, brightness=0.5), drop_path_rate=0.0)
  whole = run(1, **options)
  parts = run(1, accum_steps=4, **options)
  np.testing.assert_allclose(parts[2], whole[2], rtol=1e-5)
  close(parts[1]["params"], whole[1]["params"])


@pytest.mark.slow
def test_moving_average_follows_its_formula():
  mesh = make_mesh(1, jax.devices()[:1])
  program = make_program(mesh, ema=0.9)
  state = program.create(initial_key(0))
  state["run_parameters"] = program.put_run_parameters(RUN_PARAMETERS)
  average = {k: np.asarray(v) for k, v in parameter_paths(state["params"]).items()}
  for number in range(2):
    state, _ = program.step(state, shard_batch(make_batch(number), mesh))
    for path, value in parameter_paths(state["params"]).items():
      average[path] = 0.9 * average[path] + 0.1 * np.asarray(value)
  for path, value in parameter_paths(state["ema"]).items():
    np.testing.assert_allclose(value, average[path], rtol=1e-5, atol=1e-7, err_msg=path)


@pytest.mark.slow
def test_a_frozen_backbone_trains_only_the_head():
  mesh = make_mesh(1, jax.devices()[:1])
  before = jax.device_get(make_program(mesh).create(initial_key(0))["params"])
  _, state, losses = run(1, freeze_backbone=True)
  for path, value in parameter_paths(state["params"]).items():
    same = np.array_equal(value, parameter_paths(before)[path])
    assert same != path.startswith("head."), path
  assert np.isfinite(losses).all()


def test_fsdp_must_divide_the_number_of_devices():
  with pytest.raises(ValueError, match="must divide the number of devices"):
    make_mesh(3, jax.devices()[:4])


def test_batch_must_be_divisible_by_the_devices():
  mesh = make_mesh(1, jax.devices()[:4])
  with pytest.raises(ValueError, match="6 rows cannot be split over 4 devices"):
    shard_batch(make_batch(0, rows=6), mesh)


@pytest.mark.parametrize(
  "mesh, message",
  [
    ({"split_update": 3}, "mesh.split_update=3 must divide the number of devices, 4"),
    ({"split_update": 2, "fsdp": 2}, "mesh.fsdp already splits the update"),
    ({"gradient_sum": "float32", "fsdp": 2}, "needs whole parameters"),
  ],
)
def test_settings_of_the_mesh_that_do_not_go_together(mesh, message):
  config = common()
  config.mesh.update(mesh)
  with pytest.raises(ValueError, match=message):
    check_mesh(config, devices=4)
