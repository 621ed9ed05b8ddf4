"""Running statistics of batch norms in the training state: devices, skipped steps, folds."""

import jax
import numpy as np
import pytest

from jax_me.training.fold_program import compile_folds
from jax_me.training.param_groups import parameter_paths
from jax_me.training.sharding import make_mesh, replicated, shard_batch
from jax_me.training.state import initial_key
from tests.helpers.tiny_training import (
  RUN_PARAMETERS,
  make_batch,
  make_batch_norm_model,
  make_program,
)

pytestmark = [pytest.mark.usefixtures("quick_compilation"), pytest.mark.slow]


def train(devices=1, steps=3, nan_at=(), **options):
  mesh = make_mesh(1, jax.devices()[:devices])
  program = make_program(mesh, model=make_batch_norm_model, **options)
  state = program.create(initial_key(0))
  state["run_parameters"] = program.put_run_parameters(RUN_PARAMETERS)
  states, skipped = [jax.device_get(state)], []
  for number in range(steps):
    batch = make_batch(number)
    if nan_at:
      scale = np.nan if number in nan_at else 1.0
      batch["image"] = batch["image"].astype(np.float32) * np.float32(scale)
    state, metrics = program.step(state, shard_batch(batch, mesh))
    states.append(jax.device_get(state))
    skipped.append(float(metrics["skipped"]))
  return states, skipped


def assert_close(left, right, tolerance=1e-5):
  right = parameter_paths(right)
  for path, value in parameter_paths(left).items():
    np.testing.assert_allclose(value, right[path], atol=tolerance, rtol=tolerance, err_msg=path)


def differ(left, right):
  right = parameter_paths(right)
  return [path for path, v in parameter_paths(left).items() if not np.array_equal(v, right[path])]


def test_every_step_updates_them_unless_it_is_skipped():
  states, skipped = train(nan_at=(1,))
  assert skipped == [0, 1, 0]
  before, first, second, third = (state["model_state"] for state in states)
  assert len(differ(before, first)) == len(parameter_paths(before)) > 0
  assert not differ(first, second) and differ(second, third)


def test_four_devices_normalise_by_the_whole_batch():
  one, four = train(1)[0][-1], train(4)[0][-1]
  assert_close(one["model_state"], four["model_state"])
  assert_close(one["params"], four["params"])


def test_microbatches_update_them_one_after_the_other():
  (before, after), _ = train(steps=1, accum_steps=2)
  assert len(differ(before["model_state"], after["model_state"])) > 0
  old, new = before["model_state"]["stem_bn"]["mean"], after["model_state"]["stem_bn"]["mean"]
  (_, whole), _ = train(steps=1)
  # Two updates of decay 0.9, whose batch means average to about that of the whole batch.
  once = whole["model_state"]["stem_bn"]["mean"]
  np.testing.assert_allclose((new - old) / (once - old), 1.9, atol=0.3)


@pytest.mark.parametrize("mode", ["vmap", "map"])
def test_folds_of_one_program_equal_single_runs(mode):
  mesh = make_mesh(1, jax.devices()[:1])
  single = make_program(mesh, model=make_batch_norm_model)
  data = make_batch(0, rows=20)
  put = lambda array: jax.device_put(array, replicated(mesh))  # noqa: E731
  folds = compile_folds(
    single,
    rows=2,
    mode=mode,
    batch_size=4,
    images=put(data["image"]),
    columns={"label": put(data["label"])},
    run_parameters=RUN_PARAMETERS,
  )
  order = np.stack([np.arange(16), np.arange(4, 20)]).reshape(2, 4, 4).astype(np.int32)
  indices = np.zeros((2, folds.block, 4), np.int32)
  indices[:, :4] = order
  state = folds.initial_state(0)
  state["run_parameters"] = folds.put_run_parameters(RUN_PARAMETERS, RUN_PARAMETERS)
  state, _ = folds.advance(state, (indices, np.array([4, 3], np.int32)))
  for fold, steps in enumerate((4, 3)):
    alone = single.create(initial_key(0))
    alone["run_parameters"] = single.put_run_parameters(RUN_PARAMETERS)
    for rows in order[fold][:steps]:
      batch = {
        "image": data["image"][rows],
        "label": data["label"][rows],
        "mask": np.ones(4, bool),
        "index": rows,
      }
      alone, _ = single.step(alone, shard_batch(batch, mesh))
    assert_close(folds.fold_state(state, fold)["model_state"], alone["model_state"], 1e-4)
