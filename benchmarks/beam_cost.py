"""Cost of an aligned dataset on Apache Beam, as core-hours per million images.

  python benchmarks/beam_cost.py --images DIR [--copies 8]

needs the environment of requirements-beam.txt. The photographs of DIR are aligned to 224 pixels and
stored as PNG, once by the local build and once on the Direct runner, all in one process, and the
CPU time of this process is divided among the pipelines of the workers and the launching process.
For the pipelines, the difference of two datasets, one with twice as many images, leaves out their
start. The result is written to benchmarks/results/beam_cost.json.
"""

import argparse
import collections
import json
import pathlib
import shutil
import sys
import tempfile
import time

import cv2

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from jax_me.beam.beam_runner import BeamRunner  # noqa: E402
from jax_me.datasets.catalog import builder_class  # noqa: E402
from jax_me.datasets.generation.prepare import prepare_dataset  # noqa: E402

RESULT = REPOSITORY / "benchmarks" / "results" / "beam_cost.json"
LOCAL, TASKS, SHARDS, LAUNCHING = "local_build", "tasks", "shards", "launching_process"


class MeasuredRunner(BeamRunner):
  """Adds up the CPU time of its pipelines."""

  seconds: collections.Counter[str] = collections.Counter()

  def run(self, calls, folder, *, source=None):
    start = time.process_time()
    results = super().run(calls, folder, source=source)
    self.seconds[pathlib.Path(folder).name] += time.process_time() - start
    return results


def measure(images: list[pathlib.Path], copies: int) -> dict[str, float]:
  """CPU seconds of each part; the bytes of the dataset; whether both builds are equal."""
  with tempfile.TemporaryDirectory() as scratch:
    work = pathlib.Path(scratch)
    for number, path in enumerate(images * copies):
      folder = work / "images" / "ab"[number % 2]
      folder.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(path, folder / f"{number:06d}{path.suffix}")
    options = {"manual_dir": work / "images", "align": True}
    cls = builder_class("labeled_images")
    start = time.process_time()
    local = prepare_dataset(cls, data_dir=work / "local", workers=1, **options)
    middle = time.process_time()
    MeasuredRunner.seconds.clear()
    runner = MeasuredRunner("DirectRunner")
    built = prepare_dataset(cls, data_dir=work / "beam", beam=runner, **options)
    total = time.process_time() - middle
    contents = [
      {path.name: path.read_bytes() for path in pathlib.Path(builder.data_path).iterdir()}
      for builder in (local, built)
    ]
    if contents[0] != contents[1]:
      raise SystemExit("error: the two builds differ")
    return {
      LOCAL: middle - start,
      **MeasuredRunner.seconds,
      LAUNCHING: total - sum(MeasuredRunner.seconds.values()),
      "bytes": sum(map(len, contents[0].values())),
    }


def main() -> None:
  """Measures, prints and writes the result."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--images", type=pathlib.Path, required=True)
  parser.add_argument("--copies", type=int, default=8)
  arguments = parser.parse_args()
  cv2.setNumThreads(1)
  images = sorted(p for p in arguments.images.iterdir() if p.suffix in (".jpg", ".png"))
  height, width = cv2.imread(str(images[0])).shape[:2]
  measure(images[:8], 1)  # loads the models
  small, large = (measure(images, arguments.copies * factor) for factor in (1, 2))
  number = len(images) * arguments.copies
  seconds = {name: (large[name] - small[name]) / number for name in (LOCAL, TASKS, SHARDS)}
  # So short that its difference would be noise.
  seconds[LAUNCHING] = large[LAUNCHING] / number / 2
  result = {
    "images": number,
    "image_size": [width, height],
    "core_hours_per_million": {
      name: round(per_image * 1e6 / 3600, 2) for name, per_image in seconds.items()
    },
    "kilobytes_per_image": round((large["bytes"] - small["bytes"]) / number / 1e3, 1),
  }
  RESULT.write_text(json.dumps(result, indent=2) + "\n")
  print(json.dumps(result, indent=2))


if __name__ == "__main__":
  main()
