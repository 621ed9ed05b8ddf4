"""Table of UF1 by model and clip input, leave-one-subject-out on the demo clips.

  python benchmarks/loso_inputs.py --workdir /tmp/loso --output benchmarks/results/loso_inputs.json

Every cell is a complete run of configs/loso_demo.py: 24 synthetic subjects, 288 clips, final epoch,
scores pooled over the folds. After an interruption the same command resumes.
"""

import argparse
import json
import pathlib
import sys

from recipe_runs import run, scores

MODELS = ("t2t_vit_7", "vit_tiny_patch16", "convnextv2_atto")
INPUTS = ("flow", "dynamic", "apex")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder of the runs")
  parser.add_argument("--models", nargs="+", default=MODELS)
  parser.add_argument("--inputs", nargs="+", default=INPUTS)
  parser.add_argument("--output", type=pathlib.Path, help="JSON file for the result")
  args = parser.parse_args()
  rows = []
  for clip_input in args.inputs:
    for model in args.models:
      scored = measure(model, clip_input, args.workdir)
      rows.append({"model": model, "input": clip_input, **scored})
      print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
      if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        result = {"recipe": "configs/loso_demo.py", "runs": rows}
        args.output.write_text(json.dumps(result, indent=2) + "\n")
  print(table(rows, args.models, args.inputs))


def measure(model: str, clip_input: str, folder: pathlib.Path) -> dict:
  """Pooled scores of one run. A finished run is not trained again."""
  workdir = folder / f"{model}-{clip_input}"
  run(f"loso_demo.py:{model},{clip_input}", workdir, f"--config.data.data_dir={folder / 'data'}")
  return scores(workdir)


def table(rows: list[dict], models: list[str], inputs: list[str]) -> str:
  """UF1 as a Markdown table with one row per model and one column per input."""
  uf1 = {(row["model"], row["input"]): row["uf1"] for row in rows}
  lines = ["| UF1 | " + " | ".join(inputs) + " |", "|---" * (len(inputs) + 1) + "|"]
  for model in models:
    cells = " | ".join(f"{uf1[model, name]:.3f}" for name in inputs)
    lines.append(f"| `{model}` | {cells} |")
  return "\n".join(lines)


if __name__ == "__main__":
  main()
