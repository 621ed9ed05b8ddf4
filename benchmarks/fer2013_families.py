"""What each family of models reaches on FER2013 in the time that the expression model took.

  python -m benchmarks.fer2013_families --fer2013 FOLDER --workdir RUNS [--models MODEL ...]

FOLDER is FER2013's folder of class folders. First a short training of the packaged CNN and of each
model measures images a second, which should be done on an idle machine; the epochs of a model are
those that fit into the time of the CNN's two stages. Each model is then trained once for that many
epochs from random weights, with the recipe's light augmentation (its second stage), and the weights
of the last epoch are tested on PublicTest with mirrored views averaged, as the packaged model is. A
ViT is pre-trained as an MAE on the same images for a part of the time. No setting is chosen on the
result; learning rates and pre-training were tried on held-out images of Training.

Rates and results are stored in benchmarks/results/fer2013_families.json as soon as they are there
and not measured again; a training that was stopped continues. At the end the package's CARD.md is
written again with these results.
"""

import argparse
import json
import pathlib
import statistics
from typing import Any

from benchmarks import package_expression_model as packaging
from benchmarks import recipe_runs
from configs.finetune_fer2013 import DEFAULT_MODEL, PRETRAINING, SECOND, get_config
from jax_me.bundled import EXPRESSION_MODEL
from jax_me.models.model_folder import load_model

RESULT = recipe_runs.ROOT / "benchmarks/results/fer2013_families.json"
PACKAGED = recipe_runs.ROOT / "benchmarks/results/expression_model.json"
MODELS = ("vit_tiny_patch16", "t2t_vit_7", "convnextv2_atto")
PRETRAINED = {"vit_tiny_patch16": f"vit_tiny_patch16,{PRETRAINING}"}
SHARE = 0.4  # Of the time, for pre-training.
SHORT = 0.6  # Epochs of the training that measures the rate.


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--fer2013", type=pathlib.Path, required=True)
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
  args = parser.parse_args()
  result = json.loads(RESULT.read_text()) if RESULT.exists() else {"images_per_second": {}}
  rates = result["images_per_second"]
  packaged_epochs = get_config().epochs + get_config(f"{DEFAULT_MODEL},{SECOND}").epochs
  for variant in (DEFAULT_MODEL, *MODELS, *PRETRAINED.values()):
    if variant not in rates:
      rates[variant] = rate(args, variant)
      write(result)

  def epochs_in(share: float, variant: str) -> int:
    """Epochs in a share of the time of the packaged model."""
    return round(share * packaged_epochs * rates[variant] / rates[DEFAULT_MODEL])

  for model in args.models:
    if model not in result.setdefault("models", {}):
      if pretraining := PRETRAINED.get(model):
        epochs, before = epochs_in(1 - SHARE, model), epochs_in(SHARE, pretraining)
      else:
        epochs, before = epochs_in(1, model), 0
      result["models"][model] = reached(args, model, epochs, before)
      write(result)
  packaged = json.loads(PACKAGED.read_text())
  text = packaging.card(packaged, table(result, packaged_epochs))
  (EXPRESSION_MODEL / "CARD.md").write_text(text, encoding="utf-8")


def write(result: dict[str, Any]) -> None:
  """Stores and prints the results so far."""
  text = json.dumps(result, indent=1) + "\n"
  RESULT.write_text(text)
  print(text, flush=True)


def train(
  args: argparse.Namespace, variant: str, folder: pathlib.Path, epochs: float, *more: str
) -> None:
  """Trains a variant of the recipe in a folder, or continues."""
  recipe_runs.run(
    f"finetune_fer2013.py:{variant}",
    folder,
    f"--config.data.manual_dir={args.fer2013.resolve()}",
    f"--config.data.data_dir={args.workdir.resolve() / 'data'}",
    f"--config.epochs={epochs}",
    *more,
  )


def rate(args: argparse.Namespace, variant: str) -> float:
  """Images a second of a training, without its first half."""
  folder = args.workdir / "rates" / variant
  train(args, variant if "," in variant else f"{variant},{SECOND}", folder, SHORT)
  lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
  found = [line["images_per_second"] for line in lines if "images_per_second" in line]
  return round(statistics.median(found[len(found) // 2 :]), 1)


def reached(args: argparse.Namespace, model: str, epochs: int, before: int) -> dict[str, Any]:
  """Trains a model, after epochs of pre-training if `before`, and measures it on PublicTest."""
  folder, pretrained = args.workdir / model, args.workdir / f"{model}_{PRETRAINING}"
  more = []
  if before:
    train(args, PRETRAINED[model], pretrained, float(before))
    more = [f"--config.init_from={pretrained.resolve()}"]
  train(args, f"{model},{SECOND}", folder, float(epochs), *more)
  saved = load_model(folder)
  assert saved.labels is not None
  images, truth = packaging.read_split(args.fer2013, list(saved.labels), "validation")
  views = (packaging.probabilities(saved, view) for view in (images, images[:, :, ::-1]))
  measured = packaging.measure(sum(views) / 2, truth, list(saved.labels))
  _, weights, _ = saved.split()
  parameters = sum(value.size for value in packaging.leaves(weights["params"]))
  kept = ("accuracy", "interval", "macro F1")
  done = {"epochs": epochs, "epochs of pre-training": before, "parameters": parameters}
  return {**done, **{key: measured[key] for key in kept}}


def table(result: dict[str, Any], epochs: float) -> str:
  """The section of the card, Markdown; `epochs` of the packaged model."""
  rates = result["images_per_second"]
  lines = [
    f"In about the time of these {epochs:g} epochs, from random weights, with mirrored views "
    "averaged, on PublicTest (`benchmarks/fer2013_families.py`; images a second of training, on "
    "the same two processor cores). MAE: pre-training on the same images.",
    "",
    "| model | parameters | images/s | epochs | accuracy | 95 % interval | macro F1 |",
    "|---|---|---|---|---|---|---|",
  ]
  lines += (
    f"| `{model}` | {one['parameters']:,} | {rates[model]:.0f} | {_epochs(one)} | "
    f"{one['accuracy']:.3f} | {one['interval'][0]:.3f} to {one['interval'][1]:.3f} | "
    f"{one['macro F1']:.3f} |"
    for model, one in result["models"].items()
  )
  return "\n".join(lines)


def _epochs(one: dict[str, Any]) -> str:
  before = one["epochs of pre-training"]
  return f"{one['epochs']} after {before} of MAE" if before else str(one["epochs"])


if __name__ == "__main__":
  main()
