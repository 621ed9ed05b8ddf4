"""Smoke test of the base install: a model folder, a photograph and a video, without any extra.

  python .github/smoke_test.py

Run it outside the checkout in an environment that contains only the wheel of jax_me.
"""

import csv
import importlib.util
import pathlib
import subprocess
import tempfile

import cv2
import numpy as np
from flax import nnx

import jax_me
from jax_me.models import create_model
from jax_me.models.model_folder import save_model

EXTRAS = ("tensorflow_datasets", "grain", "array_record", "ml_collections", "torch")
ARGUMENTS = {"image_size": 32, "depth": 1, "num_classes": 3}


def make_model(folder: pathlib.Path, *, align: bool) -> None:
  save_model(
    folder,
    create_model("vit_tiny_patch16", rngs=nnx.Rngs(0), **ARGUMENTS),
    name="vit_tiny_patch16",
    arguments=ARGUMENTS,
    labels=["negative", "positive", "surprise"],
    image_size=32,
    mean=[0.5] * 3,
    std=[0.25] * 3,
    source={"options": {"align": align}},
  )


def predict(source: pathlib.Path, model: pathlib.Path, output: pathlib.Path) -> list[str]:
  """Runs `jax-me predict` and returns the status of each row."""
  command = ["jax-me", "predict", str(source), "--checkpoint", str(model), "--output", str(output)]
  subprocess.run(command, check=True)
  with (output / "predictions.csv").open(newline="") as file:
    return [row["status"] for row in csv.DictReader(file)]


def main() -> None:
  installed = [name for name in EXTRAS if importlib.util.find_spec(name)]
  assert not installed, f"not a base install: {installed}"
  subprocess.run(["jax-me", "--help"], check=True, stdout=subprocess.DEVNULL)
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    frames = np.random.default_rng(0).integers(0, 256, (5, 96, 128, 3), np.uint8)
    photograph, video = folder / "photograph.png", folder / "video.avi"
    cv2.imwrite(str(photograph), frames[0])
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 30, (128, 96))
    for frame in frames:
      writer.write(frame)
    writer.release()
    make_model(folder / "whole_image", align=False)
    make_model(folder / "aligned", align=True)
    (face,) = jax_me.load(folder / "whole_image").predict(photograph)
    assert face.status == "ok" and abs(sum(face.scores.values()) - 1) < 1e-5, face
    assert predict(photograph, folder / "aligned", folder / "out1") == ["no_face"]
    assert predict(video, folder / "aligned", folder / "out2") == ["no_face"] * len(frames)
  print("base install works")


if __name__ == "__main__":
  main()
