"""What each family of models reaches on FER2013 in the time that the expression model took.

  python -m benchmarks.fer2013_families --fer2013 FOLDER --workdir RUNS [--models MODEL ...]

FOLDER is FER2013's folder of class folders. First a short training of the packaged CNN and of each
model measures images a second, which should be done on an idle machine; the epochs of a model are
those that fit into the time of the CNN's two stages. Each model is then trained once for that many
epochs from random weights, with the recipe's light augmentation (its second stage), and the weights
of the last epoch are tested on PublicTest with mirrored views averaged, as the packaged model is.
No setting is chosen on the result.

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
from configs.finetune_fer2013 import DEFAULT_MODEL, SECOND, get_config
from jax_me.bundled import EXPRESSION_MODEL
from jax_me.models.model_folder import load_model

RESULT = recipe_runs.ROOT / "benchmarks/results/fer2013_families.json"
PACKAGED = recipe_runs.ROOT / "benchmarks/results/expression_model.json"
MODELS = ("vit_tiny_patch16", "t2t_vit_7", "convnextv2_atto")
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
  for model in (DEFAULT_MODEL, *MODELS):
    if model not in rates:
      rates[model] = rate(args, model)
      write(result)
  for model in args.models:
    if model not in result.setdefault("models", {}):
      epochs = round(packaged_epochs * rates[model] / rates[DEFAULT_MODEL])
      result["models"][model] = reached(args, model, epochs)
      write(result)
  packaged = json.loads(PACKAGED.read_text())
  text = packaging.card(packaged, table(result, packaged_epochs))
  (EXPRESSION_MODEL / "CARD.md").write_text(text, encoding="utf-8")


def write(result: dict[str, Any]) -> None:
  """Stores and prints the results so far."""
  text = json.dumps(result, indent=1) + "\n"
  RESULT.write_text(text)
  print(text, flush=True)


def train(args: argparse.Namespace, model: str, folder: pathlib.Path, epochs: float) -> None:
  """Trains a model from random weights in a folder, or continues."""
  recipe_runs.run(
    f"finetune_fer2013.py:{model},{SECOND}",
    folder,
    f"--config.data.manual_dir={args.fer2013.resolve()}",
    f"--config.data.data_dir={args.workdir.resolve() / 'data'}",
    f"--config.epochs={epochs}",
  )


def rate(args: argparse.Namespace, model: str) -> float:
  """Images a second of a training, without its first half."""
  folder = args.workdir / "rates" / model
  train(args, model, folder, SHORT)
  lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
  found = [line["images_per_second"] for line in lines if "images_per_second" in line]
  return round(statistics.median(found[len(found) // 2 :]), 1)


def reached(args: argparse.Namespace, model: str, epochs: int) -> dict[str, Any]:
  """Trains a model and measures it on PublicTest."""
  folder = args.workdir / model
  train(args, model, folder, float(epochs))
  saved = load_model(folder)
  assert saved.labels is not None
  images, truth = packaging.read_split(args.fer2013, list(saved.labels), "validation")
  views = (packaging.probabilities(saved, view) for view in (images, images[:, :, ::-1]))
  measured = packaging.measure(sum(views) / 2, truth, list(saved.labels))
  _, weights, _ = saved.split()
  parameters = sum(value.size for value in packaging.leaves(weights["params"]))
  kept = ("accuracy", "interval", "macro F1")
  return {"epochs": epochs, "parameters": parameters, **{key: measured[key] for key in kept}}


def table(result: dict[str, Any], epochs: float) -> str:
  """The section of the card, Markdown; `epochs` of the packaged model."""
  rates = result["images_per_second"]
  lines = [
    f"In the time of these {epochs:g} epochs, from random weights, with mirrored views averaged, "
    "on PublicTest (`benchmarks/fer2013_families.py`; images a second of training, on the same two "
    "processor cores):",
    "",
    "| model | parameters | images/s | epochs | accuracy | 95 % interval | macro F1 |",
    "|---|---|---|---|---|---|---|",
  ]
  lines += (
    f"| `{model}` | {one['parameters']:,} | {rates[model]:.0f} | {one['epochs']} | "
    f"{one['accuracy']:.3f} | {one['interval'][0]:.3f} to {one['interval'][1]:.3f} | "
    f"{one['macro F1']:.3f} |"
    for model, one in result["models"].items()
  )
  return "\n".join(lines)


if __name__ == "__main__":
  main()
