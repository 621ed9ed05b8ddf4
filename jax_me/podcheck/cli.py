"""`python -m jax_me podcheck --config RECIPE --topology v5e:16x16`: check a pod run beforehand."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jax_me.training.chips import CHIPS

if TYPE_CHECKING:
  from jax_me.podcheck.pod_check import PodCheck

EXPLANATION = f"""
Compiles the recipe's training step for a TPU slice, on any x86 Linux machine and without a TPU,
and prints memory, work, exchanges between chips and the least time a step can take. Any setting
of the recipe can be changed as with run.py: --config.batch_size=4096. Chips: {", ".join(CHIPS)}.
Exit code: 0 it fits, 1 it does not, 2 it cannot be checked.
"""


def configure(parser: argparse.ArgumentParser) -> None:
  parser.description = EXPLANATION
  parser.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="the recipe")
  parser.add_argument("--topology", required=True, help="the slice, e.g. v5e:16x16 or v5p:4x4x4")
  parser.add_argument(
    "--examples", type=int, help="training images (default: the dataset's published number)"
  )
  parser.add_argument(
    "--classes", type=int, help="classes of the dataset (default: what the recipe's dataset has)"
  )
  parser.add_argument(
    "--try",
    dest="trying",
    action="store_true",
    help="when it does not fit, compile what is advised, one after the other",
  )
  parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
  parser.set_defaults(overrides=[])  # What is left on the command line: --config.<key>=<value>.


def main(args: argparse.Namespace) -> int:
  """Exit code 0 when the step fits, 1 when not, 2 when it cannot be checked."""
  # Nothing is computed here; and an accelerator of this machine is left to others.
  os.environ["JAX_PLATFORMS"] = "cpu"
  from jax_me.podcheck.pod_check import PodCheckError
  from jax_me.training import recipes, settings
  from jax_me.training.chips import parse_topology

  try:
    config = recipes.load_recipe(args.config)
    settings.override(config, args.overrides)
    return _check(config, parse_topology(args.topology), args)
  except (PodCheckError, ValueError, OSError) as error:
    print(f"podcheck: {error}", file=sys.stderr)
    return 2


def _check(config: Any, topology: Any, args: argparse.Namespace) -> int:
  from jax_me.models.model_folder import write_json
  from jax_me.podcheck.advice import advise
  from jax_me.podcheck.dataset_summary import dataset_facts
  from jax_me.podcheck.pod_check import check_pod
  from jax_me.podcheck.pod_report import as_json, table

  facts = dataset_facts(config)
  classes = args.classes or facts.classes
  examples = args.examples or facts.examples
  if not classes and config.task == "classify":
    raise ValueError(f"{config.data.name} has the classes of your files: give --classes")
  check = check_pod(config, topology, classes=classes)
  print(table(config, check, examples))
  advice = [] if check.fits else advise(config, check)
  if args.json:
    write_json(args.json, as_json(config, check, examples, advice))
  if check.fits:
    return 0
  print("\nWhat may help (estimates):")
  for item in advice:
    print(f"  {item}")
    if args.trying and item.settings:
      print(f"    {_tried(config, item.settings, topology, classes)}", flush=True)
  return 1


def _tried(config: Any, settings: dict[str, Any], topology: Any, classes: int) -> str:
  from jax_me.podcheck.pod_check import check_pod
  from jax_me.training.chips import GIB

  changed = config.copy_and_resolve_references()
  changed.update_from_flattened_dict(settings)
  check: PodCheck = check_pod(changed, topology, classes=classes)
  verdict = "fits" if check.fits else "does not fit"
  return f"{verdict}: {check.needed / GIB:.2f} of {check.available / GIB:.2f} GiB"
