"""Learning rate and weight decay of every parameter and step of short runs, against the originals.

tests/golden/recipe_schedules.json was recorded with the schedulers and parameter groups of the
original projects (timm's scheduler from 1.0.31), for the parameters of the full models.
"""

import functools
import json
import pathlib

import numpy as np
import pytest

from jax_me.training import recipes
from jax_me.training.param_groups import FROZEN_MODULES, decays, learning_rate_scales
from jax_me.training.schedule import make_schedule, peak_learning_rate
from jax_me.training.state import RunParameters
from tests.helpers.precision import float64
from tests.training.test_schedule import nested, our_path

TESTS = pathlib.Path(__file__).resolve().parents[1]
RECORD = json.loads((TESTS / "golden" / "recipe_schedules.json").read_text())
# Lengths of the recorded runs that differ from the recipe's.
SHORT = {
  "mae_affectnet": {"warmup_epochs": 2.0},
  "fcmae_affectnet": {"warmup_epochs": 2.0},
  "finetune_rafdb.py:convnextv2_base": {"warmup_epochs": 2.0},
  "t2t_imagenet_style": {"warmup_epochs": 3.0, "cosine_epochs": 10.0},
}


@functools.cache
def recipe_of(name):
  path, _, argument = name.partition(":")
  file = TESTS.parent / "configs" / f"{path.removesuffix('.py')}.py"
  config = recipes.load_recipe(f"{file}:{argument}" if argument else str(file))
  with config.unlocked():
    config.optimizer.update(SHORT.get(name, {}))
  return config


def rates_of(name, record):
  """{factor of the peak or of the rate: rates of all steps} as in a run of the recipe."""
  config = recipe_of(name)
  optimizer, epoch = config.optimizer, record["epoch_steps"]
  total = record["epochs"] * epoch
  parameters = RunParameters(
    seed=0,
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    peak=peak_learning_rate(
      optimizer.learning_rate, optimizer.base_learning_rate, config.batch_size
    ),
    minimum=optimizer.min_learning_rate,
    warmup_steps=round(optimizer.warmup_epochs * epoch),
    total_steps=round(optimizer.cosine_epochs * epoch) or total,
    milestones=tuple(round(m * epoch) for m in optimizer.milestones),
    warmup_start=optimizer.warmup_learning_rate or None,
    cosine_start=0 if optimizer.cosine_start == "run" else None,
    epoch_steps=float(epoch) if optimizer.interval == "epoch" else None,
  ).arrays()
  schedule = make_schedule(optimizer.schedule, gamma=optimizer.gamma)

  @functools.cache
  def rates(factor):
    if optimizer.scale_minimum:
      return factor * np.array([schedule(step, parameters) for step in range(total)])
    scaled = {**parameters, "peak": factor * parameters["peak"]}
    return np.array([schedule(step, scaled) for step in range(total)])

  return rates


@pytest.mark.parametrize("name", RECORD)
def test_rates_and_decay_equal_the_originals(name):
  config, record = recipe_of(name), RECORD[name]
  groups = record["groups"]
  paths = {key: our_path(key) for group in groups for key in group["names"]}
  optimizer, phase = config.optimizer, "pretrain" if config.task == "mae" else "finetune"
  factors = learning_rate_scales(
    nested(paths.values()), optimizer.layer_decay, optimizer.layer_decay_type
  )
  frozen = FROZEN_MODULES[config.freeze]
  with float64():
    rates = rates_of(name, record)
    for group in groups:
      for key in group["names"]:
        path = paths[key]
        assert path.split(".")[0] not in frozen, key
        decay = optimizer.weight_decay * (optimizer.decay_all or decays(path, phase))
        assert decay == group["weight_decay"], key
        np.testing.assert_allclose(rates(factors[path]), group["lr"], rtol=1e-9, atol=1e-18)


def test_transfer_trains_what_the_original_trains():
  trained = {
    key.split(".")[0]
    for group in RECORD["finetune_rafdb.py:t2t_vit_14"]["groups"]
    for key in group["names"]
  }
  assert trained == {"tokens_to_token", "blocks", "head"}
  assert FROZEN_MODULES["token_and_norm"] == ("cls_token", "norm")
