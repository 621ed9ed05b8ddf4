"""Device mesh with the axes `data` and `fsdp`, and the shardings of state and batches."""

import functools
from collections.abc import Callable
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


def _split(shape: tuple[int, ...], mesh: Mesh, axis: str) -> NamedSharding:
  """Splits the largest dimension that the mesh axis divides; small arrays are replicated."""
  parts = mesh.shape[axis]
  divisible = [number for number, length in enumerate(shape) if length % parts == 0]
  if parts == 1 or int(np.prod(shape)) < FSDP_MIN_SIZE or not divisible:
    return replicated(mesh)
  largest = max(divisible, key=lambda number: shape[number])
  return NamedSharding(
    mesh, P(*(axis if number == largest else None for number in range(len(shape))))
  )


def parameter_sharding(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
  """Splits the largest dimension that `fsdp` divides; small arrays are replicated."""
  return _split(shape, mesh, "fsdp")


def update_sharding(shape: tuple[int, ...], mesh: Mesh, devices: int) -> NamedSharding:
  """Sharding of an array in the update: over groups of neighbouring devices.

  Args:
    shape: of the array.
    mesh: the devices.
    devices: size of a group; with 1 it is the `parameter_sharding`.

  Returns:
    the sharding; small arrays are replicated.
  """
  if devices == 1:
    return parameter_sharding(shape, mesh)
  groups = Mesh(mesh.devices.reshape(-1, devices), ("copies", "update"))
  return _split(shape, groups, "update")


def state_sharding(state: ArrayTree, mesh: Mesh, split_update: int = 1) -> ShardingTree:
  """The sharding of every array of a (possibly abstract) state.

  Args:
    state: the training state.
    mesh: the devices.
    split_update: devices over which the optimiser's state and the moving average are split.

  Returns:
    a tree like the state.
  """

  def sharding_of(part: str, leaf: Any) -> NamedSharding:
    devices = split_update if part in ("opt_state", "ema") else 1
    return update_sharding(leaf.shape, mesh, devices)

  return {
    part: jax.tree.map(functools.partial(sharding_of, part), leaves)
    for part, leaves in state.items()
  }


def split_for_update(tree: ArrayTree, mesh: Mesh, devices: int) -> ArrayTree:
  """Gives each device of a group its part of parameters or gradients, inside a jitted step.

  The devices of a group then update different parts and exchange the new parameters (Xu et al.,
  Automatic Cross-Replica Sharding of Weight Update in Data-Parallel Training, 2020).

  Args:
    tree: of arrays.
    mesh: the devices.
    devices: size of a group; with 1 nothing changes.

  Returns:
    the tree with `update_sharding`.
  """
  constrain = jax.lax.with_sharding_constraint

  def split(leaf: jax.Array) -> jax.Array:
    # First the whole sum: otherwise XLA splits the products behind the gradients, in steps.
    whole = constrain(leaf, parameter_sharding(leaf.shape, mesh))
    return constrain(whole, update_sharding(leaf.shape, mesh, devices))

  return tree if devices == 1 else jax.tree.map(split, tree)


def gradient_by_device(gradient: Callable, mesh: Mesh) -> Callable:
  """A function of gradients of which each device computes its part of the batch by itself.

  The results are averaged in their own type, float32 for parameters in float32. Without it XLA sums
  the gradient of a product where it arises, in the compute type.

  Args:
    gradient: (params, model_state, run_parameters, batch, key) -> mean over the batch of arrays.
    mesh: the devices.

  Returns:
    a function as `gradient`. Random numbers that the rows do not bring along, the statistics of a
    batch norm and the partners of mixing are those of a device, as with torch's
    DistributedDataParallel.
  """
  axes = mesh.axis_names

  def of_device(params: Any, model_state: Any, run_parameters: Any, batch: Any, key: Any) -> Any:
    own = jax.random.fold_in(key, jax.lax.axis_index(axes))
    return jax.lax.pmean(gradient(params, model_state, run_parameters, batch, own), axes)

  return jax.shard_map(
    of_device,
    mesh=mesh,
    in_specs=(P(), P(), P(), P(axes), P()),
    out_specs=P(),
    check_vma=False,
  )


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
