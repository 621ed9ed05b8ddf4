"""Report of a pod check: text table and JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jax_me.podcheck.advice import Advice
from jax_me.podcheck.pod_check import PodCheck
from jax_me.training.chips import GIB


def recipe_steps(config: ConfigDict, examples: int) -> int:
  """Optimiser steps of the whole training; 0 if the number of images is unknown."""
  return config.steps or (round(config.epochs * examples / config.batch_size) if examples else 0)


def table(config: ConfigDict, check: PodCheck, examples: int) -> str:
  """Formats a pod check as text with lines of at most 100 characters.

  Args:
    config: the checked config.
    check: result of `check_pod`.
    examples: number of training images, 0 if unknown.

  Returns:
    the report.
  """
  topology = check.topology
  options = ", ".join(
    [
      config.precision,
      *(["remat"] if config.remat else []),
      *(["scanned layers"] if config.scan_layers else []),
      *([f"{config.accum_steps} accumulation steps"] if config.accum_steps > 1 else []),
      *([f"fsdp {config.mesh.fsdp}"] if config.mesh.fsdp > 1 else []),
      *([f"split update {config.mesh.split_update}"] if config.mesh.split_update > 1 else []),
    ]
  )
  lines = [
    f"{config.model.name} on {topology}: {topology.chips} chips, batch {check.batch_size}, "
    f"{options}; compiled in {check.seconds:.0f} s",
    "",
    *_memory_lines(check),
  ]
  if check.work is not None:
    lines += ["", *_work_lines(check), "", *_time_lines(config, check, examples)]
  return "\n".join(lines)


def _memory_lines(check: PodCheck) -> list[str]:
  memory, usable = check.memory, check.available / GIB
  rows = [
    ("parameters", memory.parameters),
    ("optimizer", memory.optimizer),
    ("moving average", memory.average),
    ("batch", memory.batch),
  ]
  if check.work is not None:
    padding = memory.arguments - sum(size for _, size in rows)
    rows += [
      ("padding", padding),
      ("new results", memory.results),
      ("temporaries", memory.temporaries),
      ("program", memory.program),
    ]
  lines = ["Memory per chip                 GiB"]
  lines += [f"  {name:<24}{size / GIB:>9.3f}" for name, size in rows if size > 0]
  verdict = "FITS" if check.fits else "DOES NOT FIT"
  needed = "  total" if check.work is not None else "  required by XLA"
  lines.append(
    f"{needed:<26}{check.needed / GIB:>9.3f} of {usable:.2f}: {verdict} "
    f"({100 * check.needed / check.available:.0f} %)"
  )
  return lines


def _work_lines(check: PodCheck) -> list[str]:
  work, chips = check.work, check.topology.chips
  assert work is not None
  lines = [
    "Work per step                 per chip       all chips",
    f"  matrix products    {work.flops / chips / 1e12:>12.3f} TF {work.flops / 1e12:>12.1f} TF",
    f"  through HBM        {work.hbm_bytes / 1e9:>12.3f} GB "
    f"{work.hbm_bytes * chips / 1e9:>12.1f} GB",
  ]
  for collective in work.collectives:
    lines.append(
      f"  {collective.kind:<19}{collective.sent / 1e9:>12.3f} GB sent; {collective.count} calls, "
      f"{collective.bytes / 1e9:.3f} GB, over {collective.group} chips"
    )
  if work.unknown_loops:
    lines.append(f"  {work.unknown_loops} loops with unknown trip count are counted once")
  return lines


def _time_lines(config: ConfigDict, check: PodCheck, examples: int) -> list[str]:
  chip, roof = check.topology.chip, check.roofline
  assert roof is not None
  peaks = {
    "compute": f"{chip.flops / 1e12:g} TFLOP/s in bfloat16",
    "memory": f"{chip.bandwidth / 1e9:g} GB/s",
    "interconnect": f"{chip.interconnect / 1e9:g} GB/s to neighbouring chips",
  }
  lines = ["Lower bound of the step time        ms"]
  for name, peak in peaks.items():
    mark = "  <- limit" if name == roof.limit else ""
    lines.append(f"  {name:<19}{1e3 * getattr(roof, name):>17.2f}  {peak}{mark}")
  rate = check.batch_size / roof.bound
  lines.append(f"At most {rate:,.0f} images/s.")
  steps = recipe_steps(config, examples)
  if steps:
    hours = steps * roof.bound / 3600
    lines.append(f"Whole training: {steps:,} steps, at least {hours:.2f} hours.")
  else:
    lines.append("Whole training: give --examples (number of training images) for its duration.")
  lines.append("These bounds assume peak performance; real steps take longer, often twice as long.")
  return lines


def as_json(
  config: ConfigDict, check: PodCheck, examples: int, advice: Sequence[Advice]
) -> dict[str, Any]:
  """All values of a pod check, in bytes, FLOPs and seconds.

  Args:
    config: the checked config.
    check: result of `check_pod`.
    examples: number of training images, 0 if unknown.
    advice: suggested changes.

  Returns:
    JSON values.
  """
  steps = recipe_steps(config, examples)
  roof = check.roofline
  return {
    "topology": str(check.topology),
    "chip": dataclasses.asdict(check.topology.chip),
    "chips": check.topology.chips,
    "recipe": config.to_dict(),
    "fits": check.fits,
    "needed_bytes": check.needed,
    "available_bytes": check.available,
    "memory": dataclasses.asdict(check.memory),
    "work": None if check.work is None else _work_json(check),
    "seconds_at_least": None if roof is None else {**dataclasses.asdict(roof), "limit": roof.limit},
    "images_per_second_at_most": None if roof is None else check.batch_size / roof.bound,
    "examples": examples or None,
    "steps": steps or None,
    "hours_at_least": steps * roof.bound / 3600 if roof and steps else None,
    "advice": [str(item) for item in advice],
    "compiled": {
      "seconds": round(check.seconds, 1),
      "processor_seconds": round(check.processor_seconds, 1),
      "jax": jax.__version__,
    },
  }


def _work_json(check: PodCheck) -> dict[str, Any]:
  assert check.work is not None
  collectives = [
    {**dataclasses.asdict(collective), "sent_per_chip": collective.sent}
    for collective in check.work.collectives
  ]
  return {**dataclasses.asdict(check.work), "collectives": collectives}
