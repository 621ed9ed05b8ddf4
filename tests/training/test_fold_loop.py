"""Folds in one program: the numbers of each fold trained alone, whatever the others do."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from jax_me.data.sampling import ShuffledSampler
from jax_me.models.model_folder import split_model
from jax_me.training import loop
from jax_me.training.evaluation_step import make_classifier
from jax_me.training.fold_chunks import equal_rows
from jax_me.training.fold_loop import FoldRun, begun, train_chunk
from jax_me.training.fold_program import compile_folds
from jax_me.training.logging.history import read_history
from jax_me.training.logging.metrics_log import Progress
from jax_me.training.sharding import make_mesh, replicated
from tests.helpers import tiny_training

BATCH = 4
IMAGES = tiny_training.make_batch(0, rows=20)["image"]
LABELS = tiny_training.make_batch(0, rows=20)["label"]
STEPS = (5, 9, 3)  # Of the folds, each with other examples and constants.


class Fed:
  """The batches of one fold, for `loop.train`."""

  def __init__(self, order):
    self._order, self._start = order, 0

  def __next__(self):
    rows = self._order.at(self._start, BATCH)
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
  """A signal that comes after some looks."""

  def __init__(self, after=10**6):
    self._looks = after

  @property
  def received(self):
    self._looks -= 1
    return 15 if self._looks < 0 else None


def runs_of(folder, std=(0.25,) * 3):
  runs = []
  for number, steps in enumerate(STEPS):
    constants = dataclasses.replace(
      tiny_training.CONSTANTS,
      mean=(0.4 + 0.1 * number,) * 3,
      total_steps=steps,
      peak=1e-3 * (number + 1),
    )
    if number == 1:
      constants = dataclasses.replace(constants, std=std)
    order = ShuffledSampler(np.arange(number, 20 - 2 * number), seed=3)
    home = folder / f"fold{number}"
    home.mkdir(parents=True)
    cadence = tiny_training.cadence(steps, checkpoint=2, evaluate=4)
    runs.append(FoldRun(f"fold{number}", home, order, constants, cadence))
  return runs


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """Each fold by the loop: final state and log."""
  folder = tmp_path_factory.mktemp("alone")
  program = tiny_training.make_program(make_mesh(devices=jax.devices()[:1]))
  ends = []
  for run in runs_of(folder):
    result = loop.train(
      program,
      batches=Fed(run.order),
      constants=run.constants,
      cadence=run.cadence,
      workdir=run.home,
      evaluator=lambda state, step: {"test/uf1": 0.5},
    )
    ends.append((jax.device_get(result.state), log(run)))
  return ends


def log(run):
  rows = read_history(run.home / "metrics.jsonl")
  return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


@pytest.fixture(scope="module")
def programs():
  """Compiled on demand, once: (mode, devices) -> program."""
  known = {}

  def get(mode, devices=1):
    if (mode, devices) not in known:
      mesh = make_mesh(devices=jax.devices()[:devices])
      images, columns = jax.device_put((IMAGES, {"label": LABELS}), replicated(mesh))
      graphdef, *_ = split_model(tiny_training.make_model(nnx.Rngs(0)))
      known[mode, devices] = compile_folds(
        tiny_training.make_program(mesh),
        make_classifier(graphdef),
        rows=equal_rows(len(STEPS), 8, devices),
        mode=mode,
        batch_size=BATCH,
        images=images,
        columns=columns,
        constants=tiny_training.CONSTANTS,
      )
    return known[mode, devices]

  return get


def together(program, runs, folder, stop=None):
  images, columns = jax.device_put((IMAGES, {"label": LABELS}), replicated(program.mesh))
  result = train_chunk(
    program,
    runs,
    images=images,
    columns=columns,
    batch_size=BATCH,
    folder=folder,
    fresh=program.single.create,
    evaluator=lambda state, due: {row: {"test/uf1": 0.5} for row in due},
    progress=Progress(max(STEPS)),
    stop=stop or Stop(),
  )
  return result, jax.device_get(result.state)


def assert_row(state, row, expected, tolerance=0.0):
  for ours, theirs in zip(
    jax.tree.leaves(state["params"]), jax.tree.leaves(expected["params"]), strict=True
  ):
    np.testing.assert_allclose(ours[row], theirs, rtol=0, atol=tolerance)
  assert state["step"][row] == expected["step"]


def test_one_after_the_other_gives_the_bits_of_a_fold_alone(alone, programs, tmp_path):
  runs = runs_of(tmp_path)
  result, state = together(programs("map"), runs, tmp_path / "chunk")
  assert not result.interrupted and not result.left
  for row, (expected, rows) in enumerate(alone):
    assert_row(state, row, expected)
    assert log(runs[row]) == rows


@pytest.mark.parametrize("mode, devices", [("vmap", 1), ("vmap", 4), ("map", 4)])
def test_side_by_side_gives_the_same_numbers(alone, programs, tmp_path, mode, devices):
  runs = runs_of(tmp_path)
  _, state = together(programs(mode, devices), runs, tmp_path / "chunk")
  for row, (expected, rows) in enumerate(alone):
    assert_row(state, row, expected, tolerance=1e-6)
    assert [(r["step"], set(r)) for r in log(runs[row])] == [(r["step"], set(r)) for r in rows]


@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_a_fold_that_is_not_finite_is_left_and_harms_no_other(alone, programs, tmp_path, mode):
  runs = runs_of(tmp_path, std=(0.0,) * 3)
  result, state = together(programs(mode), runs, tmp_path / "chunk")
  assert result.left == {"fold1"} and not result.interrupted
  for row in (0, 2):
    assert_row(state, row, alone[row][0], tolerance=0.0 if mode == "map" else 1e-6)
  assert [row["skipped"] for row in log(runs[1]) if "skipped" in row][:5] == [1, 2, 3, 4, 5]


def test_a_stopped_chunk_goes_on_with_the_same_bits(alone, programs, tmp_path):
  program, runs = programs("map"), runs_of(tmp_path)
  result, _ = together(program, runs, tmp_path / "chunk", Stop(after=2))
  assert result.interrupted
  assert begun(tmp_path / "chunk") == (["fold0", "fold1", "fold2"], 3)
  result, state = together(program, runs, tmp_path / "chunk")
  assert not result.interrupted
  for row, (expected, rows) in enumerate(alone):
    assert_row(state, row, expected)
    assert log(runs[row]) == rows


def test_a_chunk_of_other_folds_starts_anew(alone, programs, tmp_path):
  program, runs = programs("map"), runs_of(tmp_path)
  together(program, runs, tmp_path / "chunk", Stop(after=2))
  swapped = [runs[1], runs[0], runs[2]]
  _, state = together(program, swapped, tmp_path / "chunk")
  for row, fold in enumerate((1, 0, 2)):
    assert_row(state, row, alone[fold][0])


@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_folds_are_judged_by_their_own_weights(programs, tmp_path, mode):
  program, runs = programs(mode), runs_of(tmp_path)
  _, state = together(program, runs, tmp_path / "chunk")
  state = jax.device_put(state)
  weights = {"params": state["params"], "model_state": state["model_state"]}
  positions = np.array([[0, 1], [5, -1], [7, 7]], np.int32)
  scores = program.classify(
    weights, state["constants"], jax.numpy.asarray(IMAGES), positions, np.array([True] * 3)
  )
  single = make_classifier(split_model(tiny_training.make_model(nnx.Rngs(0)))[0])
  for row in range(3):
    own = program.fold({"weights": weights, "constants": state["constants"]}, row)
    pictures = np.where((positions[row] >= 0)[:, None, None, None], IMAGES[positions[row]], 0)
    expected = single(own["weights"], own["constants"], pictures)
    np.testing.assert_allclose(scores[row], expected, rtol=0, atol=1e-6)
