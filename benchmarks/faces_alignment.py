"""Speed of face alignment: jax_me against the method of the original script, on the same files.

The original (FacePretreatment_dlib of ViT_MicroExpression) creates dlib's detector and loads the
100 MB landmark model again for every image, and detects with one upsampling. Both methods read the
file, find the face, extract dlib's face chip of 224 pixels and write a PNG.

  python benchmarks/faces_alignment.py [--images DIR] [--limit 20] [--workers 2]

Without --images, 640 x 640 variants of the portrait in the scikit-image wheel are used. The result
is written to benchmarks/results/faces_alignment.json.
"""

import argparse
import importlib.util
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import cv2
import dlib
import numpy as np

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from jax_me.faces import align_folder, detector, image_files  # noqa: E402

RESULT = REPOSITORY / "benchmarks" / "results" / "faces_alignment.json"
SIZE = 224
REQUIRED_RATIO = 30
VARIANTS = 60


def make_variants(folder: pathlib.Path) -> None:
  """Writes photographs of one person with varying brightness and position."""
  wheel = importlib.util.find_spec("skimage")
  assert wheel is not None and wheel.submodule_search_locations is not None
  portrait = image_files.read_image(
    pathlib.Path(wheel.submodule_search_locations[0]) / "data" / "astronaut.png"
  )
  random = np.random.default_rng(0)
  for number in range(VARIANTS):
    left, top = random.integers(80, 110), random.integers(0, 20)
    head = cv2.resize(portrait[top : top + 260, left : left + 260], (640, 640))
    head = cv2.convertScaleAbs(head, alpha=random.uniform(0.7, 1.1))
    (folder / f"{number:03d}.jpg").write_bytes(image_files.encode_image(head, "jpg"))


def align_as_original(paths: list[pathlib.Path], output: pathlib.Path) -> int:
  """Aligns as the original does; returns the number of faces found."""
  found = 0
  for path in paths:
    find = dlib.get_frontal_face_detector()
    landmarks = dlib.shape_predictor(str(detector.landmark_model_path()))
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    boxes = find(image, 1)
    if boxes:
      chip = dlib.get_face_chip(image, landmarks(image, boxes[-1]), size=SIZE)
      cv2.imwrite(str(output / f"{path.stem}.png"), cv2.cvtColor(chip, cv2.COLOR_RGB2BGR))
      found += 1
  return found


def align_with_jax_me(folder: pathlib.Path, output: pathlib.Path, workers: int) -> int:
  """Aligns all images of a folder; returns the number of faces found."""
  summary = align_folder.align_folder(folder, output, size=SIZE, workers=workers, quiet=True)
  return summary["counts"].get("ok", 0) + summary["counts"].get("several_faces", 0)


def timed(function: Callable, *arguments) -> tuple[float, float, int]:
  """Returns (wall seconds, CPU seconds of this process, the function's result)."""
  start, start_cpu = time.perf_counter(), time.process_time()
  result = function(*arguments)
  return time.perf_counter() - start, time.process_time() - start_cpu, result


def measure(folder: pathlib.Path, limit: int, workers: int, rounds: int) -> dict:
  """Measures both methods on a folder, interleaved so that other load affects both."""
  paths = sorted(path for path in folder.iterdir() if image_files.is_image_name(path.name))
  baseline = [paths[i] for i in np.linspace(0, len(paths) - 1, min(limit, len(paths))).astype(int)]
  height, width = image_files.read_image(paths[0]).shape[:2]
  original, warm = np.zeros(3), np.zeros(3)
  with tempfile.TemporaryDirectory() as scratch:
    out = pathlib.Path(scratch)
    (out / "original").mkdir()
    # The first run loads the models; later runs in this process reuse them.
    cold, _, found = timed(align_with_jax_me, folder, out / "cold", 1)
    for turn in range(rounds):
      several = out / "many" / str(turn)
      several.mkdir(parents=True)
      for path in paths:
        (several / path.name).symlink_to(path.resolve())
      original += timed(align_as_original, baseline[turn::rounds], out / "original")
      warm += timed(align_with_jax_me, several, out / f"warm{turn}", 1)
    parallel, _, _ = timed(align_with_jax_me, out / "many", out / "parallel", workers)
  count = len(paths) * rounds
  seconds, cpu, original_found = original
  speed_of_original = len(baseline) / seconds

  def ours(speed: float) -> dict:
    return {"images_per_second": round(speed, 2), "ratio": round(speed / speed_of_original, 1)}

  return {
    "images": len(paths),
    "image_size": [width, height],
    "faces_found": found,
    "original": {
      "images": len(baseline),
      "faces_found": int(original_found),
      "images_per_second": round(speed_of_original, 3),
      "cpu_seconds_per_image": round(cpu / len(baseline), 4),
    },
    "one_process": {
      "images": count,
      **ours(count / warm[0]),
      "cpu_seconds_per_image": round(warm[1] / count, 4),
      "cpu_ratio": round(cpu / len(baseline) / (warm[1] / count), 1),
    },
    "one_process_with_loading_of_models": {"images": len(paths), **ours(len(paths) / cold)},
    "workers_with_start_and_loading": {
      "workers": workers,
      "images": count,
      **ours(count / parallel),
    },
  }


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--images", type=pathlib.Path, help="folder with photographs of faces")
  parser.add_argument("--limit", type=int, default=20, help="images for the original method (slow)")
  parser.add_argument("--workers", type=int, default=2)
  parser.add_argument("--rounds", type=int, default=4, help="interleaved repetitions")
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    if arguments.images is None:
      make_variants(pathlib.Path(scratch))
    folder = arguments.images or pathlib.Path(scratch)
    result = measure(folder, arguments.limit, arguments.workers, arguments.rounds)
  real = folder.resolve()
  photographs = (
    "portrait variants" if arguments.images is None else f"{real.parent.name}/{real.name}"
  )
  result = {"photographs": photographs, **result}
  text = json.dumps(result, indent=2)
  print(text)
  RESULT.parent.mkdir(parents=True, exist_ok=True)
  RESULT.write_text(text + "\n")
  ratio = result["one_process"]["ratio"]
  if ratio < REQUIRED_RATIO:
    print(f"only {ratio} times the original's speed; {REQUIRED_RATIO} are required")
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main())
