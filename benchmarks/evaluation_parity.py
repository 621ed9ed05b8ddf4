"""Evaluation of converted models beside the originals' own, image by image.

  python benchmarks/evaluation_parity.py --originals FOLDER [--images FOLDER]
      # needs timm 0.3.2 and a torchvision that matches torch

--originals contains checkouts of mae, MAE-SFER, T2T-ViT and ConvNeXt-V2 at the commits that
docs/recipes.md names. Their programs run as for an evaluation (`--eval`, `--evaluate`,
`--eval_checkpoint`): own transforms, own model, own loop, on a CPU in float32. jax_me converts the
same checkpoint and evaluates it with the recipe. Both classify the same files.

--images is a folder <class>/<image>. Without it 500 JPEGs of 200 to 600 pixels are cut from the
photographs of scikit-image, whose names are the classes. The weights are random; the head is fitted
to the features of every fifth image, so that the classes differ from image to image.
"""

import argparse
import contextlib
import csv
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

RESULT = REPOSITORY / "benchmarks/results/evaluation_parity.json"
# Class -> function of skimage.data.
PHOTOGRAPHS = {
  "astronaut": "astronaut",
  "cat": "chelsea",
  "cells": "immunohistochemistry",
  "coffee": "coffee",
  "galaxies": "hubble_deep_field",
  "retina": "retina",
  "rocket": "rocket",
}
COUNT = 500
FITTED = 5  # The head is fitted to every fifth image.
# Project -> (recipe, our model, entry of the checkpoint file with the weights).
FAMILIES = {
  "mae": ("finetune_affectnet:vit_tiny_patch16", "vit_tiny_patch16", "model"),
  "MAE-SFER": ("finetune_rafdb:vit_tiny_patch16", "vit_tiny_patch16", ""),
  "T2T-ViT": ("t2t_imagenet_style:t2t_vit_7", "t2t_vit_7", "state_dict"),
  "ConvNeXt-V2": ("finetune_rafdb:convnextv2_atto", "convnextv2_atto", "model"),
}


def draw_images(folder: pathlib.Path) -> None:
  """Writes the random crops of photographs, <class>/<number>.jpg."""
  import PIL.Image
  import skimage.data

  random = np.random.default_rng(0)
  photographs = {
    name: PIL.Image.fromarray(getattr(skimage.data, function)())
    for name, function in PHOTOGRAPHS.items()
  }
  for number in range(COUNT):
    name, photograph = list(photographs.items())[number % len(photographs)]
    share = random.uniform(0.4, 1.0)
    width, height = (round(share * side) for side in photograph.size)
    left, top = (
      int(random.integers(0, whole - part + 1))
      for whole, part in zip(photograph.size, (width, height), strict=True)
    )
    size = tuple(int(side) for side in random.integers(200, 601, 2))
    image = photograph.resize(size, box=(left, top, left + width, top + height))
    (folder / name).mkdir(parents=True, exist_ok=True)
    image.save(folder / name / f"{number:03}.jpg", quality=90)


def prepare_model(model: Any) -> Any:
  """The original's model with random weights that keep the variance of activations."""
  import torch

  from tests.helpers.recipe_loops import loop_weight

  with torch.no_grad():
    for index, (key, parameter) in enumerate(model.named_parameters()):
      if parameter.requires_grad or not parameter.any():  # Not T2T-ViT's position table.
        values = loop_weight(key, tuple(parameter.shape), index)
        parameter.copy_(torch.from_numpy(values))
  return model


def fit_head(model: Any, features: np.ndarray, labels: np.ndarray) -> None:
  """Least squares from standardised features to the classes."""
  import torch

  mean, std = features.mean(0), features.std(0) + 1e-6
  inputs = (features - mean) / std
  targets = np.eye(model.head.out_features)[labels]
  gram = inputs.T @ inputs + len(inputs) * np.eye(inputs.shape[1])
  weight = np.linalg.solve(gram, inputs.T @ (targets - targets.mean(0))).T
  with torch.no_grad():
    model.head.weight.copy_(torch.from_numpy(10 * weight / std))
    model.head.bias.copy_(torch.from_numpy(10 * (targets.mean(0) - (weight / std) @ mean)))


class Observer:
  """Collects the inputs and outputs of the head of a model that an original's loop evaluates."""

  def __init__(self, checkpoint: pathlib.Path) -> None:
    self.checkpoint = checkpoint
    self.features: list[np.ndarray] = []
    self.logits: list[np.ndarray] = []

  def watch(self, model: Any) -> Any:
    """The model with random weights, or with those of the checkpoint once it exists."""
    if not self.checkpoint.exists():
      prepare_model(model)
    self.model = model
    model.head.register_forward_hook(self._observe)
    return model

  def _observe(self, head: Any, inputs: Any, output: Any) -> None:
    self.features.append(inputs[0].detach().numpy().astype(np.float64))
    self.logits.append(output.detach().numpy())


