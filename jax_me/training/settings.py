"""Settings of a run: command-line overrides and validation."""

import ast
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

TASKS = ("classify", "mae")
PRECISIONS = ("float32", "bfloat16")
SELECTS = ("final", "train")
SPLITS = ("kfold", "step", "loso", "lodo", "holdout", "official", "none")
PARALLEL = ("auto", "vmap", "map", "off")

# Sections whose keys depend on the model or dataset; the command line may add keys to them.
OPEN_SECTIONS = ("model.arguments", "data.options")


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


def _parse_value(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def take_open_overrides(
  arguments: Sequence[str],
) -> tuple[list[str], dict[str, object]]:
  """Separates `--config.model.arguments.x=v` and `--config.data.options.x=v` from the rest.

  Returns:
    the other arguments, and {dotted key: value}; a value is a Python literal, else text.
  """
  rest: list[str] = []
  found: dict[str, object] = {}
  for argument in arguments:
    name, equals, text = argument.partition("=")
    key = name.removeprefix("--config.")
    if equals and key != name and key.startswith(tuple(f"{s}." for s in OPEN_SECTIONS)):
      found[key] = _parse_value(text)
    else:
      rest.append(argument)
  return rest, found


def check_names(arguments: Sequence[str], config: ConfigDict) -> None:
  """Checks that every `--config.<key>` is a setting.

  Raises:
    SettingsError: it is not; the message has the nearest settings.
  """
  known = dotted_keys(config)
  for argument in arguments:
    name = argument.partition("=")[0]
    key = name.removeprefix("--config.")
    if key == name or key in known:
      continue
    # Also finds a key without its section: learning_rate -> optimizer.learning_rate.
    by_leaf = {k.rsplit(".", 1)[-1]: k for k in known}
    near = difflib.get_close_matches(key, known, n=2, cutoff=0.6)
    near += [by_leaf[k] for k in difflib.get_close_matches(key.rsplit(".", 1)[-1], by_leaf, n=2)]
    hint = f"did you mean {', '.join(dict.fromkeys(near))}?" if near else "see configs/common.py"
    raise SettingsError(f"there is no setting {key!r}; {hint}")


def apply(config: ConfigDict, overrides: Mapping[str, object]) -> None:
  """Sets dotted keys, including new ones (of open sections)."""
  for key, value in overrides.items():
    section, _, leaf = key.rpartition(".")
    node = config
    for part in section.split("."):
      node = node[part]
    with node.unlocked():
      node[leaf] = value


def override(config: ConfigDict, arguments: Sequence[str]) -> None:
  """Applies command-line overrides as `run.py` does.

  Args:
    config: a recipe, changed in place.
    arguments: `--config.<key>=<value>` or `--config.<key> <value>`, nothing else.

  Raises:
    SettingsError: an unknown setting, or a value of the wrong type.
  """
  joined: list[str] = []
  for argument in arguments:
    if joined and not argument.startswith("--") and "=" not in joined[-1]:
      joined[-1] += f"={argument}"
    elif argument.startswith("--config."):
      joined.append(argument)
    else:
      raise SettingsError(f"unknown argument {argument!r}; a setting is --config.<key>=<value>")
  rest, extra = take_open_overrides(joined)
  check_names(rest, config)
  for argument in rest:
    name, equals, text = argument.partition("=")
    key = name.removeprefix("--config.")
    value = {"true": True, "false": False}.get(text.lower(), _parse_value(text)) if equals else True
    try:
      config.update_from_flattened_dict({key: value})
    except (TypeError, ValueError) as error:
      raise SettingsError(f"{key}={text!r}: {error}") from None
  apply(config, extra)


def check(config: ConfigDict) -> None:
  """Validates all settings.

  Raises:
    SettingsError: invalid values; the message has all of them.
  """
  # Imported here: it loads JAX, for which `--help` need not wait.
  from jax_me.training.schedule import SCHEDULES

  problems = []

  def require(condition: bool, message: str) -> None:
    if not condition:
      problems.append(message)

  require(config.task in TASKS, f"task must be one of {TASKS}, got {config.task!r}")
  require(
    config.precision in PRECISIONS,
    f"precision must be one of {PRECISIONS}, got {config.precision!r}",
  )
  require(
    config.data.split in SPLITS, f"data.split must be one of {SPLITS}, got {config.data.split!r}"
  )
  require(config.batch_size > 0, f"batch_size must be positive, got {config.batch_size}")
  require(config.accum_steps > 0, f"accum_steps must be positive, got {config.accum_steps}")
  if config.batch_size > 0 and config.accum_steps > 0:
    require(
      config.batch_size % config.accum_steps == 0,
      f"accum_steps={config.accum_steps} must divide batch_size={config.batch_size}",
    )
  require(
    config.steps > 0 or config.epochs > 0,
    f"epochs or steps must be positive, got epochs={config.epochs} steps={config.steps}",
  )
  require(
    0 <= config.label_smoothing < 1, f"label_smoothing is in [0, 1), got {config.label_smoothing}"
  )
  require(0 <= config.ema_decay < 1, f"ema_decay is in [0, 1), got {config.ema_decay}")
  require(
    0 < config.mae.mask_ratio < 1, f"mae.mask_ratio is in (0, 1), got {config.mae.mask_ratio}"
  )
  require(
    config.checkpoint_steps > 0, f"checkpoint_steps is positive, got {config.checkpoint_steps}"
  )
  require(config.log_steps > 0, f"log_steps must be positive, got {config.log_steps}")
  require(config.keep_checkpoints > 0, "keep_checkpoints must be at least 1")
  require(
    config.optimizer.schedule in SCHEDULES,
    f"optimizer.schedule must be one of {SCHEDULES}, got {config.optimizer.schedule!r}",
  )
  require(
    (config.optimizer.schedule == "step") == bool(config.optimizer.milestones),
    'optimizer.milestones belong to optimizer.schedule="step", which needs at least one',
  )
  require(
    len(config.data.mean) in (0, 3) and len(config.data.std) == len(config.data.mean),
    "data.mean and data.std must both be empty or have three values",
  )
  problems += _selection_problems(config)
  problems += _augmentation_problems(config)
  require(
    config.folds.parallel in PARALLEL,
    f"folds.parallel must be one of {PARALLEL}, got {config.folds.parallel!r}",
  )
  require(config.folds.chunk >= 0, f"folds.chunk must be 0 or more, got {config.folds.chunk}")
  if config.data.split in ("kfold", "step"):
    require(config.data.folds >= 2, f"data.folds must be at least 2, got {config.data.folds}")
  if problems:
    raise SettingsError("; ".join(problems))


def _selection_problems(config: ConfigDict) -> list[str]:
  """Problems of the settings `select` and `select_holdout`."""
  select, problems = config.select, []
  if select not in SELECTS:
    problem = f"select must be one of {SELECTS}, got {select!r}"
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

  problems = []
  supervised = []  # Settings that need labels or images without holes.
  try:
    erasing = Augmentation(**config.augment).has_erasing
    supervised += ["augment.erase_prob and augment.cutout"] * erasing
  except (ValueError, TypeError) as error:
    problems.append(str(error))
  try:
    supervised += ["mixing"] * MixupSettings(**config.mixing).active
  except (ValueError, TypeError) as error:
    problems.append(str(error))
  weights = config.class_weights
  if weights != "balanced":
    if not isinstance(weights, tuple | list) or not all(_is_weight(w) for w in weights):
      problems.append(
        'class_weights must be empty, "balanced" or one number per class, 0 or more; got '
        f"{weights!r}"
      )
    elif weights and not any(weights):
      problems.append("class_weights must not all be 0")
  supervised += ["class_weights"] * bool(weights)
  if config.task == "mae":
    problems += [f"{name} must be off when task is mae" for name in supervised]
  return problems


def _is_weight(value: object) -> bool:
  return isinstance(value, int | float) and 0 <= value < float("inf")
