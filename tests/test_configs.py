"""Every shipped recipe: complete, locked, possible."""

import pathlib

import pytest
from flax import nnx

from jax_me.data.augment import Augmentation
from jax_me.models.catalog import create_model
from jax_me.training import settings

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
NO_RECIPES = ("__init__", "common", "families")
RECIPES = sorted(p.name for p in CONFIGS.glob("*.py") if p.stem not in NO_RECIPES)
VARIANTS = [
  *RECIPES,
  "finetune_images.py:vit_small_patch16",
  "finetune_images.py:t2t_vit_7",
  "finetune_images.py:convnextv2_atto",
  "mae_images.py:fcmae_convnextv2_atto",
  "mae_affectnet.py:tiny",
  "fcmae_affectnet.py:atto",
  *(
    f"finetune_{dataset}.py:{model}"
    for dataset in ("rafdb", "ferplus", "affectnet")
    for model in ("vit_small_patch16", "convnextv2_base", "t2t_vit_14")
  ),
  "finetune_affectnet.py:vit_base_patch16,7",
  "t2t_imagenet_style.py:t2t_vit_19",
  "mae_affectnet.py:demo",
]


@pytest.mark.parametrize("recipe", VARIANTS)
def test_recipe_can_be_run(recipe):
  config = settings.load_recipe(str(CONFIGS / recipe))
  settings.check(config)
  assert config.is_locked
  Augmentation(**config.augment.to_dict())
  arguments = config.model.arguments.to_dict()
  model = nnx.eval_shape(
    lambda: create_model(
      config.model.name, rngs=nnx.Rngs(0), image_size=config.model.image_size, **arguments
    )
  )
  assert isinstance(model, nnx.Module)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_opens_with_its_command(recipe):
  text = (CONFIGS / recipe).read_text()
  assert f"python run.py --config configs/{recipe}" in text.split('"""')[1]


def test_unknown_setting_names_the_nearest():
  config = settings.load_recipe(str(CONFIGS / "quickstart.py"))
  with pytest.raises(settings.SettingsError, match="did you mean data.holdout"):
    settings.check_names(["--config.data.holdot=3"], config)
  with pytest.raises(settings.SettingsError, match="optimizer.weight_decay"):
    settings.check_names(["--config.weight_decay=3"], config)
  with pytest.raises(AttributeError, match="Did you mean"):
    config.optimizer.wieght_decay = 1


def test_open_sections_take_new_keys():
  config = settings.load_recipe(str(CONFIGS / "quickstart.py"))
  rest, extra = settings.take_open_overrides(
    ["run.py", "--config.model.arguments.drop_path_rate=0.1", "--config.seed=1"]
  )
  settings.apply(config, extra)
  assert rest == ["run.py", "--config.seed=1"]
  assert config.model.arguments.drop_path_rate == 0.1


def test_all_problems_are_told_at_once():
  config = settings.load_recipe(str(CONFIGS / "quickstart.py"))
  config.task, config.precision, config.batch_size = "sing", "float8", 0
  with pytest.raises(settings.SettingsError, match="task.*precision.*batch_size"):
    settings.check(config)


@pytest.mark.parametrize("recipe", ["nothing.py", "common.py", "families.py"])
def test_no_recipe_is_said_so(recipe):
  with pytest.raises(settings.SettingsError, match="no recipe"):
    settings.load_recipe(str(CONFIGS / recipe))
