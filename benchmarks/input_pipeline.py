"""Speed of the input pipeline at 224 pixels: jax_me against a torch DataLoader.

Both sides decode the same JPEGs (synthetic, 256 to 400 pixels), resize them to 224 x 224 and give
the training process shuffled uint8 batches of 64. The baseline is a typical torch pipeline: a
Dataset that opens a file with PIL and resizes it (bilinear), and a DataLoader with 1 or 2 worker
processes. jax_me reads the same images from a built dataset with 1 or 2 decoding threads, or with
worker processes. Decoded images are not cached. The sides are interleaved, so that other load
affects both; the ratio is the median over the turns. Also measured: batches of images that fit
into memory decoded, from the host's cache and from device memory (`data.resident`).

  python benchmarks/input_pipeline.py            # needs torch; benchmarks/results/*.json
  python benchmarks/input_pipeline.py --soak     # host memory must stay flat over 20,000 batches
  python benchmarks/input_pipeline.py --stages   # CPU time of reading, decoding and cropping
  python benchmarks/input_pipeline.py --waits    # share of a training step that waits for input

--waits trains the recipes of image folders on the same images and stops the time of each stage of
a step: the wait for the next batch, its transfer, and the step itself, which is awaited. Rows
"recipe" keep decoded images as the recipe does; rows "decoded" decode each image in each step, as
with a folder that does not fit into memory. The wait of rows "recipe" must be below 3%.
"""

import argparse
import dataclasses
import io
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import jax
import numpy as np
import psutil
from PIL import Image

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from jax_me.data import (  # noqa: E402
  decoding,
  device_images,
  image_store,
  pipeline,
  random_crop,
)
from jax_me.datasets import catalog  # noqa: E402
from jax_me.experiment.experiment import Experiment  # noqa: E402
from jax_me.experiment.preparation import prepare  # noqa: E402
from jax_me.training import recipes, sharding  # noqa: E402

RESULTS = REPOSITORY / "benchmarks" / "results"
SIZE = 224
BATCH = 64
REQUIRED_RATIO = 1.5
# The soak test looks for memory leaks per batch, for which small images are enough.
SOAK_SIZE = 64
SOAK_BATCH = 16
SOAK_GROWTH = 16 * 2**20
WAIT_RECIPES = ("finetune_images", "mae_images", "finetune_rafdb")
ALLOWED_WAIT = 0.03


