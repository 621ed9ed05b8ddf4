"""Makes the expression model that comes with jax_me from a run of configs/finetune_fer2013.py.

  python -m benchmarks.package_expression_model --run RUN --fer2013 FER2013 --crop CROP.json \
      --london LONDON --output jax_me/expression_model

RUN is the finished run, FER2013 its folder of class folders, CROP.json the result of
`benchmarks.fer2013_crop`, LONDON the optional folder of the Face Research Lab London Set with
labels.csv. The folder of --output must not exist. The steps:

1. The weights of the last epoch are loaded and rounded to float16.
2. A temperature is fitted on the held-out Training images (every 20th, split "calibration") and
   divides the weights of the head.
3. The model folder is written with the crop of FER2013, checksums and the reference check.
4. It is loaded again and measured on PublicTest and on the London photographs.
5. CARD.md is written into it, and the figures into --results. `benchmarks.fer2013_families` adds
   what other models reach in the same time.

PrivateTest is not read.
"""

import argparse
import csv
import json
import math
import pathlib
from typing import Any

import cv2
import numpy as np
from scipy.optimize import minimize_scalar

import jax_me
from configs.finetune_fer2013 import SECOND
from jax_me.data.labels import canonical_label
from jax_me.datasets.fer2013.class_folders import list_images
from jax_me.evaluation.calibration import expected_calibration_error
from jax_me.evaluation.metrics import confusion_matrix, scores
from jax_me.models.classifier import make_classifier
from jax_me.models.model_folder import load_model, save_model
from jax_me.models.saved_model import SavedModel
from jax_me.models.weight_files import SAFETENSORS

TEMPLATE = pathlib.Path(__file__).with_name("expression_model_card.md")
RECIPE = "configs/finetune_fer2013.py"
EVERY = 20  # The option `calibration` of the recipe.
BATCH = 256
CROP_SIZE = 144  # Of a photograph's face, before the resize to the model's input.
RESTRICTED = ("neutral", "happiness")
LICENCE = (
  "weights trained on FER2013, whose images were found by web search and whose rights are unclear: "
  "research use"
)


def read_split(folder: pathlib.Path, labels: list[str], name: str) -> tuple[np.ndarray, np.ndarray]:
  """Images uint8 [N, 48, 48] and labels [N] of "calibration", "train" or "validation"."""
  of = "train" if name == "calibration" else name
  listed = [image for split, image in list_images(folder) if split == of]
  if name == "calibration":
    listed = listed[EVERY - 1 :: EVERY]
  elif name == "train":
    del listed[EVERY - 1 :: EVERY]
  pixels = [cv2.imread(str(folder / image.file), cv2.IMREAD_GRAYSCALE) for image in listed]
  return np.stack(pixels), np.array([labels.index(image.label) for image in listed])


def probabilities(saved: SavedModel, images: np.ndarray) -> np.ndarray:
  """Class probabilities float64 [N, C] of grey images uint8 [N, S, S]."""
  graphdef, weights, normalisation = saved.split()
  classify = make_classifier(graphdef)
  found = []
  for start in range(0, len(images), BATCH):
    batch = images[start : start + BATCH]
    padded = np.concatenate([batch, np.zeros((BATCH - len(batch), *batch.shape[1:]), np.uint8)])
    rgb = np.repeat(padded[..., None], 3, axis=-1)
    found.append(np.asarray(classify(weights, normalisation, rgb), np.float64)[: len(batch)])
  return np.concatenate(found)


def softened(values: np.ndarray, temperature: float) -> np.ndarray:
  """Probabilities [N, C] after division of their logits by a temperature."""
  scaled = np.log(np.maximum(values, 1e-30)) / temperature
  scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
  return scaled / scaled.sum(axis=1, keepdims=True)


def fit_temperature(values: np.ndarray, truth: np.ndarray) -> float:
  """The temperature with the smallest negative log-likelihood (arXiv:1706.04599, section 4.2)."""

  def loss(log_temperature: float) -> float:
    chosen = softened(values, np.exp(log_temperature))[np.arange(len(truth)), truth]
    return -np.log(np.maximum(chosen, 1e-30)).mean()

  return float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x))


