"""Writers of learning curves."""

import shutil
import sys
import types

import pytest

from jax_me.training.logging import writers
from jax_me.training.logging.metrics_log import Tracker
from jax_me.training.logging.writers import open_writers


def fake_service(name, monkeypatch):
  """Replaces the package `name`; returns the list of its calls."""
  calls = []
  module = types.ModuleType(name)
  module.init = lambda **options: calls.append(("init", options))
  module.log = lambda scalars, step: calls.append(("log", step, scalars))
  module.finish = lambda: calls.append(("finish",))
  monkeypatch.setitem(sys.modules, name, module)
  return calls


@pytest.fixture
def service(monkeypatch):
  return fake_service("wandb", monkeypatch)


def test_scalars_reach_the_service_and_the_log(service, tmp_path):
  workdir = tmp_path / "run7"
  workdir.mkdir()
  tracker = Tracker(workdir, writers=open_writers(("wandb",), workdir, {"seed": 3}))
  tracker.write(5, {"train/loss": 0.5, "note": "text"})
  tracker.close()
  (_, options), log, finish = service
  assert options["name"] == "run7" and options["config"] == {"seed": 3}
  assert log == ("log", 5, {"train/loss": 0.5}) and finish == ("finish",)
  assert "train/loss" in (workdir / "metrics.jsonl").read_text()


def test_tensorboard_files_are_written(tmp_path):
  tracker = Tracker(tmp_path, writers=open_writers(("tensorboard",), tmp_path, {}))
  tracker.write(1, {"train/loss": 0.5})
  tracker.close()
  assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_runs_of_different_experiments_differ_and_resumed_runs_continue(
  name, tmp_path, monkeypatch
):
  calls = fake_service(name, monkeypatch)

  def identity(workdir):
    calls.clear()
    workdir.mkdir(parents=True, exist_ok=True)
    run_name = f"{workdir.parent.name}/{workdir.name}"
    for writer in open_writers((name,), workdir, {}, run_name=run_name):
      writer.close()
    options = calls[0][1]
    assert options["name"].startswith(run_name) and options["resume"] == "allow"
    # Weights & Biases identifies a run by its id, Trackio by its name.
    return options["id"] if name == "wandb" else options["name"]

  first, second = tmp_path / "raf/fold1", tmp_path / "samm/fold1"
  before = identity(first)
  assert identity(second) != before and identity(first) == before
  # The same path on another machine is another run.
  shutil.move(first, tmp_path / "elsewhere/raf/fold1")
  assert identity(first) != before
  assert identity(tmp_path / "elsewhere/raf/fold1") == before


def test_damaged_run_id_is_replaced(service, tmp_path):
  (tmp_path / writers.RUN_ID_FILE).write_text("{")
  assert writers.run_id(tmp_path) == writers.run_id(tmp_path) != ""


def test_unknown_or_missing_services_are_named(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match="some of tensorboard, wandb, trackio"):
    open_writers(("tensorbored",), tmp_path, {})
  monkeypatch.setitem(sys.modules, "trackio", None)
  with pytest.raises(ValueError, match="pip install trackio"):
    open_writers(("trackio",), tmp_path, {})
