"""Do heat maps show what the score depends on? Faces are covered where a map is highest and lowest.

  python run.py --config configs/finetune_images.py:t2t_vit_7 --config.data.manual_dir=FOLDER
  python benchmarks/explain.py --checkpoint runs/finetune_images/fold1 --pictures FOLDER

Faces of people whom the fold did not train on. A window of a quarter of the side is filled with the
face's mean colour; the drop of the class's margin (its logit less the next one's) is measured where
the map has its largest and its smallest sum, and, as the peer, at random places. The rank
correlation is over a grid of windows; that of the transposed map tells whether the axes are right.
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
from jax_me.inference.face_input import model_faces  # noqa: E402
from jax_me.models.model_folder import load_model  # noqa: E402


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--checkpoint", required=True, type=pathlib.Path, help="a fold of a run")
  parser.add_argument("--pictures", required=True, type=pathlib.Path, help="its manual_dir")
  parser.add_argument("--faces", type=int, default=30)
  parser.add_argument("--output", type=pathlib.Path, help="JSON file; models are added to it")
  args = parser.parse_args()
  saved = load_model(str(args.checkpoint))
  with (args.checkpoint / "predictions.csv").open(newline="") as file:
    held_out = [row["file"] for row in csv.DictReader(file)]
  explainer, covers = Explainer(saved), Covers(saved)
  rows: dict[str, list[dict[str, float]]] = {}
  for name in held_out[: args.faces]:
    for face in model_faces(read_image(args.pictures / name), saved)[:1]:
      told = explainer.explain(face)
      drops = covers.drops(face.image, explainer.index(told.label))
      for method, heat in told.maps.items():
        rows.setdefault(method, []).append(covers.compare(drops, heat.pixels))
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


class Covers:
  """Windows over a face, on a grid of half their side."""

  def __init__(self, saved):
    self._window = saved.image_size // 4
    places = range(0, saved.image_size - self._window + 1, self._window // 2)
    self._places = [(y, x) for y in places for x in places]
    graphdef, self._state = nnx.split(saved.model)
    mean, std = (np.asarray(x, np.float32) for x in (saved.mean, saved.std))
    self._logits = jax.jit(lambda state, x: nnx.merge(graphdef, state)((x / 255 - mean) / std))

  def drops(self, image: np.ndarray, label: int) -> np.ndarray:
    """How much the margin of a class falls when each window is covered, [windows]."""
    shown = [image.astype(np.float32)]
    for y, x in self._places:
      covered = shown[0].copy()
      covered[y : y + self._window, x : x + self._window] = shown[0].mean((0, 1))
      shown.append(covered)
    logits = np.asarray(self._logits(self._state, np.stack(shown)))
    margin = logits[:, label] - np.delete(logits, label, axis=1).max(1)
    return margin[0] - margin[1:]

  def compare(self, drops: np.ndarray, heat: np.ndarray) -> dict[str, float]:
    """The drops where a map is highest, lowest, anywhere, and their correlation with it."""
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
    return np.array([heat[y : y + w, x : x + w].sum() for y, x in self._places])


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
  ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
  return float(np.corrcoef(*ranks)[0, 1])


if __name__ == "__main__":
  main()
