"""Time to load a model folder of ViT-B: with all checks, and without checksums and finiteness.

  python benchmarks/model_loading.py [--repeats 5]

The variants alternate in one process. Prints JSON with medians in seconds and their ratio.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np
from flax import nnx

from jax_me.models import model_folder
from jax_me.models.registry import create_abstract_model

NAME = "vit_base_patch16"


def random_model() -> nnx.Module:
  graphdef, state = nnx.split(create_abstract_model(NAME))
  generator = np.random.default_rng(0)
  values = jax.tree.map(
    lambda leaf: jax.numpy.asarray(generator.standard_normal(leaf.shape, np.float32)), state
  )
  return nnx.merge(graphdef, values)


def load(folder: pathlib.Path) -> float:
  started = time.perf_counter()
  saved = model_folder.load_model(folder)
  jax.block_until_ready(nnx.state(saved.model))
  return time.perf_counter() - started


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--repeats", type=int, default=5)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary) / "model"
    fields = {"labels": None, "image_size": 224, "mean": [0.5] * 3, "std": [0.5] * 3, "source": {}}
    model_folder.save_model(folder, random_model(), name=NAME, arguments={}, **fields)
    load(folder)  # fills the page cache
    checked, unchecked = [], []
    for _ in range(args.repeats):
      checked.append(load(folder))
      with (
        mock.patch.object(model_folder, "check_model_folder"),
        mock.patch.object(model_folder.np, "isfinite", lambda value: np.True_),
      ):
        unchecked.append(load(folder))
  seconds = {"checked": statistics.median(checked), "unchecked": statistics.median(unchecked)}
  print(json.dumps({**seconds, "ratio": seconds["checked"] / seconds["unchecked"]}, indent=2))


if __name__ == "__main__":
  main()
