"""`python -m jax_me podcheck --config RECIPE --topology v5e:16x16`: check of a pod run."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jax_me.training.chips import CHIPS

if TYPE_CHECKING:
  from ml_collections import ConfigDict

  from jax_me.training.chips import Topology

DESCRIPTION = f"""
Compiles the training step of a recipe for a TPU slice, on any x86 Linux machine without a TPU, and
prints memory, compute, communication and a lower bound of the step time. Settings are overridden
as with run.py: --config.batch_size=4096. Chips: {", ".join(CHIPS)}.
Exit code: 0 if the step fits, 1 if it does not fit, 2 if the check failed.
"""


def configure(parser: argparse.ArgumentParser) -> None:
  parser.description = DESCRIPTION
  parser.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="the recipe")
  parser.add_argument("--topology", required=True, help="TPU slice, e.g. v5e:16x16 or v5p:4x4x4")
  parser.add_argument(
    "--examples", type=int, help="number of training images (default: as published for the dataset)"
  )
  parser.add_argument(
    "--classes", type=int, help="number of classes (default: those of the dataset)"
  )
  parser.add_argument(
    "--try",
    dest="try_advice",
    action="store_true",
    help="if the step does not fit, also compile it with each suggested change",
  )
  parser.add_argument(
    "--json", type=Path, metavar="FILE", help="also write the results to this file"
  )
  parser.set_defaults(overrides=[])  # Filled with the unparsed arguments: --config.<key>=<value>.


def main(args: argparse.Namespace) -> int:
  """Exit code 0 if the step fits, 1 if it does not fit, 2 if the check failed."""
  # Nothing is executed, so a local accelerator must not be allocated.
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


def _check(config: ConfigDict, topology: Topology, args: argparse.Namespace) -> int:
  from jax_me.models.model_folder import write_json
  from jax_me.podcheck.advice import advise
  from jax_me.podcheck.dataset_summary import summarise_dataset
  from jax_me.podcheck.pod_check import check_pod
  from jax_me.podcheck.pod_report import as_json, table

  summary = summarise_dataset(config)
  classes = args.classes or summary.classes
  examples = args.examples or summary.examples
  if not classes and config.task == "classify":
    raise ValueError(
      f"the number of classes of {config.data.name} depends on your files: give --classes"
    )
  check = check_pod(config, topology, classes=classes)
  print(table(config, check, examples))
  advice = [] if check.fits else advise(config, check)
  if args.json:
    write_json(args.json, as_json(config, check, examples, advice))
  if check.fits:
    return 0
  print("\nSuggested changes (estimates):")
  for item in advice:
    print(f"  {item}")
    if args.try_advice and item.settings:
      print(f"    {_try_change(config, item.settings, topology, classes)}", flush=True)
  return 1


def _try_change(
  config: ConfigDict, settings: dict[str, object], topology: Topology, classes: int
) -> str:
  from jax_me.podcheck.pod_check import check_pod
  from jax_me.training.chips import GIB

  changed = config.copy_and_resolve_references()
  changed.update_from_flattened_dict(settings)
  check = check_pod(changed, topology, classes=classes)
  verdict = "fits" if check.fits else "does not fit"
  return f"{verdict}: {check.needed / GIB:.2f} of {check.available / GIB:.2f} GiB"
