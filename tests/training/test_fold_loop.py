"""Several folds in one program: the results of each fold trained alone."""

import dataclasses

import jax
import numpy as np
import pytest

from jax_me.data.sampling import ShuffledSampler
from jax_me.progress import Progress
from jax_me.training.batches import FoldBatches, ImageBatches
from jax_me.training.fold_chunks import claim_folder, equal_rows, unfinished_chunk
from jax_me.training.fold_program import compile_folds
from jax_me.training.fold_run import FoldRun
from jax_me.training.logging.history import read_history
from jax_me.training.loop import train
from jax_me.training.param_groups import parameter_paths
from jax_me.training.sharding import make_mesh, replicated
from tests.helpers import tiny_training

pytestmark = pytest.mark.slow
BATCH = 4
IMAGES = tiny_training.make_batch(0, rows=20)["image"]
LABELS = tiny_training.make_batch(0, rows=20)["label"]
STEPS = (5, 9, 3)  # Of the folds, which differ in examples and run parameters.


class Batches:
  """The batches of one fold alone."""

  batch_size = BATCH

  def __init__(self, sampler):
    self._sampler, self._start = sampler, 0

  def __next__(self):
    rows = self._sampler.at(self._start, BATCH)
    self._start += BATCH
    return {
      "image": IMAGES[rows],
      "label": LABELS[rows],
      "mask": np.ones(BATCH, bool),
      "index": rows.astype(np.int32),
    }

  def get_state(self):
    return self._start

  def set_state(self, state):
    self._start = state


class Stop:
  """A stop signal that is received after some checks."""

  def __init__(self, after=10**6):
    self._checks = after

  @property
  def received(self):
    self._checks -= 1
    return 15 if self._checks < 0 else None


def sampler(number):
  return ShuffledSampler(np.arange(number, 20 - 2 * number), seed=3)


def evaluate(state, step):
  return {"test/uf1": 0.5}


def runs_of(folder, diverging=None):
  runs = []
  for number, steps in enumerate(STEPS):
    run_parameters = dataclasses.replace(
      tiny_training.RUN_PARAMETERS,
      mean=(0.4 + 0.1 * number,) * 3,
      total_steps=steps,
      peak=1e-3 * (number + 1),
    )
    if number == diverging:
      run_parameters = dataclasses.replace(run_parameters, std=(0.0,) * 3)
    workdir = folder / f"fold{number}"
    cadence = tiny_training.cadence(steps, checkpoint=2, evaluate=4)
    runs.append(FoldRun(f"fold{number}", workdir, run_parameters, cadence, evaluate))
  return runs


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """Final state and log of each fold trained alone."""
  folder = tmp_path_factory.mktemp("alone")
  program = make_program(make_mesh(devices=jax.devices()[:1]))
  ends = []
  for number, run in enumerate(runs_of(folder)):
    result = train(
      program,
      [run],
      ImageBatches(Batches(sampler(number)), program.mesh),
      folder=run.workdir,
      stop=Stop(),
      progress=Progress(run.name, run.cadence.total, unit="step"),
    )
    ends.append((jax.device_get(result.state), log(run)))
  return ends


def make_program(mesh):
  # Without the key bias: it has no gradient (softmax ignores a constant per query), so that Adam
  # amplifies nothing but the rounding errors of different programs.
  return tiny_training.make_program(mesh, qkv_bias=False)


def log(run):
  rows = read_history(run.workdir / "metrics.jsonl")
  return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


@pytest.fixture(scope="module")
def programs():
  """(mode, devices) -> program, compiled on first use."""
  compiled = {}

  def get(mode, devices=1):
    if (mode, devices) not in compiled:
      mesh = make_mesh(devices=jax.devices()[:devices])
      images, columns = jax.device_put((IMAGES, {"label": LABELS}), replicated(mesh))
      compiled[mode, devices] = compile_folds(
        make_program(mesh),
        rows=equal_rows(len(STEPS), 8, devices),
        mode=mode,
        batch_size=BATCH,
        images=images,
        columns=columns,
        run_parameters=tiny_training.RUN_PARAMETERS,
      )
    return compiled[mode, devices]

  return get


def train_folds(program, runs, folder, stop=None):
  samplers = {run.name: sampler(int(run.name[-1])) for run in runs}
  claim_folder(folder, program.rows, samplers, BATCH)
  result = train(
    program,
    runs,
    FoldBatches(list(samplers.values()), BATCH, program),
    folder=folder,
    stop=stop or Stop(),
    progress=Progress("folds", max(STEPS), unit="step"),
    keep_checkpoints=1,
    save_last=False,
  )
  return result, jax.device_get(result.state)


