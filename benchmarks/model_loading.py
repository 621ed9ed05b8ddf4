"""Time to load a model folder of ViT-B: with all checks, and without checksums and finiteness.

  python benchmarks/model_loading.py [--repeats 5]

For weights in Orbax and in safetensors. The variants alternate in one process. Prints JSON with
medians in seconds and the ratio of the medians, of wall time and of CPU time: the checks run beside
the reading, which shows in the wall time only while a core is free.
"""

import argparse
import contextlib
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

from jax_me.cpu_cores import available_cores
from jax_me.models import model_folder
from jax_me.models.registry import create_abstract_model

FORMATS = ("orbax", "safetensors")
NAME = "vit_base_patch16"


def random_model() -> nnx.Module:
  graphdef, state = nnx.split(create_abstract_model(NAME))
  generator = np.random.default_rng(0)
  values = jax.tree.map(
    lambda leaf: jax.numpy.asarray(generator.standard_normal(leaf.shape, np.float32)), state
  )
  return nnx.merge(graphdef, values)


def load(folder: pathlib.Path) -> tuple[float, float]:
  """Wall time and CPU time of all threads, in seconds."""
  started, cpu_started = time.perf_counter(), time.process_time()
  saved = model_folder.load_model(folder)
  jax.block_until_ready(nnx.state(saved.model))
  return time.perf_counter() - started, time.process_time() - cpu_started


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--repeats", type=int, default=5)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as temporary:
    result = {form: measure(pathlib.Path(temporary) / form, form, args.repeats) for form in FORMATS}
  print(json.dumps({"cores": available_cores(), "repeats": args.repeats, **result}, indent=2))


def measure(folder: pathlib.Path, weights_format: str, repeats: int) -> dict[str, dict[str, float]]:
  fields = {"labels": None, "image_size": 224, "mean": [0.5] * 3, "std": [0.5] * 3, "source": {}}
  model_folder.save_model(
    folder, random_model(), weights_format=weights_format, name=NAME, arguments={}, **fields
  )
  load(folder)  # fills the page cache
  checked, unchecked = [], []
  for _ in range(repeats):
    checked.append(load(folder))
    with (
      mock.patch.object(model_folder, "checked_folder", lambda folder: contextlib.nullcontext()),
      mock.patch.object(model_folder.np, "isfinite", lambda value: np.True_),
    ):
      unchecked.append(load(folder))
  result = {}
  for number, clock in enumerate(("wall", "cpu")):
    with_checks, without = (
      statistics.median(row[number] for row in rows) for rows in (checked, unchecked)
    )
    result[clock] = {
      "checked": round(with_checks, 3),
      "unchecked": round(without, 3),
      "ratio": round(with_checks / without, 3),
    }
  return result


if __name__ == "__main__":
  main()
