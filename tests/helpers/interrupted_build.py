"""A small dataset whose build can be stopped at any task, for the tests of resuming."""

import dataclasses
import hashlib
import os
import pathlib
import signal
import sys
from unittest import mock

import cv2
import numpy as np

from jax_me.datasets.generation import shard_writer
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.options import BuilderOptions
from jax_me.datasets.generation.prepare import prepare_dataset
from jax_me.datasets.generation.tasks import Example, ReportRow, Split, TaskResult

TASKS = {"train": 12, "test": 6}
# A record has more than 500 bytes, and a task gives at least one.
SHARD_BYTES = 2500
TASKS_PER_SHARD = 5


@dataclasses.dataclass(frozen=True)
class StoppingOptions(BuilderOptions):
  seed: int = 0


class Stopping(FaceDataset[StoppingOptions], skip_registration=True):
  """Two splits; a task gives two images, some of which are duplicates."""

  name = "stopping"
  Options = StoppingOptions
  # File to which the tasks append their numbers; the task at which to stop; how.
  log: pathlib.Path | None = None
  stop_at = -1
  how = ""

  @classmethod
  def label_names(cls, options, manual_dir):
    return ("calm", "glad")

  def known_counts(self):
    return {"train": {"calm": 12, "glad": 13}}

  def splits(self):
    self.report("notes.txt", "unexpected_place", detail="not an image")
    starts = {"train": 0, "test": TASKS["train"]}
    return {
      name: Split(
        run_task,
        [(starts[name] + n, self.options.seed, self.log, self.stop_at, self.how) for n in range(k)],
        2 * k,
      )
      for name, k in TASKS.items()
    }


def run_task(task):
  number, seed, log, stop_at, how = task
  if log is not None:
    with log.open("a") as file:
      file.write(f"{number}\n")
  if number == stop_at:
    match how:
      case "kill":
        os.kill(os.getpid(), signal.SIGKILL)
      case "interrupt":
        raise KeyboardInterrupt
      case "crash":
        raise RuntimeError("a worker process died")
      case "crash once" if log.read_text().split().count(str(number)) == 1:
        raise RuntimeError("a worker process died")
      case "full":
        raise OSError(28, "No space left on device")
      case "bad":
        raise ValueError("no face in 7.png, and on_no_face is error")
  examples, rows = [], []
  for part in range(2):
    # Tasks from 10 on have the same images as those from 0 on.
    random = np.random.default_rng([number % 10, part, seed])
    data = cv2.imencode(".png", random.integers(0, 256, (12, 12, 3), np.uint8))[1].tobytes()
    file = f"{number}_{part}.png"
    digest = hashlib.sha256(data).hexdigest()
    if number % 4 == 3 and part:
      rows.append(ReportRow(file, "no_face", {"faces": 0}, digest))
      continue
    rows.append(ReportRow(file, "ok", {}, digest))
    label = ("calm", "glad")[number % 2]
    examples.append(Example(data, label, file, subject=f"Zoë {number // 3}", frame=part))
  return TaskResult(tuple(examples), tuple(rows), ("calm", "glad")[number % 2 :][:1] * 2)


def build(data_dir, log=None, stop_at=-1, how="", **options):
  """Builds it with shards of a few records."""
  with (
    mock.patch.object(shard_writer, "SHARD_BYTES", SHARD_BYTES),
    mock.patch.multiple(Stopping, log=log, stop_at=stop_at, how=how),
  ):
    return prepare_dataset(Stopping, data_dir=data_dir, workers=0, **options)


def main(data_dir, log, stop_at):
  """Builds it in a process of its own, which kills itself at a task."""
  build(data_dir, pathlib.Path(log), int(stop_at), "kill")
  # Generation must need neither.
  assert not {"tensorflow", "torch"} & set(sys.modules)
