"""Commands in the documentation: their recipes, settings and flags exist."""

import argparse
import pathlib
import re

import pytest
from absl import flags

from jax_me.__main__ import COMMANDS, EVALUATE, TRAIN
from jax_me.datasets.catalog import BUILDERS, builder_class
from jax_me.datasets.option_flags import add_option_flags
from jax_me.experiment import cli  # noqa: F401 (declares the flags of `train`)
from jax_me.training import recipes
from jax_me.training.settings import declared_settings, dotted_keys

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
RECIPES = [REPOSITORY / "configs" / f"{name}.py" for name in recipes.recipe_names()]
# A command up to the end of its code span, its line (continued or not), or the next command.
COMMAND = re.compile(
  r"(?:python -m jax_me|jax-me|python run\.py|python -m convert\.(?:torch_to_flax|flax_to_torch))"
  r"(?:\\\n|[^`\n&|#;])*"
)
# Open sections, whose keys are those of a model or a dataset.
OPEN = ("model.arguments.", "data.options.")


def commands(path):
  return COMMAND.findall(path.read_text(encoding="utf-8"))


def options_of(name):
  parser = argparse.ArgumentParser()
  COMMANDS[name].load().configure(parser)
  return all_options(parser)


def all_options(parser):
  """The flags of a parser and of its subcommands."""
  found = set()
  for action in parser._actions:
    found.update(action.option_strings)
    if isinstance(action, argparse._SubParsersAction):
      for child in action.choices.values():
        found |= all_options(child)
  return found


@pytest.mark.parametrize("path", PAGES + RECIPES, ids=lambda path: path.name)
def test_settings_and_recipes_exist(path):
  text = path.read_text(encoding="utf-8")
  known = set(declared_settings())
  sections = {key.rpartition(".")[0] for key in known}
  for key in re.findall(r"--config\.(\w+(?:\.\w+)*)(?![\w.<]|\.\.\.)", text):
    assert key in known | sections or key.startswith(OPEN), f"--config.{key}"
  for recipe in re.findall(r"configs/(\w+)\.py", text):
    assert (REPOSITORY / "configs" / f"{recipe}.py").exists(), recipe


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_recipes_with_arguments_load(path):
  text = path.read_text(encoding="utf-8")
  for recipe in set(re.findall(r"configs/(\w+\.py:[\w,]+)", text)):
    if not re.search(r":,?[A-Z]+", recipe):  # A placeholder, such as MODEL.
      assert dotted_keys(recipes.load_recipe(f"configs/{recipe}"))


@pytest.mark.parametrize("path", PAGES + RECIPES, ids=lambda path: path.name)
def test_commands_and_flags_exist(path):
  check(commands(path))


def test_the_examples_of_help_exist():
  check(f"jax-me {entry.example}" for entry in COMMANDS.values())


def check(lines):
  for command in lines:
    words = [*command.replace("\\\n", " ").split(), "", "", ""]
    start = 1 if words[0] == "jax-me" else 3
    if words[0] == "python" and words[1] == "run.py":
      name = TRAIN
    elif "convert." in words[2]:
      name = {"convert.torch_to_flax": "convert", "convert.flax_to_torch": "export"}[words[2]]
    elif not re.match("[a-z]", words[start]):
      continue  # The program itself, or a placeholder.
    else:
      name = words[start].strip(".,:)]")
      assert name in COMMANDS, command
    used = {
      re.match(r"--[\w-]+", word).group()
      for word in words
      if re.match(r"--[a-z]", word) and not word.startswith("--config.")
    }
    known = {"--help"}
    if name in (TRAIN, EVALUATE):
      known |= {f"--{flag}" for flag in flags.FLAGS}
      known |= {f"--{key.rpartition('.')[2]}" for key in declared_settings()}
    else:
      known |= options_of(name)
    if name == "data" and words[start + 2] in BUILDERS:
      parser = argparse.ArgumentParser()
      add_option_flags(parser, builder_class(words[start + 2]).Options)
      known |= all_options(parser)
    assert used <= known, f"{command}: {used - known}"
