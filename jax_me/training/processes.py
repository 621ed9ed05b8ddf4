"""Multi-process runs: start-up, agreement between processes, and the process that writes files."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from jax_me.models.model_folder import ArrayTree
from jax_me.run_folder import RunFolderError, lock_run
from jax_me.training.sharding import replicated

ADDRESS_HELP = (
  'give --distributed=auto on a TPU pod, under Slurm or Open MPI, or "host:port" of process 0 '
  "together with --processes and --process"
)


class DistributedError(ValueError):
  """Processes that cannot connect; the message has a remedy."""


def connect(distributed: str, processes: int | None = None, process: int | None = None) -> None:
  """Connects the processes of a run (`jax.distributed`); call it before using any device.

  Args:
    distributed: "" for a single process; "auto" for clusters that JAX detects (Cloud TPU, GKE,
      Slurm, Open MPI, mpi4py); else "host:port" of process 0.
    processes: number of processes, required with an address.
    process: index of this process from 0, required with an address.

  Raises:
    DistributedError: incomplete or contradictory settings, or no connection within 5 minutes.
  """
  if not distributed:
    if processes is not None or process is not None:
      raise DistributedError(f"--processes and --process need --distributed: {ADDRESS_HELP}")
    return
  if distributed != "auto":
    host, colon, port = distributed.rpartition(":")
    if not (host and colon and port.isdigit()):
      raise DistributedError(f"--distributed={distributed} is no address: {ADDRESS_HELP}")
    if processes is None or process is None or not 0 <= process < processes:
      raise DistributedError(
        f"--distributed={distributed} needs --processes=N and --process from 0 to N - 1, got "
        f"{processes} and {process}"
      )
  try:
    if distributed == "auto":
      jax.distributed.initialize(num_processes=processes, process_id=process)
    else:
      jax.distributed.initialize(
        distributed, processes, process, cluster_detection_method="deactivate"
      )
  except (RuntimeError, ValueError, TypeError) as error:
    raise DistributedError(f"cannot join the other processes: {error}. {ADDRESS_HELP}") from error


def is_writer() -> bool:
  """Whether this is the one process that writes logs, metadata and reports."""
  return jax.process_index() == 0


def broadcast_from_writer(value: bool) -> bool:
  """The writing process's value, in all processes.

  For tests of files: a shared folder may show a new file late to the other processes.
  """
  if jax.process_count() == 1:
    return value
  return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


@contextlib.contextmanager
def hold_folder(folder: pathlib.Path) -> Iterator[None]:
  """Holds the folder of a run for all its processes; the one that writes locks it.

  Args:
    folder: of the run.

  Yields:
    nothing.

  Raises:
    RunFolderError: another process than those of the run holds it.
    OSError: the folder cannot be written.
  """
  problem: Exception | None = None
  with contextlib.ExitStack() as resources:
    if is_writer():
      try:
        resources.enter_context(lock_run(folder))
      except (ValueError, OSError) as error:
        problem = error
    if not broadcast_from_writer(problem is None):
      raise problem or RunFolderError(f"{folder} cannot be used")
    yield


def wait_for_all(name: str) -> None:
  """Blocks until every process has called this with the same `name`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def fetch(values: ArrayTree, mesh: Mesh) -> ArrayTree:
  """Sharded arrays as whole NumPy arrays in every process; all processes must call it."""
  if jax.process_count() > 1:
    values = _gather(mesh)(values)
  return jax.device_get(values)


@functools.cache
def _gather(mesh: Mesh) -> Callable[[ArrayTree], ArrayTree]:
  return jax.jit(lambda values: values, out_shardings=replicated(mesh))