def evaluate_mae(folder: pathlib.Path, classes: int, observer: Observer) -> None:
  import main_finetune as program
  import torch

  norm = functools.partial(torch.nn.LayerNorm, eps=1e-6)
  tiny = dict(patch_size=16, embed_dim=192, depth=12, num_heads=3, qkv_bias=True, norm_layer=norm)
  program.models_vit.tiny = lambda **keywords: observer.watch(
    program.models_vit.VisionTransformer(**tiny, **keywords)
  )
  command = f"--eval --model tiny --nb_classes {classes} --device cpu --num_workers 0"
  command += f" --data_path {folder} --batch_size 50"
  if observer.checkpoint.exists():
    command += f" --resume {observer.checkpoint}"
  program.main(program.get_args_parser().parse_args(command.split()))


def evaluate_mae_sfer(folder: pathlib.Path, classes: int, observer: Observer) -> None:
  import timm
  import torch
  import torchvision

  from tests.golden.recipes import stand_ins

  stand_ins.install_cuda()
  stand_ins.install_apex()
  load = torch.utils.data.DataLoader
  torch.utils.data.DataLoader = lambda dataset, **keywords: load(
    dataset, **{**keywords, "pin_memory": False}
  )
  # An argument of this training transform has another name in newer releases.
  torchvision.transforms.RandomAffine = lambda **keywords: None
  import main_rafdb as program

  program.logs.configure = lambda arguments: None
  create = timm.create_model
  timm.create_model = lambda *names, **keywords: observer.watch(create(*names, **keywords))
  files = sorted((folder / "val").glob("*/*"))
  names = sorted({file.parent.name for file in files})
  (folder / "Image" / "aligned").mkdir(parents=True, exist_ok=True)
  (folder / "checkpoint").mkdir(exist_ok=True)
  lines = []
  for number, file in enumerate(files):
    shutil.copy(file, folder / "Image" / "aligned" / f"{number}_aligned.jpg")
    lines.append(f"{number}.jpg {names.index(file.parent.name) + 1}\n")
  (folder / "labels.txt").write_text("".join(lines))
  command = f"--evaluate --raf_path {folder} --num_class {classes} --num_workers 0"
  command += f" --train_label_path {folder}/labels.txt --test_label_path {folder}/labels.txt"
  command += " --model-name vit_tiny_fixedpe_patch16_224"
  if observer.checkpoint.exists():
    command += f" --resume --checkpoint-whole {observer.checkpoint}"
  sys.argv = ["main_rafdb.py", *command.split()]
  program.main()


def evaluate_t2t(folder: pathlib.Path, classes: int, observer: Observer) -> None:
  import main as program
  from timm.models import load_checkpoint

  create = program.create_model
  program.create_model = lambda *names, **keywords: observer.watch(create(*names, **keywords))
  program.load_checkpoint = lambda model, path, ema: (
    load_checkpoint(model, path, ema) if observer.checkpoint.exists() else None
  )
  command = f"{folder} --model t2t_vit_7 --num-classes {classes} -b 50 -j 0 --no-prefetcher"
  sys.argv = ["main.py", *f"{command} --eval_checkpoint {observer.checkpoint}".split()]
  program.main()


def evaluate_convnextv2(folder: pathlib.Path, classes: int, observer: Observer) -> None:
  from tests.golden.recipes import stand_ins

  stand_ins.install_minkowski()
  import main_finetune as program

  build = program.convnextv2.convnextv2_atto
  program.convnextv2.atto = lambda **keywords: observer.watch(build(**keywords))
  command = f"--eval true --model atto --nb_classes {classes} --device cpu --num_workers 0"
  command += f" --data_set image_folder --data_path {folder}/train --eval_data_path {folder}/val"
  command += " --batch_size 50"
  if observer.checkpoint.exists():
    command += f" --resume {observer.checkpoint}"
  program.main(program.get_args_parser().parse_args(command.split()))


PROGRAMS = {
  "mae": evaluate_mae,
  "MAE-SFER": evaluate_mae_sfer,
  "T2T-ViT": evaluate_t2t,
  "ConvNeXt-V2": evaluate_convnextv2,
}


def run_original(family: str, originals: pathlib.Path, folder: pathlib.Path) -> None:
  """Writes checkpoint.pth (if it is missing) or logits.npy into a folder with train and val."""
  import torch

  from tests.golden.recipes import stand_ins

  torch.set_num_threads(1)  # On a busy machine the threads wait for each other.
  stand_ins.restore_names()
  sys.path.insert(0, str(originals / family))
  files = sorted((folder / "val").glob("*/*"))
  names = sorted({file.parent.name for file in files})
  observer = Observer(folder / "checkpoint.pth")
  with contextlib.suppress(SystemExit):
    PROGRAMS[family](folder, len(names), observer)
  if observer.checkpoint.exists():
    np.save(folder / "logits.npy", np.concatenate(observer.logits))
    return
  labels = np.array([names.index(file.parent.name) for file in files])
  fit_head(observer.model, np.concatenate(observer.features), labels)
  weights, entry = observer.model.state_dict(), FAMILIES[family][2]
  torch.save({entry: weights} if entry else weights, observer.checkpoint)


