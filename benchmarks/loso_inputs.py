"""UF1 of each model with each input, leave-one-subject-out on the demo clips: one table.

  python benchmarks/loso_inputs.py --workdir /tmp/loso --output benchmarks/results/loso_inputs.json

Every cell is a whole run of configs/loso_demo.py: 24 synthetic people, 288 clips, final epoch,
scores pooled over the folds. Killed, the same command goes on where it was.
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
  parser.add_argument("--workdir", type=pathlib.Path, required=True, help="where the runs are kept")
  parser.add_argument("--models", nargs="+", default=MODELS)
  parser.add_argument("--inputs", nargs="+", default=INPUTS)
  parser.add_argument("--output", type=pathlib.Path, help="JSON file for the figures")
  args = parser.parse_args()
  rows = []
  for shown in args.inputs:
    for model in args.models:
      rows.append({"model": model, "input": shown, **measure(model, shown, args.workdir)})
      print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
      if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        result = {"recipe": "configs/loso_demo.py", "runs": rows}
        args.output.write_text(json.dumps(result, indent=2) + "\n")
  print(table(rows, args.models, args.inputs))


def measure(model: str, shown: str, folder: pathlib.Path) -> dict:
  """Pooled scores of one run; a finished one is not trained again."""
  workdir = folder / f"{model}-{shown}"
  run(f"loso_demo.py:{model},{shown}", workdir, f"--config.data.data_dir={folder / 'data'}")
  return scores(workdir)


def table(rows: list[dict], models: list[str], inputs: list[str]) -> str:
  """UF1, models down and inputs across, as Markdown."""
  uf1 = {(row["model"], row["input"]): row["uf1"] for row in rows}
  lines = ["| UF1 | " + " | ".join(inputs) + " |", "|---" * (len(inputs) + 1) + "|"]
  for model in models:
    cells = " | ".join(f"{uf1[model, shown]:.3f}" for shown in inputs)
    lines.append(f"| `{model}` | {cells} |")
  return "\n".join(lines)


if __name__ == "__main__":
  main()
