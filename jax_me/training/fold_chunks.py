"""Chunks of folds that one program trains: their size, and the folder of an unfinished chunk."""

import hashlib
import json
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from jax_me.data.sampling import ShuffledSampler
from jax_me.files import write_atomically
from jax_me.training.fold_program import FoldProgram
from jax_me.training.program import Program

CHUNK_FILE = "chunk.json"
# Fraction of a device's memory; the rest is for evaluation and the allocator.
DEVICE_SHARE = 0.85
# Fraction of a host's memory, which other programs use too.
HOST_SHARE = 0.5
# Checkpoints of one chunk that is trained sequentially, for which its size makes no difference, and
# those that all finished folds of a run may leave.
CHECKPOINT_BYTES = 256 * 2**20


class FoldsDoNotFit(ValueError):
  """Not even one fold per device fits into memory."""


def compile_chunk(
  count: int, single: Program, compile_rows: Callable[[int], FoldProgram], *, most: int = 0
) -> FoldProgram:
  """Compiles for all folds at once, or for the largest equal chunks that fit into memory.

  The memory of a step is what the compiler reports for the compiled program, so no estimate has to
  be right, and nothing is compiled twice if all folds fit.

  Args:
    count: folds to train.
    single: the program of one fold.
    compile_rows: number of folds, a multiple of the devices -> their program.
    most: maximum number of folds, rounded up to fill the devices; 0 means as many as fit.

  Returns:
    the program of the largest chunk.

  Raises:
    FoldsDoNotFit: not even one fold per device fits.
  """
  mesh = single.mesh
  devices, budget = mesh.size, memory_budget(mesh)
  # State and gradients are a lower bound of the memory, which saves hopeless compilations.
  limit = max(1, int(budget / (state_bytes(single) * 4 / 3))) * devices
  wanted = min(most or count, count)
  rows = equal_rows(count, min(limit, math.ceil(wanted / devices) * devices), devices)
  while True:
    program = _compile_or_none(compile_rows, rows)
    needed = 2 * budget if program is None else program.memory_bytes
    if program is not None and needed <= budget:
      return program
    if rows == devices:
      raise FoldsDoNotFit(
        f"one fold per device needs {needed / 2**30:.1f} GiB of memory, of {budget / 2**30:.1f}; "
        "use folds.parallel=off, a smaller batch_size or remat"
      )
    fewer = min(int(rows * budget / needed), rows - 1)
    rows = equal_rows(count, max(fewer, 1), devices)


def state_bytes(single: Program) -> int:
  """Bytes of the state of one fold, which are those of its checkpoint."""
  state = jax.tree.leaves(jax.eval_shape(single.build, jax.random.key(0)))
  return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in state)


def equal_rows(count: int, most: int, devices: int) -> int:
  """Number of folds per chunk when `count` folds are split into chunks of equal size.

  Args:
    count: folds in all.
    most: maximum of a chunk.
    devices: number of devices.

  Returns:
    a multiple of `devices`, as fewer folds than devices would not be faster.
  """
  most = max(devices, most // devices * devices)
  chunks = math.ceil(count / most)
  return math.ceil(count / chunks / devices) * devices


def memory_budget(mesh: Mesh) -> int:
  """Bytes of each device's memory that a program may take."""
  device = mesh.local_devices[0]
  known = (device.memory_stats() or {}).get("bytes_limit")
  if known:
    return int(known * DEVICE_SHARE)
  host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return int(host * HOST_SHARE / len(mesh.local_devices))


def _compile_or_none(compile_rows: Callable[[int], FoldProgram], rows: int) -> FoldProgram | None:
  """The program; None if the compiler runs out of memory."""
  try:
    return compile_rows(rows)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return None


def claim_folder(
  folder: pathlib.Path, rows: int, samplers: Mapping[str, ShuffledSampler], batch_size: int
) -> None:
  """Makes a folder for the checkpoints of a chunk; removes those of another chunk.

  Args:
    folder: of the checkpoints.
    rows: length of the fold axis.
    samplers: name of each fold -> order of its training examples.
    batch_size: examples per step and fold.
  """
  digest = hashlib.sha256(str(batch_size).encode())
  for name, sampler in samplers.items():
    digest.update(f"{name} {sampler.state_name} {sampler.seed}".encode())
    digest.update(sampler.indices.tobytes())
  chunk = {"folds": list(samplers), "rows": rows, "order": digest.hexdigest()}
  path = folder / CHUNK_FILE
  if not path.exists() or json.loads(path.read_text()) != chunk:
    remove_folder(folder)  # Of other folds, or of another number of devices.
  folder.mkdir(parents=True, exist_ok=True)
  write_atomically(path, json.dumps(chunk).encode())


def unfinished_chunk(folder: pathlib.Path) -> tuple[list[str], int]:
  """Names of the folds and number of rows of an unfinished chunk; ([], 0) if there is none."""
  try:
    chunk = json.loads((folder / CHUNK_FILE).read_text())
    return [str(name) for name in chunk["folds"]], int(chunk["rows"])
  except (OSError, ValueError, KeyError, TypeError):
    return [], 0


def remove_folder(folder: pathlib.Path) -> None:
  """Removes the folder of a chunk, in one step as seen by other processes and later runs.

  A run that is killed during the removal leaves no folder with only some of its files, whose
  checkpoints and CHUNK_FILE would not belong together.
  """
  removed = folder.with_name(f".{folder.name}.removed")
  shutil.rmtree(removed, ignore_errors=True)  # Of a run that was killed during the removal.
  if folder.is_dir():
    folder.rename(removed)
    shutil.rmtree(removed)
