"""Speed of training all folds in one program against a loop over the folds.

  python benchmarks/fold_parallel.py
  python benchmarks/fold_parallel.py --config configs/loso_demo.py:t2t_vit_7,flow --epochs 4

The baseline is this project's own loop (`folds.parallel=off`), which already compiles once and
shares the program between folds, unlike published code. Both are complete runs of run.py in a
process of their own, from start to report, on demo clips that are built beforehand. They are
interleaved, and the shortest time of each is compared. Predictions must agree: byte for byte where
the folds run one after the other on one CPU device; otherwise for at least 99% of the examples,
because folds that run side by side round differently.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from jax_me.datasets.catalog import prepare  # noqa: E402
from jax_me.evaluation.predictions import Predictions  # noqa: E402
from jax_me.training import recipes, settings  # noqa: E402


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--config", default="configs/loso_demo.py", help="a recipe on demo_clips")
  parser.add_argument("--subjects", type=int, default=24)
  parser.add_argument("--clips", type=int, default=3, help="clips per subject")
  parser.add_argument("--epochs", type=float, default=4.0)
  parser.add_argument("--repeats", type=int, default=2)
  parser.add_argument("--parallel", default="auto", choices=("auto", "vmap", "map"))
  parser.add_argument(
    "--data_dir", default="", help="folder of the built clips; default: temporary"
  )
  parser.add_argument("--output", type=pathlib.Path, help="JSON file for the result")
  parser.add_argument("settings", nargs="*", help="further --config.<key>=<value>, after --")
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    result = measure(args, pathlib.Path(folder))
  print(json.dumps(result, indent=2))
  if args.output:
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=2) + "\n")


def measure(args: argparse.Namespace, folder: pathlib.Path) -> dict:
  flags = [
    f"--config.data.data_dir={args.data_dir or folder / 'data'}",
    f"--config.data.options.subjects={args.subjects}",
    f"--config.data.options.clips={args.clips}",
    f"--config.epochs={args.epochs}",
    *args.settings,
  ]
  config = recipes.load_recipe(str(ROOT / args.config))
  settings.override(config, flags)
  prepare(config.data.name, data_dir=config.data.data_dir, **config.data.options.to_dict())
  seconds: dict[str, list[float]] = {"off": [], args.parallel: []}
  computed: dict[str, list[float]] = {parallel: [] for parallel in seconds}
  for turn in range(args.repeats):
    for parallel in seconds:
      workdir = folder / f"{parallel}{turn}"
      wall, cpu = run(args.config, flags, parallel, workdir)
      seconds[parallel].append(round(wall, 1))
      computed[parallel].append(round(cpu, 1))
      print(f"folds.parallel={parallel}: {wall:.1f} s, {cpu:.1f} s of CPU", file=sys.stderr)
  loop, fold_batch = (
    Predictions.load(folder / f"{parallel}0" / "predictions.csv") for parallel in seconds
  )
  provenance = json.loads((folder / "off0" / "run.json").read_text())
  return {
    "recipe": args.config,
    "model": config.model.name,
    "image_size": config.model.image_size,
    "folds": len(set(loop.fold)),
    "examples": len(loop),
    "epochs": args.epochs,
    "batch_size": config.batch_size,
    "parallel": args.parallel,
    "cores": os.cpu_count(),
    "loop_seconds": seconds["off"],
    "together_seconds": seconds[args.parallel],
    "ratio": round(min(seconds["off"]) / min(seconds[args.parallel]), 2),
    "loop_cpu_seconds": computed["off"],
    "together_cpu_seconds": computed[args.parallel],
    "same_bytes": same_bytes(folder, list(seconds)),
    "same_class": float(np.mean(loop.prediction == fold_batch.prediction)),
    "largest_difference_of_scores": float(np.abs(loop.scores - fold_batch.scores).max()),
    **{name: provenance[name] for name in ("devices", "platform", "versions", "git")},
  }


def run(recipe: str, flags: list[str], parallel: str, workdir: pathlib.Path) -> tuple[float, float]:
  """Returns (wall seconds, CPU seconds) of one call of run.py."""
  command = [
    sys.executable,
    str(ROOT / "run.py"),
    f"--config={recipe}",
    f"--workdir={workdir}",
    f"--config.folds.parallel={parallel}",
    *flags,
  ]
  started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
  done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
  if done.returncode:
    sys.exit(done.stdout + done.stderr)
  wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
  return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def same_bytes(folder: pathlib.Path, modes: list[str]) -> bool:
  left, right = ((folder / f"{mode}0" / "predictions.csv").read_bytes() for mode in modes)
  return left == right


if __name__ == "__main__":
  main()