def wilson(right: int, count: int) -> tuple[float, float]:
  """95 % interval of a proportion (Wilson 1927)."""
  z = 1.959964
  centre = (right + z**2 / 2) / (count + z**2)
  half = z / (count + z**2) * math.sqrt(right * (count - right) / count + z**2 / 4)
  return round(max(0.0, centre - half), 4), round(min(1.0, centre + half), 4)


def measure(values: np.ndarray, truth: np.ndarray, labels: list[str]) -> dict[str, Any]:
  """Accuracy, macro F1, calibration error, and the recall of each class with its interval."""
  predicted = values.argmax(axis=1)
  right = predicted == truth
  result = scores(confusion_matrix(truth, predicted, len(labels)), labels)
  return {
    "images": len(truth),
    "accuracy": round(float(right.mean()), 4),
    "interval": wilson(int(right.sum()), len(truth)),
    "macro F1": round(float(result["uf1"]), 4),
    "ECE": round(float(expected_calibration_error(values.max(axis=1), right)["ece"]), 4),
    "classes": {
      label: {
        "images": int((truth == number).sum()),
        "recall": round(float(right[truth == number].mean()), 4),
        "interval": wilson(int(right[truth == number].sum()), int((truth == number).sum())),
      }
      for number, label in enumerate(labels)
    },
  }