def evaluate_ours(family: str, folder: pathlib.Path, names: list[str]) -> dict[str, dict]:
  """{file: row of predictions.csv} of the converted checkpoint under the recipe."""
  recipe, model, _ = FAMILIES[family]
  name, _, argument = recipe.partition(":")
  convert = f"-m jax_me convert {folder}/checkpoint.pth --output {folder}/model --model {model}"
  command = f"run.py --mode eval --config configs/{name}.py:{argument} --checkpoint {folder}/model"
  command += f" --workdir {folder}/run --config.data.name=labeled_images"
  command += f" --config.data.manual_dir={folder}/images --config.data.data_dir={folder}/data"
  command += " --config.data.split=official --config.data.options.align=False"
  command += " --config.precision=float32 --config.batch_size=50 --config.accum_steps=1"
  for line in (f"{convert} --labels {','.join(names)}", command):
    subprocess.run([sys.executable, *line.split()], cwd=REPOSITORY, check=True, stdout=sys.stderr)
  with (folder / "run" / "predictions.csv").open(encoding="utf-8", newline="") as file:
    rows = list(csv.DictReader(file))
  return {row["file"]: row for row in rows}


def compare(family: str, originals: pathlib.Path, images: pathlib.Path) -> dict:
  """One row of the result."""
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    test = folder / "images" / "test"
    shutil.copytree(images, test)
    files = sorted(test.glob("*/*"))
    names = sorted({file.parent.name for file in files})
    for file in files[::FITTED]:
      (folder / "fitted" / file.parent.name).mkdir(parents=True, exist_ok=True)
      shutil.copy(file, folder / "fitted" / file.parent.name)
    for name in names:  # The official split of jax_me has to have training images.
      (folder / "images" / "train" / name).mkdir(parents=True)
      first = next(file for file in files if file.parent.name == name)
      shutil.copy(first, folder / "images" / "train" / name / f"train_{first.name}")
    command = [sys.executable, str(pathlib.Path(__file__).resolve()), "--family", family]
    command += ["--originals", str(originals), "--images", str(folder)]
    for source in (folder / "fitted", test):  # The weights, then the evaluation of the checkpoint.
      for split in ("train", "val"):
        (folder / split).unlink(missing_ok=True)
        (folder / split).symlink_to(source)
      subprocess.run(
        command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"LC_ALL": "C"}
      )
    logits = np.load(folder / "logits.npy").astype(np.float64)
    rows = evaluate_ours(family, folder, names)
    ours = np.array(
      [
        [float(rows[f"test/{file.parent.name}/{file.name}"][f"score_{name}"]) for name in names]
        for file in files
      ]
    )
  theirs = np.exp(logits - logits.max(1, keepdims=True))
  theirs /= theirs.sum(1, keepdims=True)
  labels = np.array([names.index(file.parent.name) for file in files])
  return {
    "recipe": FAMILIES[family][0],
    "images": len(files),
    "right_original": int((theirs.argmax(1) == labels).sum()),
    "right_ours": int((ours.argmax(1) == labels).sum()),
    "other_class": int((theirs.argmax(1) != ours.argmax(1)).sum()),
    "predicted_classes": len(set(theirs.argmax(1))),
    "largest_probability_difference": float(f"{np.abs(theirs - ours).max():.1e}"),
  }


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--originals", type=pathlib.Path, required=True)
  parser.add_argument("--images", type=pathlib.Path, help="<class>/<image>; default: drawn")
  parser.add_argument("--family", choices=FAMILIES, help=argparse.SUPPRESS)
  parser.add_argument("--only", choices=FAMILIES, help="one project; the other results are kept")
  arguments = parser.parse_args()
  originals = arguments.originals.resolve()
  if arguments.family:
    run_original(arguments.family, originals, arguments.images.resolve())
    return 0
  with tempfile.TemporaryDirectory() as scratch:
    images = arguments.images
    if images is None:
      images = pathlib.Path(scratch)
      draw_images(images)
    results = json.loads(RESULT.read_text()) if arguments.only and RESULT.exists() else {}
    for family in [arguments.only] if arguments.only else FAMILIES:
      results[family] = compare(family, originals, images)
      RESULT.write_text(json.dumps(results, indent=2) + "\n")
  print(json.dumps(results, indent=2))
  return int(any(row["other_class"] > 1 for row in results.values()))


if __name__ == "__main__":
  sys.exit(main())
