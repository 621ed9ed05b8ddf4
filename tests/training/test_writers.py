"""Where learning curves go besides metrics.jsonl."""

import sys
import types

import pytest

from jax_me.training.logging.metrics_log import Tracker
from jax_me.training.logging.writers import open_writers


@pytest.fixture
def service(monkeypatch):
  """A made-up wandb that notes what it is told."""
  told = []
  module = types.ModuleType("wandb")
  module.init = lambda **options: told.append(("init", options))
  module.log = lambda scalars, step: told.append(("log", step, scalars))
  module.finish = lambda: told.append(("finish",))
  monkeypatch.setitem(sys.modules, "wandb", module)
  return told


def test_scalars_reach_the_service_and_the_log(service, tmp_path):
  workdir = tmp_path / "run7"
  workdir.mkdir()
  tracker = Tracker(workdir, writers=open_writers(("wandb",), workdir, {"seed": 3}))
  tracker.write(5, {"train/loss": 0.5, "note": "text"})
  tracker.close()
  (_, options), log, finish = service
  assert options["id"] == "run7" and options["config"] == {"seed": 3}
  assert log == ("log", 5, {"train/loss": 0.5}) and finish == ("finish",)
  assert "train/loss" in (workdir / "metrics.jsonl").read_text()


def test_tensorboard_files_are_written(tmp_path):
  tracker = Tracker(tmp_path, writers=open_writers(("tensorboard",), tmp_path, {}))
  tracker.write(1, {"train/loss": 0.5})
  tracker.close()
  assert list((tmp_path / "tensorboard").glob("events*"))


def test_unknown_or_missing_services_are_named(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match="some of tensorboard, wandb, trackio"):
    open_writers(("tensorbored",), tmp_path, {})
  monkeypatch.setitem(sys.modules, "trackio", None)
  with pytest.raises(ValueError, match="pip install trackio"):
    open_writers(("trackio",), tmp_path, {})
