"""How many folds go into one program: as many as each device's memory holds, in equal chunks."""

import math
import os
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from jax_me.training.fold_program import FoldProgram
from jax_me.training.loop import Program

# Of a device's memory; the rest is for evaluation and the allocator's own needs.
SHARE = 0.85
# Of a host's memory, which others use too.
HOST_SHARE = 0.5


class FoldsDoNotFit(ValueError):
  """Not even one fold a device fits into memory."""


def compile_chunk(
  count: int, single: Program, compile_rows: Callable[[int], FoldProgram], *, most: int = 0
) -> FoldProgram:
  """Compiles for all folds at once, or for the largest equal chunks that fit into memory.

  What a step needs is taken from the compiler's own account of the program, after compiling it: no
  estimate has to be right, and nothing is compiled twice where all folds fit.

  Args:
    count: folds to train.
    single: the program of one fold.
    compile_rows: number of folds, a multiple of the devices -> their program.
    most: at most so many folds, rounded up to fill the devices; 0 = as many as fit.

  Raises:
    FoldsDoNotFit: not even one fold a device fits.
  """
  mesh = single.mesh
  devices, budget = mesh.size, memory_budget(mesh)
  # The state alone, with gradients, bounds what is worth a try.
  state = jax.tree.leaves(jax.eval_shape(single.build, jax.random.key(0)))
  each = sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in state)
  limit = max(1, int(budget / (each * 4 / 3))) * devices
  wanted = min(most or count, count)
  rows = equal_rows(count, min(limit, math.ceil(wanted / devices) * devices), devices)
  while True:
    program = _compiled(compile_rows, rows)
    needed = 2 * budget if program is None else program.needed
    if program is not None and needed <= budget:
      return program
    if rows == devices:
      raise FoldsDoNotFit(
        f"one fold a device needs {needed / 2**30:.1f} GiB of memory, of {budget / 2**30:.1f}; use "
        "folds.parallel=off, a smaller batch_size or remat"
      )
    fewer = min(int(rows * budget / needed), rows - 1)
    rows = equal_rows(count, max(fewer, 1), devices)


def equal_rows(count: int, most: int, devices: int) -> int:
  """Folds a chunk: at most `most`, as equal as can be, rounded up to fill the devices.

  Less than one fold a device is not less work, so the result is at least `devices`.
  """
  most = max(devices, most // devices * devices)
  chunks = math.ceil(count / most)
  return math.ceil(count / chunks / devices) * devices


def memory_budget(mesh: Mesh) -> int:
  """Bytes of each device's memory that a program may take."""
  device = mesh.local_devices[0]
  known = (device.memory_stats() or {}).get("bytes_limit")
  if known:
    return int(known * SHARE)
  host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return int(host * HOST_SHARE / len(mesh.local_devices))


def _compiled(compile_rows: Callable[[int], FoldProgram], rows: int) -> FoldProgram | None:
  """The program; None where the compiler itself finds that it cannot fit."""
  try:
    return compile_rows(rows)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return None