def make_images(folder: pathlib.Path, count: int) -> None:
  """Writes JPEGs similar to faces from the web: about 25 KB, smooth with some noise."""
  random = np.random.default_rng(0)
  lines = ["file,label"]
  for number in range(count):
    side = int(random.integers(256, 401))
    coarse = random.integers(0, 256, (side // 16, side // 16, 3), np.uint8)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    grain = random.normal(0, 3, smooth.shape)
    image = np.clip(smooth + grain, 0, 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=88)
    (folder / f"{number:05d}.jpg").write_bytes(data.getvalue())
    lines.append(f"{number:05d}.jpg,{'ab'[number % 2]}")
  (folder / "labels.csv").write_text("\n".join(lines))


class TorchImages:
  """Dataset of the torch baseline."""

  def __init__(self, folder: pathlib.Path):
    self.files = sorted(folder.glob("*.jpg"))

  def __len__(self) -> int:
    return len(self.files)

  def __getitem__(self, number: int) -> Any:
    import torch

    with Image.open(self.files[number]) as image:
      small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(small)), number % 2


def torch_batches(folder: pathlib.Path, workers: int) -> Iterator[Any]:
  """Yields batches of the torch baseline forever; its workers persist across epochs."""
  from torch.utils.data import DataLoader

  loader = DataLoader(
    TorchImages(folder),
    batch_size=BATCH,
    shuffle=True,
    num_workers=workers,
    persistent_workers=True,
    drop_last=True,
  )
  while True:
    yield from loader


def processor_seconds() -> float:
  """CPU seconds of this process and its children."""
  total = 0.0
  for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
    try:
      times = process.cpu_times()
    except psutil.NoSuchProcess:
      continue
    total += times.user + times.system
  return total


def measure_turn(batches: Iterator[Any], count: int) -> tuple[float, float]:
  """Returns (images per second, CPU milliseconds per image) over `count` batches."""
  next(batches)
  cpu, start = processor_seconds(), time.perf_counter()
  for _ in range(count):
    next(batches)
  seconds = time.perf_counter() - start
  images = count * BATCH
  return images / seconds, 1000 * (processor_seconds() - cpu) / images


def compare(folder: pathlib.Path, builder: Any, workers: int, turns: int, count: int) -> dict:
  """Returns one row of the result: torch, threads and processes, interleaved."""

  def threads() -> Any:
    images = image_store.ImageStore(builder, image_size=SIZE, cache_bytes=0, threads=workers)
    return pipeline.train_batches(images, batch_size=BATCH, seed=0)

  def processes() -> Any:
    images = image_store.ImageStore(builder, image_size=SIZE, cache_bytes=0)
    return pipeline.train_batches(images, batch_size=BATCH, seed=0, workers=workers)

  sides = {
    "torch_dataloader": lambda: torch_batches(folder, workers),
    "threads": threads,
    "processes": processes,
  }
  measured: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
  for _ in range(turns):
    for name, start in sides.items():
      batches = start()
      for _ in range(2):  # start-up is not measured
        next(batches)
      measured[name].append(measure_turn(batches, count))
      batches.close()
  peer = measured["torch_dataloader"]
  row: dict[str, Any] = {"workers": workers}
  for name, values in measured.items():
    speed, cpu = (statistics.median(column) for column in zip(*values, strict=True))
    row[name] = {
      "images_per_second": round(speed, 1),
      "processor_ms_per_image": round(cpu, 3),
    }
    if name != "torch_dataloader":
      ratios = [ours[0] / theirs[0] for ours, theirs in zip(values, peer, strict=True)]
      row[name]["ratio"] = round(statistics.median(ratios), 2)
      row[name]["processor_ratio"] = round(statistics.median(theirs[1] for theirs in peer) / cpu, 2)
  return row


def compare_resident(builder: Any, turns: int, count: int) -> dict:
  """Milliseconds per batch of already decoded images, from the host's cache and on the device."""
  mesh = sharding.make_mesh(1)
  rows = sharding.batch_sharding(mesh)
  host = image_store.ImageStore(builder, image_size=SIZE, cache_bytes=2**32)
  sides = {"host": host, "device": device_images.DeviceImages(host, rows)}
  use = jax.jit(lambda images: images[:, ::16, ::16].astype("float32").sum())
  milliseconds: dict[str, list[float]] = {name: [] for name in sides}
  for _ in range(turns):
    for name, images in sides.items():
      batches = pipeline.train_batches(images, batch_size=BATCH, seed=0)
      for _ in range(3):
        use(sharding.shard_batch(next(batches), mesh)["image"]).block_until_ready()
      start = time.perf_counter()
      for _ in range(count):
        done = use(sharding.shard_batch(next(batches), mesh)["image"])
      done.block_until_ready()
      milliseconds[name].append(1000 * (time.perf_counter() - start) / count)
      batches.close()
  return {
    "platform": jax.default_backend(),
    "ms_per_batch": {name: round(statistics.median(ms), 2) for name, ms in milliseconds.items()},
  }


def measure_stages(builder: Any, count: int) -> dict:
  """CPU milliseconds per image of each stage, on one thread.

  "stretched" is decoding and resizing the whole image (crops are then drawn on the device);
  "cropped" is decoding as far as the crop needs, and its bicubic resize (`crop_source=stored`).
  """
  store = image_store.ImageStore(builder, image_size=SIZE, cache_bytes=0, threads=1)
  crop = random_crop.RandomCrop(0, (0.08, 1.0), (3 / 4, 4 / 3))
  out = np.empty((SIZE, SIZE, 3), np.uint8)
  encoded = [store.encoded(number) for number in range(min(count, len(store)))]
  cv2.setNumThreads(1)

  def milliseconds(stage: Callable[[int], object]) -> float:
    start = time.process_time()
    for number in range(len(encoded)):
      stage(number)
    return round(1000 * (time.process_time() - start) / len(encoded), 3)

  return {
    "images": len(encoded),
    "image_size": SIZE,
    "processor_ms_per_image": {
      "read": milliseconds(store.encoded),
      "decoded": milliseconds(lambda number: decoding.decode_whole(encoded[number])),
      "stretched": milliseconds(lambda number: decoding.decode_into(out, encoded[number])),
      "cropped": milliseconds(lambda number: crop.decode_into(out, encoded[number], number)),
    },
  }


def resident_bytes() -> int:
  """Memory of this process and its children; shared pages are counted once where known."""
  total = 0
  for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
    try:
      total += process.memory_full_info().pss
    except (psutil.NoSuchProcess, AttributeError):
      continue
  return total


def soak(builder: Any, batches: int, workers: int) -> dict:
  """Memory at the start, after each quarter and at the end of many batches."""
  images = image_store.ImageStore(builder, image_size=SOAK_SIZE, cache_bytes=0)
  stream = pipeline.train_batches(images, batch_size=SOAK_BATCH, seed=0, workers=workers)
  warm = max(1, batches // 20)
  for _ in range(warm):  # buffers and allocators fill
    next(stream)
  marks = [resident_bytes()]
  for _ in range(4):
    for _ in range((batches - warm) // 4):
      next(stream)
    marks.append(resident_bytes())
  stream.close()
  return {
    "batches": batches,
    "batch_size": SOAK_BATCH,
    "image_size": SOAK_SIZE,
    "workers": workers,
    "mib_at_start_quarters_end": [round(mark / 2**20, 1) for mark in marks],
    "growth_mib": round((marks[-1] - marks[0]) / 2**20, 1),
  }


def time_steps(experiment: Experiment, count: int) -> dict:
  """Milliseconds of each stage of a step, and the share of the wait for the next batch."""
  program, (fold,) = experiment.program, experiment.folds
  state = program.initial_state(0)
  state |= {"run_parameters": program.put_run_parameters(experiment.run_parameters(fold))}
  batches = experiment.training_batches(fold)
  seconds = np.zeros(3)
  for number in range(count + 3):
    marks = [time.perf_counter()]
    batch = next(batches)
    marks.append(time.perf_counter())
    placed = jax.block_until_ready(sharding.shard_batch(batch, program.mesh))
    marks.append(time.perf_counter())
    state, metrics = program.step(state, placed)
    jax.block_until_ready(metrics)
    marks.append(time.perf_counter())
    if number >= 3:  # The first steps compile.
      seconds += np.diff(marks)
  batches.close()
  stages = ("wait", "transfer", "step")
  return {
    "ms": {
      name: round(1000 * value / count, 2) for name, value in zip(stages, seconds, strict=True)
    },
    "waiting": round(float(seconds[0] / seconds.sum()), 4),
  }


def measure_waits(recipe: str, folder: pathlib.Path, data_dir: str, count: int) -> dict:
  """The stages of a step of a recipe on a folder of whole images."""
  name, _, argument = recipe.partition(":")
  file = str(REPOSITORY / "configs" / f"{name}.py")
  config = recipes.load_recipe(f"{file}:{argument}" if argument else file)
  with config.unlocked():
    config.data.update({"name": "labeled_images", "data_dir": data_dir, "split": "none"})
    config.data.manual_dir = str(folder)
    config.data.options = {"align": False, "unlabeled": config.task == "mae"}
  experiment = prepare(config)
  source = image_store.ImageStore(
    experiment.builder, image_size=experiment.training_images.image_size, cache_bytes=0
  )
  decoded = dataclasses.replace(experiment, training_source=source)
  return {
    "recipe": recipe,
    "model": config.model.name,
    "batch_size": config.batch_size,
    "rows": {"recipe": time_steps(experiment, count), "decoded": time_steps(decoded, count)},
  }


def write(name: str, result: dict) -> None:
  text = json.dumps(result, indent=2)
  print(text)
  RESULTS.mkdir(parents=True, exist_ok=True)
  (RESULTS / name).write_text(text + "\n")


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "--images", "--pictures", type=int, default=2000, help="number of distinct images"
  )
  parser.add_argument("--turns", type=int, default=5, help="measurements of each side")
  parser.add_argument("--batches", type=int, default=25, help="batches of one measurement")
  parser.add_argument("--soak", action="store_true", help="measure memory instead of speed")
  parser.add_argument("--stages", action="store_true", help="measure the stages of one thread")
  parser.add_argument("--waits", action="store_true", help="measure waits of training steps")
  parser.add_argument(
    "--recipes", nargs="+", default=WAIT_RECIPES, help="of --waits, NAME or NAME:ARGUMENT"
  )
  parser.add_argument("--soak-batches", type=int, default=20_000)
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch) / "images"
    folder.mkdir()
    make_images(folder, arguments.images)
    if arguments.waits:
      measured = [
        measure_waits(recipe, folder, f"{scratch}/data", arguments.batches)
        for recipe in arguments.recipes
      ]
      platform = {"platform": jax.default_backend(), "cores": psutil.cpu_count()}
      write("input_pipeline_waits.json", {**platform, "runs": measured})
      return int(any(run["rows"]["recipe"]["waiting"] > ALLOWED_WAIT for run in measured))
    builder = catalog.prepare(
      "labeled_images", data_dir=f"{scratch}/data", manual_dir=str(folder), align=False, workers=0
    )
    if arguments.stages:
      write("input_pipeline_stages.json", measure_stages(builder, arguments.images))
      return 0
    if arguments.soak:
      runs = [soak(builder, arguments.soak_batches, workers) for workers in (0, 2)]
      write("input_pipeline_soak.json", {"runs": runs})
      grown = [run["growth_mib"] for run in runs if run["growth_mib"] * 2**20 > SOAK_GROWTH]
      if grown:
        print(f"memory grew by {max(grown)} MiB; {SOAK_GROWTH / 2**20:.0f} are allowed")
      return bool(grown)
    sizes = [path.stat().st_size for path in folder.glob("*.jpg")]
    rows = [
      compare(folder, builder, workers, arguments.turns, arguments.batches) for workers in (1, 2)
    ]
    kept = compare_resident(builder, arguments.turns, 4 * arguments.batches)
  write(
    "input_pipeline.json",
    {
      "pictures": arguments.images,
      "kib_per_picture": round(statistics.mean(sizes) / 1024, 1),
      "image_size": SIZE,
      "batch_size": BATCH,
      "cores": psutil.cpu_count(),
      "runs": rows,
      "decoded_images": kept,
    },
  )
  worst = min(row[side]["ratio"] for row in rows for side in ("threads", "processes"))
  if worst < REQUIRED_RATIO:
    print(f"only {worst} times the speed of torch; {REQUIRED_RATIO} are required")
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main())
