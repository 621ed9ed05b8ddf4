"""Training loop: bit-identical resuming, non-finite losses, signals, damaged checkpoints."""

import json
import os
import resource
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from jax_me.manifest import write_manifest
from jax_me.progress import Progress
from jax_me.training import loop
from jax_me.training.batches import ImageBatches
from jax_me.training.checkpoint import CheckpointError, Checkpoints
from jax_me.training.fold_run import FoldRun
from jax_me.training.graceful_shutdown import StopSignal
from jax_me.training.logging.history import read_history
from jax_me.training.param_groups import parameter_paths
from jax_me.training.sharding import make_mesh, shard_batch
from tests.helpers.tiny_training import RUN_PARAMETERS, Batches, cadence, make_program

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def program():
  return make_program(make_mesh(1, jax.devices()[:1]), ema=0.9)


def train(program, workdir, *, total=8, batches=None, evaluator=None, **options):
  with StopSignal() as stop:
    return loop.train(
      program,
      [FoldRun("fold", workdir, RUN_PARAMETERS, cadence(total, **options), evaluator)],
      ImageBatches(batches or Batches(), program.mesh),
      folder=workdir,
      stop=stop,
      progress=Progress("fold", total, unit="step"),
    )


def assert_bit_identical(left, right):
  left, right = parameter_paths(jax.device_get(left)), parameter_paths(jax.device_get(right))
  assert left.keys() == right.keys()
  for path in left:
    assert np.array_equal(left[path], right[path]), path


class Stop(Exception):
  pass


def fail_at(number):
  """An evaluator that raises at a step, after its metrics were logged."""

  def evaluate(state, step):
    if step == number:
      raise Stop
    return {"test/uf1": 0.5}

  return evaluate


@pytest.mark.slow
def test_resumed_run_is_bit_identical(program, tmp_path):
  whole = train(program, tmp_path / "whole")
  with pytest.raises(Stop):
    train(program, tmp_path / "killed", evaluator=fail_at(6), evaluate=1)
  resumed = train(program, tmp_path / "killed", evaluator=fail_at(-1), evaluate=1)
  assert whole.step == resumed.step == 8
  for part in ("params", "ema"):
    assert_bit_identical(whole.state[part], resumed.state[part])
  # Steps 5 and 6 were trained twice but are logged once.
  steps = [r["step"] for r in read_history(tmp_path / "killed/metrics.jsonl") if "train/loss" in r]
  assert steps == list(range(1, 9))
  losses = [
    [r["train/loss"] for r in read_history(tmp_path / f"{n}/metrics.jsonl") if "train/loss" in r]
    for n in ("whole", "killed")
  ]
  assert losses[0] == losses[1]


def test_finished_run_is_not_trained_again(program, tmp_path):
  first = train(program, tmp_path)
  again = train(program, tmp_path)
  assert again.step == 8
  assert_bit_identical(first.state["params"], again.state["params"])


@pytest.mark.slow
def test_non_finite_step_is_counted_and_not_applied(program, tmp_path):
  done = train(program, tmp_path, batches=Batches(nan_batches=[5]))
  assert done.step == 8
  rows = read_history(tmp_path / "metrics.jsonl")
  assert [row["skipped"] for row in rows if row["step"] == 6] == [1]
  assert [r["step"] for r in rows if "train/loss" in r] == [1, 2, 3, 4, 5, 7, 8]
  before = train(program, tmp_path / "before", total=5)
  state = before.state
  state, _ = program.step(state, batch_with_nan(program))
  after = jax.device_get(state)
  again = train(program, tmp_path / "again", total=5).state
  for part in ("params", "opt_state", "ema"):
    for left, right in zip(*(jax.tree.leaves(s[part]) for s in (after, again)), strict=True):
      assert np.array_equal(left, right)
  assert int(after["step"]) == 6


def batch_with_nan(program):
  batches = Batches(nan_batches=[0])
  return shard_batch(next(batches), program.mesh)


@pytest.mark.slow
def test_many_non_finite_steps_roll_back_and_continue_with_other_data(program, tmp_path, capfd):
  batches = Batches(nan_batches=range(5, 5 + loop.SKIPPED_IN_A_ROW))
  done = train(program, tmp_path, total=12, batches=batches)
  assert done.step == 12
  assert "going back to the checkpoint of step 4" in capfd.readouterr().err
  rows = read_history(tmp_path / "metrics.jsonl")
  assert [r["step"] for r in rows if "train/loss" in r] == list(range(1, 13))


@pytest.mark.slow
def test_run_that_diverges_again_fails_and_keeps_the_checkpoint(program, tmp_path):
  with pytest.raises(loop.TrainingDiverged, match="again after going back.*checkpoint is step 4"):
    train(program, tmp_path, total=40, batches=Batches(nan_batches=range(5, 1000)))
  assert Checkpoints(tmp_path, read_only=True).latest_step() == 4


def test_run_that_diverges_before_a_checkpoint_fails(program, tmp_path):
  with pytest.raises(loop.TrainingDiverged, match="there is no checkpoint to go back to"):
    train(program, tmp_path, total=40, batches=Batches(nan_batches=range(1000)))


