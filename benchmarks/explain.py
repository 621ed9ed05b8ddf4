"""Faithfulness of heat maps: drop of the score when high or low regions of a map are occluded.

  python run.py --config configs/finetune_images.py:t2t_vit_7 --config.data.manual_dir=FOLDER
  python benchmarks/explain.py --checkpoint runs/finetune_images/fold1 --images FOLDER

Uses the held-out faces of the fold. A window of a quarter of the image side is filled with the
mean colour of the face. The drop of the class margin (its logit minus the next largest) is measured
for the windows with the largest and the smallest sum of the map, and, as a baseline, averaged over
all windows. The rank correlation between drops and sums is over the grid of windows. The
correlation of the transposed map shows whether the axes are right.
"""

import argparse
import csv
import json
import pathlib
import statistics
import sys

import jax
import numpy as np
from flax import nnx

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from jax_me.faces.image_files import read_image  # noqa: E402
from jax_me.inference.explain.explainer import Explainer  # noqa: E402
from jax_me.inference.model_input import face_inputs  # noqa: E402
from jax_me.models.model_folder import load_model  # noqa: E402


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--checkpoint", required=True, type=pathlib.Path, help="workdir of one fold")
  parser.add_argument(
    "--images", "--pictures", required=True, type=pathlib.Path, help="manual_dir of the run"
  )
  parser.add_argument("--faces", type=int, default=30, help="number of held-out faces")
  parser.add_argument("--output", type=pathlib.Path, help="JSON file; the result is added to it")
  args = parser.parse_args()
  saved = load_model(str(args.checkpoint))
  with (args.checkpoint / "predictions.csv").open(newline="") as file:
    held_out = [row["file"] for row in csv.DictReader(file)]
  explainer, occlusion = Explainer(saved), Occlusion(saved)
  rows: dict[str, list[dict[str, float]]] = {}
  for name in held_out[: args.faces]:
    for face in face_inputs(read_image(args.images / name), saved)[:1]:
      explanation = explainer.explain(face)
      drops = occlusion.drops(face.image, explainer.class_index(explanation.label))
      for method, heat in explanation.maps.items():
        rows.setdefault(method, []).append(occlusion.compare(drops, heat.pixels))
  result = {
    "model": saved.name,
    "methods": {
      method: {
        "faces": len(found),
        **{key: round(statistics.mean(row[key] for row in found), 3) for key in found[0]},
      }
      for method, found in rows.items()
    },
  }
  print(json.dumps(result, indent=2))
  if args.output:
    args.output.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(args.output.read_text()) if args.output.exists() else []
    known = [one for one in known if one["model"] != saved.name] + [result]
    args.output.write_text(json.dumps(known, indent=2) + "\n")


class Occlusion:
  """Occluding windows over a face, on a grid with a step of half a window."""

  def __init__(self, saved):
    self._window = saved.image_size // 4
    offsets = range(0, saved.image_size - self._window + 1, self._window // 2)
    self._corners = [(y, x) for y in offsets for x in offsets]
    graphdef, self._state = nnx.split(saved.model)
    mean, std = (np.asarray(x, np.float32) for x in (saved.mean, saved.std))
    self._logits = jax.jit(lambda state, x: nnx.merge(graphdef, state)((x / 255 - mean) / std))

  def drops(self, image: np.ndarray, label: int) -> np.ndarray:
    """Drop of the class margin for each occluded window, [windows]."""
    images = [image.astype(np.float32)]
    for y, x in self._corners:
      occluded = images[0].copy()
      occluded[y : y + self._window, x : x + self._window] = images[0].mean((0, 1))
      images.append(occluded)
    logits = np.asarray(self._logits(self._state, np.stack(images)))
    margin = logits[:, label] - np.delete(logits, label, axis=1).max(1)
    return margin[0] - margin[1:]

  def compare(self, drops: np.ndarray, heat: np.ndarray) -> dict[str, float]:
    """Drops at the highest, lowest and average window of a map, and their correlation with it."""
    sums, transposed = self._sums(heat), self._sums(heat.T)
    return {
      "drop_at_highest": float(drops[sums.argmax()]),
      "drop_at_lowest": float(drops[sums.argmin()]),
      "drop_at_random": float(drops.mean()),
      "rank_correlation": rank_correlation(drops, sums),
      "rank_correlation_transposed": rank_correlation(drops, transposed),
    }

  def _sums(self, heat: np.ndarray) -> np.ndarray:
    w = self._window
    return np.array([heat[y : y + w, x : x + w].sum() for y, x in self._corners])


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
  ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
  return float(np.corrcoef(*ranks)[0, 1])


if __name__ == "__main__":
  main()
