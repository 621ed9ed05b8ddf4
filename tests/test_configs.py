"""Shipped recipes are complete, locked and valid."""

import pathlib

import jax
import numpy as np
import pytest
from flax import nnx

from jax_me.data.augment.augmentation import Augmentation
from jax_me.models.registry import create_abstract_model
from jax_me.training import recipes, settings
from jax_me.training.program import make_program
from jax_me.training.sharding import make_mesh, shard_batch
from jax_me.training.state import RunParameters, initial_key

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
NO_RECIPES = ("__init__", "common", "families", "leave_one_out")
RECIPES = sorted(p.name for p in CONFIGS.glob("*.py") if p.stem not in NO_RECIPES)
VARIANTS = [
  *RECIPES,
  "finetune_images.py:vit_small_patch16",
  "finetune_images.py:t2t_vit_7",
  "finetune_images.py:convnextv2_atto",
  "mae_images.py:fcmae_convnextv2_atto",
  "mae_affectnet.py:tiny",
  "fcmae_affectnet.py:atto",
  "fcmae_affectnet.py:base,1600",
  "finetune_ferplus.py:vit_base_patch16,layer_decay",
  *(
    f"finetune_{dataset}.py:{model}"
    for dataset in ("rafdb", "ferplus", "affectnet")
    for model in ("vit_small_patch16", "convnextv2_base", "t2t_vit_14")
  ),
  *(
    f"finetune_fer2013.py:{model}"
    for model in (
      "shallow_cnn",
      "vit_tiny_patch16",
      "t2t_vit_7",
      "convnextv2_atto",
      "shallow_resnet,second",
      "vit_tiny_patch16,pretraining",
    )
  ),
  "finetune_affectnet.py:vit_base_patch16,7",
  "t2t_imagenet_style.py:t2t_vit_19",
  "mae_affectnet.py:demo",
  "loso_megc2019.py:vit_tiny_patch16,dynamic",
  "loso_megc2019.py:convnextv2_atto,apex",
  "loso_casme2.py:,pair",
  "loso_demo.py:t2t_vit_7,flow",
  "loso_images.py:rgb,convnextv2_atto",
  "loso_images.py:flow,vit_tiny_patch16",
  "loso_images.py:flow,t2t_vit_7",
]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", VARIANTS)
def test_recipe_is_valid(recipe):
  config = recipes.load_recipe(str(CONFIGS / recipe))
  settings.check(config)
  assert config.is_locked
  Augmentation(**config.augment.to_dict())
  arguments = config.model.arguments.to_dict()
  model = create_abstract_model(config.model.name, image_size=config.model.image_size, **arguments)
  assert isinstance(model, nnx.Module)


# Prefix of model names -> arguments for a model that is small enough for a test.
SMALL = {
  "mae_vit_": dict(
    patch_size=8, embed_dim=24, depth=1, num_heads=2, decoder_embed_dim=16, decoder_depth=1
  ),
  "vit_": dict(patch_size=8, embed_dim=24, depth=1, num_heads=2),
  "t2t_vit_": dict(embed_dim=24, depth=1, num_heads=2, token_dim=8),
  "convnextv2_": dict(depths=(1, 1, 1, 1), dims=(4, 6, 8, 10)),
  "shallow_resnet": dict(widths=(4, 6), depths=(1, 1)),
  "shallow_": dict(widths=(4, 6)),
  "fcmae_": dict(depths=(1, 1, 1, 1), dims=(4, 6, 8, 10), decoder_embed_dim=12),
}
RUN = [
  *RECIPES,
  "finetune_rafdb.py:convnextv2_base",
  "finetune_rafdb.py:t2t_vit_14",
]


