"""A hub model of transformers beside the same model converted: logits on the same image files.

  python benchmarks/hub_pipeline.py --images FER2013/validation --train FER2013/train
  python benchmarks/hub_pipeline.py --images FOLDER --model HUB_FOLDER

Each side reads and prepares the files itself: transformers with the image processor of the hub
folder, jax_me with the folder that `convert` made of it. `--images` is a folder with one folder a
class. Without `--model`, a small ViT is trained on images of `--train` for a few minutes, so that
its predictions and their margins are those of a real classifier, and saved as the hub stores it.

Needs transformers (`pip install transformers==5.24.0`). Prints JSON: the largest difference of the
logits, accuracies, and every image whose predictions differ, with the margin of both sides between
their two largest logits.
"""

import argparse
import json
import pathlib
import random
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import transformers
from PIL import Image

from convert import torch_to_flax
from jax_me import load

BATCH = 50
SEED = 0


def image_files(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
  files = sorted(folder.glob("*/*.jpg"))
  return sorted(random.Random(SEED).sample(files, min(count, len(files))))


def rgb(path: pathlib.Path) -> Image.Image:
  return Image.open(path).convert("RGB")


def train_hub_model(train: pathlib.Path, folder: pathlib.Path, count: int, epochs: int) -> None:
  """Trains a small ViT and saves it with its image processor in the layout of the hub."""
  torch.manual_seed(SEED)
  labels = sorted(path.name for path in train.iterdir() if path.is_dir())
  config = transformers.ViTConfig(
    hidden_size=96,
    num_hidden_layers=4,
    num_attention_heads=3,
    intermediate_size=192,
    image_size=64,
    patch_size=8,
    num_labels=len(labels),
    id2label=dict(enumerate(labels)),
    label2id={label: index for index, label in enumerate(labels)},
  )
  model = transformers.ViTForImageClassification(config)
  processor = transformers.ViTImageProcessorPil(size={"height": 64, "width": 64})
  files = image_files(train, count)
  images = torch.cat(
    [
      processor([rgb(path) for path in files[start : start + BATCH]], return_tensors="pt")[
        "pixel_values"
      ]
      for start in range(0, len(files), BATCH)
    ]
  )
  targets = torch.tensor([labels.index(path.parent.name) for path in files])
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
  for _ in range(epochs):
    for batch in torch.randperm(len(files)).split(BATCH):
      loss = model(pixel_values=images[batch], labels=targets[batch]).loss
      optimizer.zero_grad()
      loss.backward()
      optimizer.step()
  model.save_pretrained(folder)
  processor.save_pretrained(folder)


def transformers_logits(folder: pathlib.Path, files: list[pathlib.Path]) -> np.ndarray:
  """[N, classes]."""
  model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
  processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
  with torch.inference_mode():
    return np.concatenate(
      [
        model(
          **processor([rgb(path) for path in files[start : start + BATCH]], return_tensors="pt")
        ).logits.numpy()
        for start in range(0, len(files), BATCH)
      ]
    )


def jax_me_logits(
  folder: pathlib.Path, files: list[pathlib.Path]
) -> tuple[np.ndarray, list[str], list[str]]:
  """Logits [N, classes], labels in their order, and what `predict` answers for each file."""
  predictor = load(folder)
  answers = [str(result[0].label) for result in predictor.predict([str(path) for path in files])]
  images = np.stack([predictor.preprocess(np.asarray(rgb(path)))[0][0] for path in files])
  saved = predictor.saved
  inputs = (images.astype(np.float32) / 255 - np.float32(saved.mean)) / np.float32(saved.std)
  logits = [
    np.asarray(predictor.model(inputs[start : start + BATCH]))
    for start in range(0, len(files), BATCH)
  ]
  return np.concatenate(logits), list(predictor.labels), answers


def margin(logits: np.ndarray) -> float:
  second, first = np.sort(logits)[-2:]
  return float(first - second)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--images", type=pathlib.Path, required=True)
  parser.add_argument("--model", type=pathlib.Path, help="folder of transformers")
  parser.add_argument("--train", type=pathlib.Path, help="images to train a small model on")
  parser.add_argument("--count", type=int, default=500)
  parser.add_argument("--train_images", type=int, default=4000)
  parser.add_argument("--epochs", type=int, default=8)
  args = parser.parse_args()
  if (args.model is None) == (args.train is None):
    parser.error("give --model or --train")
  files = image_files(args.images, args.count)
  with tempfile.TemporaryDirectory() as temporary:
    hub, converted = args.model or pathlib.Path(temporary, "hub"), pathlib.Path(temporary, "model")
    if args.train is not None:
      train_hub_model(args.train, hub, args.train_images, args.epochs)
    torch_to_flax.main(["--checkpoint", str(hub), "--output", str(converted)])
    theirs = transformers_logits(hub, files)
    ours, labels, answers = jax_me_logits(converted, files)
  actual = [path.parent.name for path in files]
  predicted = {
    "transformers": [labels[index] for index in theirs.argmax(axis=1)],
    "jax_me": answers,
  }
  different = [
    {
      "file": path.name,
      **{side: names[index] for side, names in predicted.items()},
      "margins": [margin(theirs[index]), margin(ours[index])],
    }
    for index, path in enumerate(files)
    if predicted["transformers"][index] != predicted["jax_me"][index]
  ]
  summary = {
    "images": len(files),
    "largest_logit": float(np.abs(theirs).max()),
    "largest_difference": float(np.abs(theirs - ours).max()),
    "accuracy": {
      side: float(np.mean([a == b for a, b in zip(names, actual, strict=True)]))
      for side, names in predicted.items()
    },
    "smallest_margin": min(margin(row) for row in theirs),
    "different_predictions": different,
    "transformers": transformers.__version__,
  }
  print(json.dumps(summary, indent=2))


if __name__ == "__main__":
  main()