def assert_row(state, row, expected, tolerance=0.0):
  """Compares a fold's parameters; `tolerance` is relative to the largest value of each array."""
  params, expected_params = parameter_paths(state["params"]), parameter_paths(expected["params"])
  assert params.keys() == expected_params.keys()
  for path, theirs in expected_params.items():
    ours = params[path][row]
    atol = tolerance * np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=path)
  assert state["step"][row] == expected["step"]


def test_sequential_folds_are_bit_identical_to_a_fold_alone(alone, programs, tmp_path):
  runs = runs_of(tmp_path)
  result, state = train_folds(programs("map"), runs, tmp_path / "chunk")
  assert not result.interrupted and not result.diverged
  for row, (expected, rows) in enumerate(alone):
    assert_row(state, row, expected)
    assert log(runs[row]) == rows


@pytest.mark.parametrize("mode, devices", [("vmap", 1), ("vmap", 4), ("map", 4)])
def test_parallel_folds_equal_a_fold_alone(alone, programs, tmp_path, mode, devices):
  runs = runs_of(tmp_path)
  _, state = train_folds(programs(mode, devices), runs, tmp_path / "chunk")
  for row, (expected, rows) in enumerate(alone):
    assert_row(state, row, expected, tolerance=1e-6)
    assert [(r["step"], set(r)) for r in log(runs[row])] == [(r["step"], set(r)) for r in rows]


@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_a_diverged_fold_does_not_affect_the_others(alone, programs, tmp_path, mode):
  runs = runs_of(tmp_path, diverging=1)
  result, state = train_folds(programs(mode), runs, tmp_path / "chunk")
  assert result.diverged == {"fold1"} and not result.interrupted
  for row in (0, 2):
    assert_row(state, row, alone[row][0], tolerance=0.0 if mode == "map" else 1e-6)
  assert [row["skipped"] for row in log(runs[1]) if "skipped" in row][:5] == [1, 2, 3, 4, 5]


def test_a_diverged_fold_does_not_continue_in_a_resumed_chunk(alone, programs, tmp_path):
  class StopAfterDivergence:
    @property
    def received(self):
      return 15 if any(row["step"] >= 6 for row in log(runs[1])) else None

  program, runs = programs("map"), runs_of(tmp_path, diverging=0)
  result, _ = train_folds(program, runs, tmp_path / "chunk", StopAfterDivergence())
  assert result.interrupted and result.diverged == {"fold0"}
  result, state = train_folds(program, runs, tmp_path / "chunk")
  assert not result.interrupted and result.diverged == {"fold0"}
  for row in (1, 2):
    assert_row(state, row, alone[row][0])
    assert log(runs[row]) == alone[row][1]


def test_a_resumed_chunk_is_bit_identical(alone, programs, tmp_path):
  program, runs = programs("map"), runs_of(tmp_path)
  result, _ = train_folds(program, runs, tmp_path / "chunk", Stop(after=4))
  assert result.interrupted
  assert unfinished_chunk(tmp_path / "chunk") == (["fold0", "fold1", "fold2"], 3)
  result, state = train_folds(program, runs, tmp_path / "chunk")
  assert not result.interrupted
  for row, (expected, rows) in enumerate(alone):
    assert_row(state, row, expected)
    assert log(runs[row]) == rows


def test_a_chunk_of_other_folds_starts_from_the_beginning(alone, programs, tmp_path):
  program, runs = programs("map"), runs_of(tmp_path)
  train_folds(program, runs, tmp_path / "chunk", Stop(after=4))
  swapped = [runs[1], runs[0], runs[2]]
  _, state = train_folds(program, swapped, tmp_path / "chunk")
  for row, fold in enumerate((1, 0, 2)):
    assert_row(state, row, alone[fold][0])


@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_each_fold_is_evaluated_with_its_own_state(alone, programs, tmp_path, mode):
  program, evaluated = programs(mode), {}

  def recording(number):
    def evaluate(state, step):
      evaluated[number, step] = jax.device_get(state)
      return {}

    return evaluate

  runs = [
    dataclasses.replace(run, evaluate=recording(number))
    for number, run in enumerate(runs_of(tmp_path))
  ]
  train_folds(program, runs, tmp_path / "chunk")
  assert sorted(evaluated) == [(0, 5), (1, 4), (1, 9), (2, 3)]
  for number, steps in enumerate(STEPS):
    state, expected = evaluated[number, steps], alone[number][0]
    assert "opt_state" not in state
    one_row = {**state, "params": jax.tree.map(lambda x: x[None], state["params"])}
    assert_row(
      {**one_row, "step": state["step"][None]}, 0, expected, 0.0 if mode == "map" else 1e-6
    )
    for name, value in expected["run_parameters"].items():
      np.testing.assert_array_equal(state["run_parameters"][name], value)