def shrunk(recipe):
  config = recipes.load_recipe(str(CONFIGS / recipe))
  small = next(value for name, value in SMALL.items() if config.model.name.startswith(name))
  with config.unlocked():
    config.model.arguments.update(small)
    config.model.image_size = 64 if config.model.name.startswith("fcmae_") else 32
    config.batch_size = 4 * config.accum_steps
  settings.check(config)
  return config


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RUN)
def test_shrunk_recipe_trains_for_two_steps(recipe):
  config = shrunk(recipe)
  mesh = make_mesh(1, jax.devices()[:1])
  program, _ = make_program(config, mesh, classes=3)
  state = program.create(initial_key(0))
  run_parameters = RunParameters(
    seed=0,
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
    peak=1e-3,
    minimum=0.0,
    warmup_steps=0,
    total_steps=4,
    milestones=tuple(config.optimizer.milestones),
  )
  state["run_parameters"] = program.put_run_parameters(run_parameters)
  rng = np.random.default_rng(0)
  rows, size = config.batch_size, config.model.image_size
  for number in range(2):
    batch = {
      "image": rng.integers(0, 256, (rows, size, size, 3), np.uint8),
      "label": rng.integers(0, 3, rows).astype(np.int32),
      "mask": np.ones(rows, bool),
      "index": np.arange(rows, dtype=np.int32),
    }
    state, metrics = program.step(state, shard_batch(batch, mesh))
    assert np.isfinite(float(metrics["loss"])) and not float(metrics["skipped"]), number
  assert int(state["step"]) == 2


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_docstring_has_its_command(recipe):
  text = (CONFIGS / recipe).read_text()
  assert f"python run.py --config configs/{recipe}" in text.split('"""')[1]


def test_message_of_an_unknown_setting_has_the_nearest():
  config = recipes.load_recipe(str(CONFIGS / "quickstart.py"))
  with pytest.raises(settings.SettingsError, match="did you mean data.holdout"):
    settings.override(config, ["--config.data.holdot=3"])
  with pytest.raises(settings.SettingsError, match="optimizer.weight_decay"):
    settings.override(config, ["--config.weight_decay=3"])
  with pytest.raises(AttributeError, match="Did you mean"):
    config.optimizer.wieght_decay = 1


def test_open_sections_accept_new_keys():
  config = recipes.load_recipe(str(CONFIGS / "quickstart.py"))
  settings.override(
    config,
    [
      "--config.model.arguments.drop_path_rate=0.1",
      "--config.model.arguments.grn=batch",
      "--config.data.options.classes=3",
      "--config.seed=1",
    ],
  )
  assert config.seed == 1 and config.data.options.classes == 3
  assert config.model.arguments.drop_path_rate == 0.1 and config.model.arguments.grn == "batch"
  assert config.is_locked and config.model.arguments.is_locked
  with pytest.raises(settings.SettingsError, match="unknown argument '3'; a setting is --config"):
    settings.override(config, ["--config.data.options.subjects", "3"])


def test_message_has_all_problems():
  config = recipes.load_recipe(str(CONFIGS / "quickstart.py"))
  config.task, config.precision, config.batch_size = "sing", "float8", 0
  with pytest.raises(settings.SettingsError, match="task.*batch_size.*precision"):
    settings.check(config)


@pytest.mark.parametrize("recipe", ["nothing.py", "common.py", "families.py", "leave_one_out.py"])
def test_other_files_are_no_recipes(recipe):
  with pytest.raises(settings.SettingsError, match="no recipe"):
    recipes.load_recipe(str(CONFIGS / recipe))


@pytest.mark.parametrize("recipe", ["mae_affectnet", "finetune_rafdb", "quickstart"])
def test_wrong_argument_is_a_settings_error(recipe):
  with pytest.raises(settings.SettingsError, match=f"{recipe}.*argument.*'wrong'"):
    recipes.load_recipe(f"{CONFIGS / recipe}.py:wrong")


def test_wrong_argument_of_another_recipe(tmp_path):
  recipe = tmp_path / "mine.py"
  recipe.write_text("def get_config(size='small'):\n  return {'small': 1}[size]\n")
  with pytest.raises(settings.SettingsError, match="does not accept .*'wrong'.*KeyError 'wrong'"):
    recipes.load_recipe(f"{recipe}:wrong")


def test_unknown_model_is_a_settings_error():
  config = recipes.load_recipe(str(CONFIGS / "loso_demo.py:t2t_vit_70"))
  with pytest.raises(settings.SettingsError, match="unknown model 't2t_vit_70'.*t2t_vit_7"):
    settings.check(config)
