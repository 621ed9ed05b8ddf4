"""Command line of `jax-me settings RECIPE`: all settings of a recipe with their meaning."""

from __future__ import annotations

import argparse
import json
import sys

DESCRIPTION = """
Prints every setting of a recipe with its value, unit, meaning and choices; a star marks values that
differ from the default. WORDs select settings whose name or meaning contains all of them. Changes
such as --config.epochs=5 are applied first. The same as `jax-me train --config RECIPE --list`.
"""


def configure(parser: argparse.ArgumentParser) -> None:
  """Adds the description and arguments of the command."""
  parser.description = DESCRIPTION
  parser.add_argument(
    "recipe",
    nargs="?",
    metavar="RECIPE",
    help="FILE or NAME, with :ARGUMENT if it takes one (default: the defaults of all recipes)",
  )
  parser.add_argument("words", nargs="*", metavar="WORD", help="print only settings about it")
  parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
  parser.set_defaults(overrides=[])  # Filled with the unparsed arguments: --config.<key>=<value>.


def main(args: argparse.Namespace) -> int:
  """Returns exit code 0, 1 if no setting contains the words, or 2 for an invalid argument."""
  # Imported here: ml_collections belongs to the extra `train`.
  from jax_me.bundled import import_bundled
  from jax_me.training import recipes, settings
  from jax_me.training.setting_list import format_settings, list_settings, print_list

  try:
    if args.recipe:
      config = recipes.load_recipe(args.recipe)
    else:
      config = import_bundled("configs.common").common()
    settings.override(config, args.overrides)
  except ValueError as error:
    print(f"settings: {error}", file=sys.stderr)
    return 2
  listed = [setting for setting in list_settings(config) if setting.matches(args.words)]
  if args.json:
    print_list(json.dumps([setting.record() for setting in listed], indent=2))
    return 0
  if not listed:
    near = settings.nearest_settings(".".join(args.words))
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    print(f"settings: no setting is about {' '.join(args.words)}{hint}", file=sys.stderr)
    return 1
  print_list(format_settings(listed, args.recipe or "configs/common.py"))
  return 0
