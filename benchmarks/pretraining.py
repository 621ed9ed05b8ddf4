"""Benefit of MAE pre-training: fine-tuning from pre-trained and from random weights, mean of seeds.

  python benchmarks/pretraining.py                        # demo clips
  python benchmarks/pretraining.py --manual_dir FOLDER    # labelled photographs

Half of the subjects are used for training: MAE on their images without labels, fine-tuning on the
same images with labels. The other half is tested. All runs are complete calls of run.py. The
baseline is the same fine-tuning without `init_from`.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile

from recipe_runs import SCORES, run, scores


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "--manual_dir", default="", help="labelled photographs; default: the demo clips"
  )
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--pretrain_epochs", type=float, default=300.0)
  parser.add_argument("--epochs", type=float, default=60.0, help="epochs of fine-tuning")
  parser.add_argument("--input", default="flow", help="input of the demo clips")
  parser.add_argument("--subjects", type=int, default=24, help="subjects of the demo clips")
  parser.add_argument("--data_dir", default="", help="folder of built datasets; default: temporary")
  parser.add_argument("--output", type=pathlib.Path, help="JSON file for the result")
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    result = measure(args, pathlib.Path(folder))
  print(json.dumps(result, indent=2))
  if args.output:
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=2) + "\n")


def measure(args: argparse.Namespace, folder: pathlib.Path) -> dict:
  shared = [
    f"--config.data.data_dir={args.data_dir or folder / 'data'}",
    "--config.data.split=holdout",
    "--config.data.holdout=0.5",
    "--config.log_steps=50",
    "--config.checkpoint_steps=100000",
    "--config.evaluate_epochs=0",
  ]
  if args.manual_dir:
    pretrain, finetune = "mae_images.py", "finetune_images.py"
    shared.append(f"--config.data.manual_dir={args.manual_dir}")
    model_flags = ["--config.model.arguments.patch_size=8"]
  else:
    pretrain, finetune = "mae_affectnet.py:demo", f"loso_demo.py:vit_tiny_patch16,{args.input}"
    shared += [
      f"--config.data.options.subjects={args.subjects}",
      "--config.data.options.clips=12",
      f"--config.data.options.input={args.input}",
      "--config.data.options.size=128",
      f"--config.augment.flow={args.input == 'flow'}",
    ]
    model_flags = []
  rows = []
  for seed in range(args.seeds):
    run_flags = [*shared, f"--config.seed={seed}"]
    weights = folder / f"mae{seed}"
    run(pretrain, weights, *run_flags, f"--config.epochs={args.pretrain_epochs}")
    tuning = [*run_flags, *model_flags, f"--config.epochs={args.epochs}"]
    scratch, tuned = folder / f"scratch{seed}", folder / f"tuned{seed}"
    run(finetune, scratch, *tuning)
    run(finetune, tuned, *tuning, f"--config.init_from={weights}")
    rows.append({"seed": seed, "random": scores(scratch), "pretrained": scores(tuned)})
    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
  means = {
    start: {name: round(statistics.mean(row[start][name] for row in rows), 4) for name in SCORES}
    for start in ("random", "pretrained")
  }
  return {
    "dataset": "photographs"
    if args.manual_dir
    else f"demo_clips, {args.subjects} people, {args.input}",
    "pretrain": f"{pretrain}, {args.pretrain_epochs:.0f} epochs",
    "finetune": f"{finetune}, {args.epochs:.0f} epochs",
    "seeds": rows,
    "mean": means,
  }


if __name__ == "__main__":
  main()
