"""Photographs per second of `Predictor.predict`, and the time of each stage.

  python benchmarks/photographs.py [--images FOLDER] [--output FILE]

The model is ConvNeXt V2 atto with 112-pixel input and random weights. Without --images the
photographs are variations of scikit-image's portrait. Stages are measured one after the other in
one thread; the list is read as by the user, with decoding and detection in threads. CPU time is of
all threads: on an idle machine the list takes no longer than its CPU time divided by the cores, and
the ratio of wall time to it shows how busy other programs kept the machine.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import skimage
from flax import nnx

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from jax_me.cpu_cores import available_cores  # noqa: E402
from jax_me.faces.detector import DEFAULT_DETECTOR  # noqa: E402
from jax_me.faces.image_files import encode_image, is_image_name, read_image  # noqa: E402
from jax_me.inference.batched_inference import BatchedInference  # noqa: E402
from jax_me.inference.model_input import FaceInput, face_inputs  # noqa: E402
from jax_me.inference.predictor import Predictor  # noqa: E402
from jax_me.models.model_folder import SavedModel  # noqa: E402
from jax_me.models.registry import create_model  # noqa: E402

MODEL, SIDE, CLASSES = "convnextv2_atto", 112, 7


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--images", type=pathlib.Path, help="folder with photographs of faces")
  parser.add_argument("--count", type=int, default=80, help="number of photographs")
  parser.add_argument("--output", type=pathlib.Path, help="JSON file for the result")
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    found = sorted(args.images.rglob("*")) if args.images else []
    files = [path for path in found if is_image_name(path.name)][: args.count]
    files = files or write_portraits(pathlib.Path(folder), args.count)
    result = measure(files)
  result = {"photographs": str(args.images or "variations of scikit-image's portrait"), **result}
  print(json.dumps(result, indent=2))
  if args.output:
    args.output.write_text(json.dumps(result, indent=2) + "\n")


def write_portraits(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
  """Writes the portrait with varying position and brightness."""
  portrait = read_image(pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png")
  for number in range(count):
    image = np.roll(portrait, number % 20, axis=1) // np.uint8(1 + (number % 7 == 6))
    (folder / f"{number}.jpg").write_bytes(encode_image(image, "jpg"))
  return sorted(folder.iterdir())


def measure(files: list[pathlib.Path]) -> dict[str, object]:
  """Times of the stages and of the whole list, in milliseconds per photograph."""
  predictor = random_predictor()
  predictor.predict(files[:8])  # compiles, loads the detectors
  images = [read_image(path) for path in files]
  faces = [face_inputs(image, predictor.saved) for image in images]
  times = {
    "decoding": timed(lambda: [read_image(path) for path in files], len(files)),
    "detection and alignment": timed(
      lambda: [face_inputs(image, predictor.saved) for image in images], len(files)
    ),
    "model": timed(lambda: classify(predictor.saved, faces), len(files)),
    "one at a time": timed(lambda: [predictor.predict(path) for path in files], len(files)),
    "list": timed(lambda: predictor.predict(files), len(files)),
  }
  return {
    "model": f"{MODEL}, {SIDE} pixels",
    "count": len(files),
    "pixels": list(images[0].shape[:2]),
    "faces": sum(map(len, faces)),
    "cores": available_cores(),
    "milliseconds per photograph": times,
    "photographs per second, list": round(1000 / times["list"]["wall"], 1),
  }


def random_predictor() -> Predictor:
  """A classifier with random weights that was trained on aligned faces."""
  model = create_model(MODEL, rngs=nnx.Rngs(0), num_classes=CLASSES)
  labels = [str(number) for number in range(CLASSES)]
  source = {"options": {"align": True, "detector": DEFAULT_DETECTOR}}
  arguments = {"num_classes": CLASSES}
  return Predictor(
    SavedModel(
      model, name=MODEL, arguments=arguments, labels=labels, image_size=SIDE, mean=[0.5] * 3,
      std=[0.5] * 3, source=source,
    )
  )  # fmt: skip


def classify(saved: SavedModel, faces: list[list[FaceInput]]) -> None:
  inference: BatchedInference[None] = BatchedInference(saved)
  for face in (face for found in faces for face in found):
    inference.submit(face.image, None)
  inference.flush()


def timed(run: Callable[[], object], count: int, repeats: int = 3) -> dict[str, float]:
  """Least wall time and least CPU time of a few runs, in milliseconds per photograph."""
  wall, cpu = [], []
  for _ in range(repeats):
    start, busy = time.perf_counter(), time.process_time()
    run()
    wall.append(time.perf_counter() - start)
    cpu.append(time.process_time() - busy)
  return {
    name: round(min(values) / count * 1000, 2) for name, values in (("wall", wall), ("cpu", cpu))
  }


if __name__ == "__main__":
  main()
