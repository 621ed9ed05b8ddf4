"""Runs of `run_experiment` on a folder of small random images, for tests of what a run leaves."""

import pathlib

from jax_me.experiment.run import run_experiment
from jax_me.training import recipes, settings

TINY = {
  "data.options.align": False,
  "data.options.size": 16,
  "data.read_size": 16,
  "batch_size": 4,
  "epochs": 2.0,
  "checkpoint_steps": 4,
  "log_steps": 1,
  "trackers": (),
  "model.image_size": 16,
  "model.arguments.patch_size": 8,
  "model.arguments.embed_dim": 24,
  "model.arguments.num_heads": 2,
  "model.arguments.depth": 1,
}


def tiny_recipe(repository: pathlib.Path, source: pathlib.Path, **changes):
  """The recipe finetune_images for images of 16 x 16; "__" in a keyword is "."."""
  config = recipes.load_recipe(str(repository / "configs/finetune_images.py"))
  folders = {"data.manual_dir": source, "data.data_dir": source.parent / "built"}
  values = {**folders, **TINY, **{key.replace("__", "."): v for key, v in changes.items()}}
  settings.override(config, [f"--config.{key}={value}" for key, value in values.items()])
  return config


def tiny_run(repository: pathlib.Path, source: pathlib.Path, workdir: pathlib.Path, **changes):
  """Exit code of a run."""
  return run_experiment(tiny_recipe(repository, source, **changes), workdir=str(workdir))
