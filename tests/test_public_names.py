"""Public names against the checked-in list `public_names.json`; a removal is then a decision.

After a deliberate change: `python -m tests.test_public_names` writes the list again.
"""

import argparse
import dataclasses
import importlib
import inspect
import json
import pathlib

from absl import flags

LIST = pathlib.Path(__file__).resolve().parent / "public_names.json"
# Modules whose names users and their scripts rely on.
MODULES = (
  "jax_me",
  "jax_me.models",
  "jax_me.faces.alignment",
  "jax_me.data.folds",
  "jax_me.data.labels",
  "jax_me.data.index",
  "jax_me.datasets.catalog",
  "jax_me.evaluation.metrics",
  "jax_me.evaluation.predictions",
  "jax_me.evaluation.spotting_scores",
  "jax_me.evaluation.summary",
  "jax_me.inference.predictor",
  "jax_me.inference.results",
  "convert.torch_to_flax",
  "convert.flax_to_torch",
)


def names_of(module_name: str) -> dict[str, list[str]]:
  """Public functions, constants and classes of a module -> parameters, or attributes of a class."""
  module = importlib.import_module(module_name)
  found = {}
  for name, value in vars(module).items():
    if name.startswith("_") or inspect.ismodule(value):
      continue
    home = getattr(value, "__module__", module_name)
    # A package may export what its modules hold.
    if home != module_name and not (hasattr(module, "__path__") and str(home).startswith("jax_me")):
      continue
    if inspect.isclass(value):
      fields = (
        [f.name for f in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []
      )
      members = {m for m in vars(value) if not m.startswith("_")}
      found[name] = sorted(members.union(fields))
    elif inspect.isfunction(value):
      found[name] = list(inspect.signature(value).parameters)
    elif name.isupper():
      found[name] = sorted(value) if isinstance(value, dict) else []
  return dict(sorted(found.items()))


def command_options() -> dict[str, list[str]]:
  """Every command of `jax-me` -> its options and positional arguments."""
  from jax_me.__main__ import COMMANDS

  found = {}
  for name, command in COMMANDS.items():
    module = command.load()
    if not hasattr(module, "configure"):
      declared = flags.FLAGS.flags_by_module_dict()[module.__name__]
      found[name] = sorted(f"--{flag.name}" for flag in declared)
      continue
    parser = argparse.ArgumentParser(add_help=False)
    module.configure(parser)
    found[name] = sorted(_options(parser))
  return found


def _options(parser: argparse.ArgumentParser, prefix: str = "") -> list[str]:
  options = []
  for action in parser._actions:
    if isinstance(action, argparse._SubParsersAction):
      for name, nested in action.choices.items():
        options += _options(nested, f"{prefix}{name} ")
    else:
      options += [prefix + text for text in action.option_strings or [action.dest]]
  return [option for option in options if not option.endswith(("-h", "--help"))]


def public_names() -> dict:
  from jax_me.training.recipes import load_recipe, recipe_names
  from jax_me.training.settings import dotted_keys

  return {
    "modules": {module: names_of(module) for module in MODULES},
    "commands": command_options(),
    "recipes": recipe_names(),
    "settings": sorted(dotted_keys(load_recipe("quickstart"))),
  }


def test_public_names_are_those_of_the_list():
  listed, found = json.loads(LIST.read_text(encoding="utf-8")), public_names()
  assert found == listed, "run `python -m tests.test_public_names` if this change is deliberate"


if __name__ == "__main__":
  LIST.write_text(json.dumps(public_names(), indent=1) + "\n", encoding="utf-8")
