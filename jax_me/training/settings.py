"""Settings of a run: command-line overrides and validation."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jax_me.bundled import import_bundled
from jax_me.training.setting_declaration import Setting

# Part of the message of an error of absl -> the values that the setting takes.
VALUE_ERRORS = {
  "invalid literal for int()": "a whole number",
  "could not convert string to float": "a number",
  "Non-boolean argument": "True or False",
}


class SettingsError(ValueError):
  """An unknown setting or an invalid value."""


def dotted_keys(config: Mapping[str, object] | ConfigDict, prefix: str = "") -> list[str]:
  """Keys of nested settings: ["seed", "model.name", ...]."""
  keys = []
  for key, value in config.items():
    if isinstance(value, Mapping | ConfigDict):
      keys += dotted_keys(value, f"{prefix}{key}.")
    else:
      keys.append(f"{prefix}{key}")
  return keys


def value_of(config: ConfigDict, key: str) -> Any:
  """The value of a dotted key."""
  for part in key.split("."):
    config = config[part]
  return config


def declared_settings() -> dict[str, Setting]:
  """The declarations of all settings by dotted key (`configs/common.py`)."""
  return import_bundled("configs.common").SETTINGS


def accept_overrides(config: ConfigDict, arguments: Sequence[str]) -> ConfigDict:
  """Unlocks a recipe for `config_flags`, if the command line has no misspelt setting.

  Args:
    config: the recipe.
    arguments: of the command line; those that are no `--config.<key>` are ignored.

  Returns:
    the recipe, to be locked again when the overrides are applied.

  Raises:
    SettingsError: a key is no setting; the message has the nearest settings.
  """
  known = dotted_keys(config)
  is_open = tuple(f"{key}." for key, setting in declared_settings().items() if setting.value == {})
  for argument in arguments:
    key = argument.partition("=")[0].removeprefix("--config.")
    if argument.startswith("--config.") and not key.startswith(is_open) and key not in known:
      near = nearest_settings(key, known)
      hint = f"did you mean {', '.join(near)}?" if near else "`jax-me settings` lists them"
      raise SettingsError(f"there is no setting {key!r}; {hint}")
  return config.unlock()


def nearest_settings(name: str, known: Sequence[str] = ()) -> list[str]:
  """Settings with a similar name; also without its section: learning_rate.

  Args:
    name: misspelt dotted key.
    known: dotted keys of the recipe; all declared settings by default.

  Returns:
    dotted keys, the nearest first.
  """
  known = known or list(declared_settings())
  leaf, by_leaf = name.rsplit(".", 1)[-1], {key.rsplit(".", 1)[-1]: key for key in known}
  exact = [key for key in known if key.rsplit(".", 1)[-1] == leaf]
  if exact:
    return exact
  near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
  near += [by_leaf[key] for key in difflib.get_close_matches(leaf, by_leaf, n=2)]
  return list(dict.fromkeys(near))


def describe_flag_error(error: flags.Error) -> str:
  """The message of an error of absl, which for settings names the values that they take."""
  text = str(error)
  if match := re.match(r"flag --config=[^ ]*: (?=there is no )", text):
    return text.removeprefix(match[0])
  match = re.match(r"flag --config\.([^=]+)=(.*?): ", text, re.DOTALL)
  kind = next((kind for start, kind in VALUE_ERRORS.items() if start in text), "")
  if match is None or not kind:
    return text
  key, value = match.groups()
  declared = declared_settings().get(key)
  numeric = declared is not None and not isinstance(declared.value, bool)
  example = f", for example {declared.value!r}" if declared is not None and numeric else ""
  return f"--config.{key}={value}: {key} takes {kind}{example}"


def override(config: ConfigDict, arguments: Sequence[str]) -> None:
  """Applies command-line overrides as `run.py` does.

  Args:
    config: a recipe, changed in place.
    arguments: `--config.<key>=<value>`, or for settings that the recipe has `--config.<key>
      <value>`; nothing else.

  Raises:
    SettingsError: an unknown setting, or a value of the wrong type.
  """
  line = ["", *arguments]
  accept_overrides(config, arguments)
  flag_values = flags.FlagValues()
  try:
    config_flags.DEFINE_config_dict(
      "config",
      config,
      flag_values=flag_values,
      lock_config=False,
      accept_new_attributes=True,
      sys_argv=line,
    )
    rest = flag_values(line)[1:]
  except flags.UnrecognizedFlagError as error:
    rest = [f"--{error.flagname}"]
  except flags.Error as error:
    raise SettingsError(describe_flag_error(error)) from None
  if rest:
    raise SettingsError(f"unknown argument {rest[0]!r}; a setting is --config.<key>=<value>")
  config.lock()


def check(config: ConfigDict) -> None:
  """Validates all settings.

  Raises:
    SettingsError: invalid values; the message has all of them.
  """
  # Imported here: it loads JAX, for which `--help` need not wait.
  from jax_me.models.registry import MODELS, suggestion

  problems = [
    f"{key} must be {setting.allowed()}, got {value_of(config, key)!r}"
    for key, setting in declared_settings().items()
    if key != "select" and not setting.allows(value_of(config, key))
  ]
  if config.accum_steps > 0 and config.batch_size % config.accum_steps:
    problems.append(f"accum_steps={config.accum_steps} must divide batch_size={config.batch_size}")
  if config.steps <= 0 and config.epochs <= 0:
    problems.append(
      f"epochs or steps must be positive, got epochs={config.epochs} steps={config.steps}"
    )
  if (config.optimizer.schedule == "step") != bool(config.optimizer.milestones):
    problems.append(
      'optimizer.milestones belong to optimizer.schedule="step", which needs at least one'
    )
  if len(config.data.mean) not in (0, 3) or len(config.data.std) != len(config.data.mean):
    problems.append("data.mean and data.std must both be empty or have three values")
  if config.data.split in ("kfold", "step") and config.data.folds < 2:
    problems.append(f"data.folds must be at least 2, got {config.data.folds}")
  if config.freeze and config.task == "mae":
    problems.append("freeze must be empty when task is mae: the backbone is what is trained")
  if config.final == "all" and (config.task == "mae" or config.data.split == "none"):
    problems.append(
      "final=all trains a classifier on everybody after it was tested: it needs task=classify and "
      f"a split with a test side, got task={config.task} data.split={config.data.split}"
    )
  if config.model.name not in MODELS:
    problems.append(
      f"model.name: unknown model {config.model.name!r}{suggestion(config.model.name, MODELS)}"
    )
  if config.eval.resize == "stretch" and config.eval.crop != 1.0:
    problems.append('eval.crop belongs to eval.resize="shortest_edge"')
  if config.eval.resize == "shortest_edge" and config.eval.interpolation == "area":
    problems.append(
      "eval.interpolation must be bilinear or bicubic when eval.resize keeps the ratio"
    )
  problems += _selection_problems(config) + _augmentation_problems(config)
  if problems:
    raise SettingsError("; ".join(problems))


def _selection_problems(config: ConfigDict) -> list[str]:
  """Problems of the settings `select` and `select_holdout`."""
  select, problems = config.select, []
  declared = declared_settings()["select"]
  if not declared.allows(select):
    problem = f"select must be {declared.allowed()}, got {select!r}"
    if any(word in str(select).casefold() for word in ("test", "best", "max", "oracle")):
      problem += (
        ". Weights are never chosen by their score on the test subjects: the best of many test "
        "scores is not a score on unseen people. Published code that keeps each subject's best "
        "epoch reports results that are too high for this reason (arXiv:2211.11425). "
        '"train" selects on training subjects instead'
      )
    problems.append(problem)
  if select == "train":
    if not 0 < config.select_holdout < 1:
      problems.append(f"select_holdout is in (0, 1), got {config.select_holdout}")
    if config.evaluate_epochs <= 0:
      problems.append('select="train" needs evaluations to select from: evaluate_epochs > 0')
    if config.task == "mae":
      problems.append("select must be final when task is mae: there is no score to select by")
  return problems


def _augmentation_problems(config: ConfigDict) -> list[str]:
  """Problems of the settings of augmentation, mixing and class weights."""
  # Imported here, because they import JAX, which would slow down `run.py --help`.
  from jax_me.data.augment.augmentation import Augmentation
  from jax_me.data.augment.mixup import MixupSettings
  from jax_me.training.losses import WEIGHT_RULES

  problems = []
  supervised = []  # Settings that need labels or images without holes.
  try:
    augmentation = Augmentation(**config.augment)
    supervised += ["augment.erase_prob and augment.cutout"] * augmentation.has_erasing
    if augmentation.crops_stored and (config.data.resident == "on" or config.data.read_size):
      problems.append(
        "augment.crop_source=stored crops images while they are decoded: data.resident must not be "
        "on, and data.read_size must be 0"
      )
  except (ValueError, TypeError) as error:
    problems.append(str(error))
  try:
    supervised += ["mixing"] * MixupSettings(**config.mixing).active
  except (ValueError, TypeError) as error:
    problems.append(str(error))
  weights = config.class_weights
  if not (isinstance(weights, str) and weights in WEIGHT_RULES):
    if not isinstance(weights, tuple | list) or not all(_is_weight(w) for w in weights):
      problems.append(
        'class_weights must be empty, "balanced", "conservative" or one number per class, 0 or '
        f"more; got {weights!r}"
      )
    elif weights and not any(weights):
      problems.append("class_weights must not all be 0")
  supervised += ["class_weights"] * bool(weights)
  if config.task == "mae":
    problems += [f"{name} must be off when task is mae" for name in supervised]
  return problems


def _is_weight(value: object) -> bool:
  return isinstance(value, int | float) and 0 <= value < float("inf")
