"""Several processes, one run: who they are, how they agree, and which of them writes."""

import functools
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from jax_me.training.sharding import replicated

ADDRESS_HELP = (
  'give --distributed=auto on a TPU pod, under Slurm or Open MPI, or "host:port" of process 0 '
  "together with --processes and --process"
)


class DistributedError(ValueError):
  """Processes that cannot find each other, with the remedy."""


def connect(distributed: str, processes: int | None = None, process: int | None = None) -> None:
  """Joins the processes of a run; must come before anything touches a device.

  Args:
    distributed: "" for one process alone; "auto" where jax knows the cluster (Cloud TPU, GKE,
      Slurm, Open MPI, mpi4py); else "host:port" of process 0, the same for all.
    processes: their number, with an address.
    process: which one this is, from 0, with an address.

  Raises:
    DistributedError: incomplete or contradicting settings, or no answer within five minutes.
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
  """Whether this process writes logs, cards and reports; exactly one does."""
  return jax.process_index() == 0


def agree(value: bool) -> bool:
  """The writer's answer, in all processes: what lies in a shared folder may be seen late."""
  if jax.process_count() == 1:
    return value
  return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def wait_for_all(name: str) -> None:
  """Returns when every process has come to the place called `name`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def fetch(values: Any, mesh: Mesh) -> Any:
  """Device arrays as NumPy, whole, in every process; all processes must call it."""
  if jax.process_count() > 1:
    values = _gather(mesh)(values)
  return jax.device_get(values)


@functools.cache
def _gather(mesh: Mesh) -> Any:
  return jax.jit(lambda values: values, out_shardings=replicated(mesh))