def measure_london(model: Any, folder: pathlib.Path) -> dict[str, Any]:
  """Neutral and smiling photographs of the London set, with all classes and with these two."""
  with (folder / "labels.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  counts = {"photographs": len(rows), "without a face": 0, "right": 0, "right of the two": 0}
  right_of = dict.fromkeys(RESTRICTED, 0)
  for row in rows:
    path = next(p for p in (folder / "images" / row["file"], folder / row["file"]) if p.exists())
    face = model.predict(path)[0]
    truth = canonical_label(row["expression"])
    if face.label is None:
      counts["without a face"] += 1
      continue
    counts["right"] += face.label == truth
    right_of[truth] += face.label == truth
    counts["right of the two"] += max(RESTRICTED, key=face.scores.__getitem__) == truth
  return {
    **counts,
    "accuracy": round(counts["right"] / len(rows), 4),
    "interval": wilson(counts["right"], len(rows)),
    "accuracy of the two": round(counts["right of the two"] / len(rows), 4),
    "interval of the two": wilson(counts["right of the two"], len(rows)),
    "right by label": right_of,
  }


def card(result: dict[str, Any], families: str = "Not measured.") -> str:
  """The model card, Markdown."""
  test, clean, crop = result["PublicTest"], result["PublicTest without copies"], result["crop"]
  rows = (
    f"| {label} | {one['images']} | {one['recall']:.3f} | {one['interval'][0]:.3f} to "
    f"{one['interval'][1]:.3f} |"
    for label, one in test["classes"].items()
  )
  photographs = "Not measured."
  if london := result.get("London"):
    low, high = london["interval"]
    low_two, high_two = london["interval of the two"]
    right = london["right by label"]
    photographs = (
      f"Face Research Lab London Set, {london['photographs']} photographs of adults, each once "
      f"neutral and once smiling, read by `predict`: accuracy {london['accuracy']:.3f} (95 % "
      f"interval {low:.3f} to {high:.3f}) with all seven classes ({right['neutral']} neutral and "
      f"{right['happiness']} smiling ones are right), {london['accuracy of the two']:.3f} "
      f"({low_two:.3f} to {high_two:.3f}) with the probabilities of neutral and happiness alone. "
      f"Without a face: {london['without a face']}."
    )
  return TEMPLATE.read_text(encoding="utf-8").format(
    model=result["model"],
    parameters=result["parameters"],
    megabytes=result["bytes"] / 1e6,
    side=result["image_size"],
    zoom=result["zoom"],
    labels=", ".join(test["classes"]),
    every=EVERY,
    training=result["training"],
    test=test,
    clean=clean,
    copies=test["images"] - clean["images"],
    rows="\n".join(rows),
    families=families,
    temperature=result["temperature"],
    held_out=result["calibration images"],
    ece_before=result["ECE before"],
    photographs=photographs,
    crop=crop,
    shift=abs(crop["down"]),
    direction="below" if crop["down"] > 0 else "above",
  )


def training_of(run: pathlib.Path, model: str) -> tuple[str, str]:
  """The stages of a run in words: all of them for the card, and those before it for model.json."""
  epochs: list[float] = []
  folder = str(run)
  while folder:
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    epochs.insert(0, config["epochs"])
    folder = config.get("init_from", "")
  recipes = RECIPE, f"{RECIPE}:{model},{SECOND}"
  first, *others = (
    f"{count:.0f} epochs of {recipe}" for count, recipe in zip(epochs, recipes, strict=False)
  )
  training = f"{first} from random weights" + "".join(f", then {x} from theirs" for x in others)
  return training, first if others else ""


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--run", type=pathlib.Path, required=True)
  parser.add_argument("--fer2013", type=pathlib.Path, required=True)
  parser.add_argument("--crop", type=pathlib.Path, required=True)
  parser.add_argument("--london", type=pathlib.Path)
  parser.add_argument("--output", type=pathlib.Path, required=True)
  parser.add_argument("--results", type=pathlib.Path, help="JSON file of the figures")
  args = parser.parse_args()
  saved = load_model(args.run)
  assert saved.labels is not None
  labels = list(saved.labels)
  fitted = json.loads(args.crop.read_text())
  crop = {name: fitted[name]["median"] for name in ("scale", "down")}

  held_out, truth = read_split(args.fer2013, labels, "calibration")
  temperature = fit_temperature(probabilities(saved, held_out), truth)
  tested, tested_truth = read_split(args.fer2013, labels, "validation")
  before = measure(probabilities(saved, tested), tested_truth, labels)

  training, initial = training_of(args.run, saved.name)

  head: Any = saved.model.head  # type: ignore[attr-defined]
  for parameter in (head.kernel, head.bias):
    parameter[...] = parameter[...] / temperature
  save_model(
    args.output,
    saved.model,
    weights_format=SAFETENSORS,
    half=True,
    name=saved.name,
    arguments=saved.arguments,
    labels=labels,
    image_size=saved.image_size,
    mean=saved.mean,
    std=saved.std,
    source={**saved.source, "init_from": initial, "temperature": round(temperature, 4)},
    alignment={
      "align": True,
      "size": CROP_SIZE,
      "detector": "yunet+hog",
      **crop,
      "upright": True,
      "grey": True,
    },
    licence=LICENCE,
  )

  model = jax_me.load(args.output, verify=True)
  values = probabilities(model.saved, tested)
  known = {image.tobytes() for image in read_split(args.fer2013, labels, "train")[0]}
  new = np.array([image.tobytes() not in known for image in tested])
  _, weights, _ = model.saved.split()
  result = {
    "model": saved.name,
    "image_size": saved.image_size,
    "zoom": saved.arguments["zoom"],
    "training": training,
    "parameters": sum(value.size for value in leaves(weights["params"])),
    "bytes": sum(path.stat().st_size for path in args.output.iterdir()),
    "temperature": round(temperature, 4),
    "calibration images": len(truth),
    "crop": {**crop, "images": fitted["with one face"]},
    "ECE before": before["ECE"],
    "accuracy before": before["accuracy"],
    "PublicTest": measure(values, tested_truth, labels),
    "PublicTest without copies": measure(values[new], tested_truth[new], labels),
  }
  if args.london:
    result["London"] = measure_london(model, args.london)
  (args.output / "CARD.md").write_text(card(result), encoding="utf-8")
  text = json.dumps(result, indent=1) + "\n"
  print(text)
  if args.results:
    args.results.write_text(text)


def leaves(tree: Any) -> list[Any]:
  """The arrays of a nested dict."""
  if isinstance(tree, dict):
    return [leaf for value in tree.values() for leaf in leaves(value)]
  return [tree]


if __name__ == "__main__":
  main()