def test_interrupt_finishes_the_step_and_saves(program, tmp_path):
  class Interrupting(Batches):
    def __next__(self):
      if self.number == 2:
        os.kill(os.getpid(), signal.SIGINT)
      return super().__next__()

  stopped = train(program, tmp_path / "killed", batches=Interrupting())
  assert stopped.interrupted and stopped.step == 3
  assert Checkpoints(tmp_path / "killed", read_only=True).latest_step() == 3
  whole, resumed = train(program, tmp_path / "whole"), train(program, tmp_path / "killed")
  assert_bit_identical(whole.state["params"], resumed.state["params"])


def test_incomplete_metrics_line_is_ignored(program, tmp_path):
  train(program, tmp_path, total=4)
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 4, "train/lo')
  train(program, tmp_path)
  for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
    json.loads(line)


def flip(file):
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 1
  file.write_bytes(data)


@pytest.mark.parametrize("item", ["weights", "training", "position"])
def test_a_damaged_checkpoint_is_passed_over(program, tmp_path, item, caplog):
  whole = train(program, tmp_path)
  for file in (tmp_path / "checkpoints/8" / item).rglob("*"):
    if file.is_file():
      flip(file)
  resumed = train(program, tmp_path)
  assert_bit_identical(whole.state["params"], resumed.state["params"])
  (line,) = [record.getMessage() for record in caplog.records if "jax_me" in record.name]
  assert f"checkpoints/8/{item}" in line and "going on from the one before, of step 4" in line
  assert Checkpoints(tmp_path, read_only=True).latest_step() == 8  # It was written again.


def test_damage_of_all_checkpoints_is_one_error_with_a_remedy(program, tmp_path):
  train(program, tmp_path, total=4)
  flip(tmp_path / "checkpoints/4/position/metadata")
  with pytest.raises(CheckpointError, match="position/metadata .* Start anew with another"):
    train(program, tmp_path)
  assert (tmp_path / "checkpoints/4").is_dir()


def test_parts_of_two_checkpoints_are_refused(program, tmp_path):
  train(program, tmp_path)
  position = tmp_path / "checkpoints/8/position"
  shutil.rmtree(position)
  shutil.copytree(tmp_path / "checkpoints/4/position", position)
  write_manifest(tmp_path / "checkpoints/8", "weights", "training", "position")
  with pytest.raises(CheckpointError, match=r"of different steps \(\[4, 8\]\)"):
    train(program, tmp_path)


def test_checkpoints_without_checksums(program, tmp_path, caplog):
  train(program, tmp_path, total=4)
  (tmp_path / "checkpoints/4/manifest.json").unlink()
  with pytest.raises(CheckpointError, match=r"manifest.json is missing"):
    train(program, tmp_path)
  position = tmp_path / "checkpoints/4/position/metadata"
  position.write_text(json.dumps({"iterator": json.loads(position.read_text())["iterator"]}))
  assert train(program, tmp_path).step == 8  # As version 0.1 wrote it.
  assert "of an earlier version, which wrote no checksums" in caplog.text


def wait_until_unchanged(folder):
  """Waits for the failed writes: in the same process, some of them still end in the background."""
  before = None
  while before != (now := sorted(folder.rglob("*"))):
    before = now
    time.sleep(0.5)


def test_full_disk_leaves_the_last_checkpoint(program, tmp_path):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

  def fill_the_disk(state, step):
    if step == 6:
      while not (tmp_path / "killed/checkpoints/4").exists():  # Written in the background.
        time.sleep(0.05)
      # With a limit on the file size, writing an array fails as on a full disk.
      resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    return {}

  try:
    with pytest.raises(CheckpointError, match="last finished one is step 4; free some space"):
      train(program, tmp_path / "killed", evaluator=fill_the_disk, evaluate=1)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  wait_until_unchanged(tmp_path / "killed/checkpoints")
  assert Checkpoints(tmp_path / "killed", read_only=True).latest_step() == 4
  resumed, whole = train(program, tmp_path / "killed"), train(program, tmp_path / "whole")
  assert_bit_identical(whole.state["params"], resumed.state["params"])


def test_reading_a_run_keeps_its_incomplete_checkpoint(program, tmp_path):
  train(program, tmp_path, total=4)
  being_written = tmp_path / "checkpoints/8.orbax-checkpoint-tmp"
  being_written.mkdir()
  readers = [Checkpoints(tmp_path, read_only=True) for _ in range(2)]
  restored, _ = readers[0].restore(program.abstract_state())
  for reader in readers:
    reader.close()
  assert int(restored["step"]) == 4 and being_written.is_dir()
  # A resumed run removes incomplete checkpoints before it saves.
  train(program, tmp_path, total=8)
  assert Checkpoints(tmp_path, read_only=True).latest_step() == 8 and not being_written.exists()


def test_checkpoint_of_another_model_is_refused(program, tmp_path):
  train(program, tmp_path, total=4)
  without_average = make_program(make_mesh(1, jax.devices()[:1]))
  with pytest.raises(CheckpointError, match="cannot be read"):
    train(without_average, tmp_path)


def test_cadence_includes_the_last_step():
  plan = cadence(10, checkpoint=4)
  assert [s for s in range(1, 11) if plan.due(plan.checkpoint, s)] == [4, 8, 10]
  assert [s for s in range(1, 11) if plan.due(0, s)] == [10]
  close = cadence(9, evaluate=4)
  assert [s for s in range(1, 10) if close.evaluates(s)] == [4, 9]
