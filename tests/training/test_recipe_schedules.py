"""Every step of the originals' training loops: learning rate, weight decay and loss.

tests/golden/recipe_schedules.json was recorded by tests/golden/recipes/record.py, which runs the
programs of the original projects on a CPU.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.models.model_folder import split_model
from jax_me.models.registry import abstract_rngs, create_model
from jax_me.training import program, recipes
from jax_me.training.param_groups import FROZEN_MODULES, decays, learning_rate_scales
from jax_me.training.schedule import make_schedule, peak_learning_rate
from jax_me.training.sharding import make_mesh
from jax_me.training.state import RunParameters
from tests.helpers.fcmae_reference import sparse_location
from tests.helpers.golden_cases import fill_model, flax_location
from tests.helpers.precision import float64
from tests.helpers.recipe_loops import (
  loop_images,
  loop_labels,
  loop_noise,
  loop_weights,
  recorded_loops,
)
from tests.training.test_schedule import nested, our_path
from tests.training.test_trajectories import locate_t2t, no_augmentation

TESTS = pathlib.Path(__file__).resolve().parents[1]
RECIPES = (
  "mae_affectnet",
  "fcmae_affectnet",
  "finetune_rafdb",
  "finetune_ferplus",
  "finetune_affectnet",
  "finetune_rafdb.py:convnextv2_base",
  "finetune_rafdb.py:t2t_vit_14",
  "t2t_imagenet_style",
  "t2t_microexpression",
)
# Lengths of the recorded runs that differ from the recipe's.
SHORT = {
  "mae_affectnet": {"warmup_epochs": 2.0},
  "fcmae_affectnet": {"warmup_epochs": 2.0},
  "finetune_rafdb.py:convnextv2_base": {"warmup_epochs": 2.0},
  "t2t_imagenet_style": {"warmup_epochs": 3.0, "cosine_epochs": 10.0},
}
# Steps after which a recipe differs on purpose: torch's cosine rises again after 20 epochs of 2.
DIFFERS_AFTER = {"t2t_microexpression": 40}
VIT = {"patch_size": 8, "embed_dim": 24, "num_heads": 3, "mlp_ratio": 2.0}
DECODER = {"decoder_embed_dim": 16, "decoder_num_heads": 2}
CONVNEXT = {"dims": (8, 8, 16, 16)}
T2T = {"embed_dim": 24, "num_heads": 3, "token_dim": 8, "drop_path_rate": 0.0, "token_drop_rate": 0}
# Arguments of the small models of the record. The sum over a batch in FCMAE's norm is the
# difference that the recipe names.
SMALL = {
  "mae_affectnet": {**VIT, **DECODER},
  "fcmae_affectnet": {**CONVNEXT, "decoder_embed_dim": 16, "grn": "batch"},
  "finetune_rafdb": VIT,
  "finetune_ferplus": VIT,
  "finetune_affectnet": {**VIT, "drop_path_rate": 0.0},
  "finetune_rafdb.py:convnextv2_base": {**CONVNEXT, "drop_path_rate": 0.0},
  "finetune_rafdb.py:t2t_vit_14": T2T,
  "t2t_imagenet_style": T2T,
  "t2t_microexpression": T2T,
}
COMPARED_LOSSES = 10


def recipe_of(name):
  path, _, argument = name.partition(":")
  file = TESTS.parent / "configs" / f"{path.removesuffix('.py')}.py"
  config = recipes.load_recipe(f"{file}:{argument}" if argument else str(file))
  with config.unlocked():
    config.optimizer.update(SHORT.get(name, {}))
  return config


def run_parameters(config, record):
  """Those of a run of the recipe with the recorded number of steps; images are not normalised."""
  optimizer, epoch = config.optimizer, record["epoch_steps"]
  return RunParameters(
    seed=0,
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
    peak=peak_learning_rate(
      optimizer.learning_rate, optimizer.base_learning_rate, config.batch_size
    ),
    minimum=optimizer.min_learning_rate,
    warmup_steps=round(optimizer.warmup_epochs * epoch),
    total_steps=round(optimizer.cosine_epochs * epoch) or record["epochs"] * epoch,
    milestones=tuple(round(m * epoch) for m in optimizer.milestones),
    warmup_start=optimizer.warmup_learning_rate or None,
    cosine_start=0 if optimizer.cosine_start == "run" else None,
    epoch_steps=float(epoch) if optimizer.interval == "epoch" else None,
  ).arrays()


def rates_of(config, record):
  """{factor of the peak or of the rate: rates of all steps} as in a run of the recipe."""
  optimizer = config.optimizer
  parameters = run_parameters(config, record)
  schedule = make_schedule(optimizer.schedule, gamma=optimizer.gamma)
  steps = range(record["epochs"] * record["epoch_steps"])

  @functools.cache
  def rates(factor):
    if optimizer.scale_minimum:
      return factor * np.array([schedule(step, parameters) for step in steps])
    scaled = {**parameters, "peak": factor * parameters["peak"]}
    return np.array([schedule(step, scaled) for step in steps])

  return rates


def test_all_recorded_recipes_are_compared():
  assert recorded_loops().keys() == set(RECIPES) == SMALL.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_rates_and_decay_equal_the_originals(name):
  config, record = recipe_of(name), recorded_loops()[name]
  groups = record["groups"]
  paths = {key: our_path(key) for group in groups for key in group["names"]}
  optimizer, phase = config.optimizer, "pretrain" if config.task == "mae" else "finetune"
  factors = learning_rate_scales(
    nested(paths.values()), optimizer.layer_decay, optimizer.layer_decay_type
  )
  frozen = FROZEN_MODULES[config.freeze]
  last = DIFFERS_AFTER.get(name)
  with float64():
    rates = rates_of(config, record)
    for group in groups:
      for key in group["names"]:
        path = paths[key]
        assert path.split(".")[0] not in frozen, key
        decay = optimizer.weight_decay * (optimizer.decay_all or decays(path, phase))
        assert decay == group["weight_decay"], key
        np.testing.assert_allclose(
          rates(factors[path])[:last], group["lr"][:last], rtol=1e-9, atol=1e-18
        )


def test_transfer_trains_what_the_original_trains():
  trained = {
    key.split(".")[0]
    for group in recorded_loops()["finetune_rafdb.py:t2t_vit_14"]["groups"]
    for key in group["names"]
  }
  assert trained == {"tokens_to_token", "blocks", "head"}
  assert FROZEN_MODULES["token_and_norm"] == ("cls_token", "norm")


def test_rate_of_micro_expressions_rises_again_in_the_original_only():
  (group,) = recorded_loops()["t2t_microexpression"]["groups"]
  assert group["lr"][-1] == pytest.approx(0.42 * group["lr"][0], rel=0.01)
  rates = rates_of(recipe_of("t2t_microexpression"), recorded_loops()["t2t_microexpression"])(1.0)
  np.testing.assert_allclose(rates[40:], 1e-9, rtol=1e-4)


def small_recipe(name, record):
  """The recipe with the recorded model, in float64, without random operations."""
  config = recipe_of(name)
  with config.unlocked():
    config.accum_steps = record["accum_steps"]
    config.precision = "float64"
    config.model.image_size = record["side"]
    config.model.arguments.update({**SMALL[name], "param_dtype": "float64"})
    config.mixing.update({"mixup_alpha": 0.0, "cutmix_alpha": 0.0})
    config.augment.erase_prob = 0.0
  return config


def loop_batch(record, step, patches):
  """The batch of an optimiser step: its microbatches are strided parts of it."""
  numbers = range(step * record["accum_steps"], (step + 1) * record["accum_steps"])
  epoch = record["accum_steps"] * record["epoch_steps"]
  count = record["images"]

  def joined(parts):
    parts = np.stack(list(parts), 1)
    return parts.reshape(-1, *parts.shape[2:])

  images = joined(loop_images(n % epoch, count, record["side"]) for n in numbers)
  batch = {"image": images.transpose(0, 2, 3, 1), "mask": np.ones(len(images), bool)}
  if patches:
    return {**batch, "noise": joined(loop_noise(n, (count, patches)) for n in numbers)}
  labels = joined(loop_labels(n % epoch, count, record["classes"]) for n in numbers)
  return {**batch, "label": labels.astype(np.int32)}


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", RECIPES)
def test_first_losses_equal_the_originals(name, monkeypatch):
  record = recorded_loops()[name]
  config = small_recipe(name, record)
  config.scan_layers = True  # Compiles a block once; see tests/models/test_block_stack.py.
  monkeypatch.setattr(program, "make_augmentation", lambda *arguments: no_augmentation)
  locate = flax_location
  if "t2t" in name:
    locate = locate_t2t
  elif name.startswith("fcmae"):
    locate = sparse_location
  patches = {"mae_affectnet": 16, "fcmae_affectnet": 4}.get(name, 0)
  with float64():
    recipe_program, _ = program.make_program(
      config, make_mesh(devices=jax.devices()[:1]), record["classes"]
    )
    arguments = program.model_arguments(config, record["classes"])
    graphdef, filled = fill_model(
      lambda: create_model(
        config.model.name, rngs=abstract_rngs(), **{**arguments, "dtype": jnp.float64}
      ),
      loop_weights(record["shapes"]),
      dtype=np.float64,
      locate=locate,
    )
    _, params, model_state = split_model(nnx.merge(graphdef, filled))
    shapes = recipe_program.abstract_state()
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    assert jax.tree.map(jnp.shape, state["params"]) == jax.tree.map(jnp.shape, params)
    state |= {"params": params, "model_state": model_state}
    if "ema" in state:
      state["ema"] = params
    state["run_parameters"] = run_parameters(config, record)
    step = jax.jit(recipe_program.pure_step)
    losses = []
    for number in range(COMPARED_LOSSES):
      state, metrics = step(state, loop_batch(record, number, patches))
      losses.append(float(metrics["loss"]))
  np.testing.assert_allclose(losses, record["losses"][:COMPARED_LOSSES], rtol=1e-9)
