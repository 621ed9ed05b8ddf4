"""All folds of a small model in one program, against the same net in torch and against a loop.

  python benchmarks/folds.py --output benchmarks/results/folds.json

442 random images of 68 made-up subjects, leave-one-subject-out:

  shallow_cnn  28 pixels: the 68 folds in one program of run.py, and the same network in torch
               (`torch_two_layer_cnn`), fold after fold
  t2t_vit_7    32 pixels: the folds in one program, and one after the other (folds.parallel=off)

Each is measured with two numbers of epochs. The difference gives the seconds of an epoch of all
folds, the rest is the time to start, compile, test and report, and both together the time of
--epochs. Torch is trained on a few folds and has no other costs. Alternating runs, shortest times.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.torch_two_layer_cnn import BATCH, train_folds  # noqa: E402

EXAMPLES, SUBJECTS, CLASSES = 442, 68, 3


def make_folder(folder: pathlib.Path, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Writes random images and labels.csv; gives images [N, S, S, 3], labels and subjects [N]."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (EXAMPLES, side, side, 3), np.uint8)
  labels = np.arange(EXAMPLES) % CLASSES
  subjects = rng.permutation(np.arange(EXAMPLES) % SUBJECTS)
  folder.mkdir(parents=True)
  rows = ["file,subject,label"]
  for number, image in enumerate(images):
    cv2.imwrite(str(folder / f"{number}.png"), image[..., ::-1])
    rows.append(f"{number}.png,s{subjects[number]},class{labels[number]}")
  (folder / "labels.csv").write_text("\n".join(rows) + "\n")
  return images, labels, subjects


def run_recipe(
  model: str, images: pathlib.Path, folder: pathlib.Path, settings: dict[str, object]
) -> float:
  """Wall seconds of one call of run.py in a new workdir."""
  number = len(list(folder.glob("run*")))
  command = [
    sys.executable,
    str(ROOT / "run.py"),
    f"--config={ROOT}/configs/loso_images.py:flow,{model}",
    f"--workdir={folder}/run{number}",
    f"--config.data.manual_dir={images}",
    f"--config.data.data_dir={folder}/data",
    "--config.trackers=()",
    "--config.log_steps=1000",
    "--config.checkpoint_steps=100000",
    "--config.folds.weights=False",
    *(f"--config.{name}={value}" for name, value in settings.items()),
  ]
  started = time.monotonic()
  done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
  if done.returncode:
    sys.exit(done.stdout + done.stderr)
  return time.monotonic() - started


def line_through(epochs: tuple[float, float], seconds: tuple[float, float], total: float) -> dict:
  """Fixed seconds, seconds per epoch, and seconds of `total` epochs."""
  each = (seconds[1] - seconds[0]) / (epochs[1] - epochs[0])
  fixed = max(0.0, seconds[0] - epochs[0] * each)
  return {
    "measured": {
      f"{count:g} epochs": round(one, 1) for count, one in zip(epochs, seconds, strict=True)
    },
    "fixed": round(fixed, 1),
    "per epoch": round(each, 2),
    f"{total:g} epochs": round(fixed + total * each, 1),
  }


def torch_seconds(
  images: np.ndarray, labels: np.ndarray, subjects: np.ndarray, folds: int, epochs: int
) -> float:
  """Seconds of an epoch of all folds in torch, from a few folds."""
  chosen = [
    (np.flatnonzero(subjects != subject), np.flatnonzero(subjects == subject))
    for subject in range(folds)
  ]
  started = time.monotonic()
  train_folds(images, labels, chosen, seed=0, epochs=epochs)
  return (time.monotonic() - started) / folds / epochs * SUBJECTS


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--epochs", type=float, default=40.0, help="the time is given for these")
  parser.add_argument("--short", type=float, nargs=2, default=(1.0, 3.0), help="epochs measured")
  parser.add_argument("--repeats", type=int, default=2)
  parser.add_argument("--torch-folds", type=int, default=4)
  parser.add_argument("--torch-epochs", type=int, default=5)
  parser.add_argument("--only", choices=("shallow_cnn", "t2t_vit_7"))
  parser.add_argument("--output", type=pathlib.Path, help="JSON file")
  args = parser.parse_args()
  short = tuple(args.short)
  result: dict = {"examples": EXAMPLES, "folds": SUBJECTS, "cores": os.cpu_count()}
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    if args.only != "t2t_vit_7":
      images, labels, subjects = make_folder(folder / "images28", 28)
      settings = {"batch_size": BATCH, "model.image_size": 28, "augment.translate": 0.0}
      seconds = {count: [] for count in short}
      peer = []
      for _ in range(args.repeats):
        peer.append(torch_seconds(images, labels, subjects, args.torch_folds, args.torch_epochs))
        for count in short:
          seconds[count].append(
            run_recipe("shallow_cnn", folder / "images28", folder, settings | {"epochs": count})
          )
      ours = line_through(short, tuple(min(seconds[count]) for count in short), args.epochs)
      theirs = round(min(peer) * args.epochs, 1)
      result["shallow_cnn"] = {
        "together": ours,
        "torch": {"per epoch": round(min(peer), 2), f"{args.epochs:g} epochs": theirs},
        "torch threads": torch.get_num_threads(),
        "times as fast": round(theirs / ours[f"{args.epochs:g} epochs"], 2),
      }
      print(json.dumps(result["shallow_cnn"], indent=1), flush=True)
    if args.only != "shallow_cnn":
      make_folder(folder / "images32", 32)
      settings = {"model.image_size": 32}
      lines = {}
      seconds = {(mode, count): [] for mode in ("auto", "off") for count in short}
      for _ in range(args.repeats):
        for mode, count in seconds:
          given = settings | {"epochs": count, "folds.parallel": mode}
          seconds[mode, count].append(run_recipe("t2t_vit_7", folder / "images32", folder, given))
      for mode in ("auto", "off"):
        least = tuple(min(seconds[mode, count]) for count in short)
        lines[mode] = line_through(short, least, args.epochs)
      name = f"{args.epochs:g} epochs"
      result["t2t_vit_7"] = {
        "together": lines["auto"],
        "loop": lines["off"],
        "times as fast": round(lines["off"][name] / lines["auto"][name], 2),
      }
      print(json.dumps(result["t2t_vit_7"], indent=1), flush=True)
  if args.output:
    args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
  main()
