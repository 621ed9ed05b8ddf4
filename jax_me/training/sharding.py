"""Device mesh with the axes `data` and `fsdp`, and the shardings of state and batches."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_me.models.model_folder import ArrayTree

ShardingTree = dict[str, Any]  # Nested dict of shardings.

# Smaller arrays are replicated, as the memory saved would not justify the communication.
FSDP_MIN_SIZE = 2**14


def make_mesh(fsdp: int = 1, devices: list[jax.Device] | None = None) -> Mesh:
  """Mesh [data, fsdp] over all devices of all processes.

  Args:
    fsdp: number of devices over which parameters are split; divides the number of devices.
    devices: all devices by default.

  Raises:
    ValueError: fsdp does not divide the device count.
  """
  devices = jax.devices() if devices is None else devices
  if fsdp < 1 or len(devices) % fsdp:
    raise ValueError(f"mesh.fsdp={fsdp} must divide the number of devices, {len(devices)}")
  # Auto axes: under Explicit ones (the default of jax.make_mesh) concatenating a class token fails.
  return jax.make_mesh(
    (len(devices) // fsdp, fsdp),
    ("data", "fsdp"),
    axis_types=(AxisType.Auto, AxisType.Auto),
    devices=devices,
  )


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Splits the leading axis over all devices."""
  return NamedSharding(mesh, P(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, P())


def parameter_sharding(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
  """Splits the largest dimension that `fsdp` divides; small arrays are replicated."""
  fsdp = mesh.shape["fsdp"]
  if fsdp == 1 or int(np.prod(shape)) < FSDP_MIN_SIZE:
    return replicated(mesh)
  divisible = [axis for axis, length in enumerate(shape) if length % fsdp == 0]
  if not divisible:
    return replicated(mesh)
  largest = max(divisible, key=lambda axis: shape[axis])
  return NamedSharding(
    mesh, P(*("fsdp" if axis == largest else None for axis in range(len(shape))))
  )


def state_sharding(state: ArrayTree, mesh: Mesh) -> ShardingTree:
  """The sharding of every array of a (possibly abstract) state."""
  return jax.tree.map(lambda leaf: parameter_sharding(leaf.shape, mesh), state)


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Puts this process's rows of a batch on its devices, as a part of the global arrays.

  Raises:
    ValueError: the rows cannot be split evenly over the local devices.
  """
  sharding = batch_sharding(mesh)
  local = len(mesh.local_devices)
  rows = len(next(iter(batch.values())))
  if rows % local:
    raise ValueError(f"a batch of {rows} rows cannot be split over {local} devices evenly")
  return {
    key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()
  }
