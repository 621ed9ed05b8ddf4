"""Decoded images kept in device memory for a whole run: a batch is a gather by index.

Every micro-expression dataset fits (250 clips of 224 pixels need 38 MB). Batches and the data
position in checkpoints are bit-identical to those of the host.
"""

import logging

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jax_me.data.image_store import ImageStore

logger = logging.getLogger(__name__)

CHOICES = ("auto", "on", "off")
DECODE_BATCH = 256
# Platforms whose devices share the host's memory.
HOST_PLATFORMS = ("cpu",)


class DeviceImages:
  """All images of an image store, copied to every device; usable in `pipeline` like the store.

  Attributes:
    index, image_size, name: as in ImageStore.
    on_device: True.
    sharding: placement of the rows of a batch on the devices.
    array: uint8 [N, image_size, image_size, 3], replicated on every device.
  """

  on_device = True
  cached = True

  def __init__(self, store: ImageStore, sharding: NamedSharding):
    """Decodes all images and copies them to the devices of this process.

    Args:
      store: the image store.
      sharding: placement of the rows of a batch on the devices of a mesh.

    Raises:
      ValueError: stored bytes cannot be decoded.
    """
    self.index, self.image_size, self.name = store.index, store.image_size, store.name
    images = np.empty((len(store), store.image_size, store.image_size, 3), np.uint8)
    for start in range(0, len(store), DECODE_BATCH):
      positions = np.arange(start, min(start + DECODE_BATCH, len(store)))
      images[positions] = store.images(positions)
    self.sharding = sharding
    self.array = jax.device_put(images, NamedSharding(sharding.mesh, PartitionSpec()))
    # Each device gathers its own rows from its own copy, without communication.
    self._gather = jax.jit(gather, out_shardings=sharding)

  def __len__(self) -> int:
    return len(self.index)

  def batch(self, positions: np.ndarray) -> jax.Array:
    """Like `ImageStore.batch`, sharded over the devices; the device count must divide the rows."""
    indices = jax.device_put(positions.astype(np.int32), self.sharding)
    return self._gather(self.array, indices)


def gather(images: jax.Array, positions: jax.Array) -> jax.Array:
  """Images at positions [B]; position -1 is padding and gives a black image."""
  rows = images[jnp.maximum(positions, 0)]
  return jnp.where((positions >= 0)[:, None, None, None], rows, 0)


def place_images(
  store: ImageStore, sharding: NamedSharding, *, choice: str, budget: int
) -> ImageStore | DeviceImages:
  """Copies the images of a store to the devices if requested and possible.

  Args:
    store: the image store.
    sharding: placement of the rows of a batch on the devices of a mesh.
    choice: "on", "off", or "auto": on accelerators, if all images fit.
    budget: bytes of each device's memory that the images may use.

  Returns:
    DeviceImages, or the store itself.

  Raises:
    ValueError: another choice; or "on" when the images do not fit or with several processes.
  """
  if choice not in CHOICES:
    raise ValueError(f"data.resident must be one of {', '.join(CHOICES)}: {choice!r}")
  needed = len(store) * store.image_size**2 * 3
  fits, alone = needed <= budget, jax.process_count() == 1
  if choice == "on":
    # The loop expects each process's rows of a global batch in host memory.
    if not alone:
      raise ValueError("data.resident=on works in one process only; use auto or off")
    if not fits:
      raise ValueError(
        f"data.resident=on: the {len(store)} images of {store.name} need {needed / 2**20:.0f} MiB "
        f"of {budget / 2**20:.0f} (data.resident_mib); raise that or use auto"
      )
  # On a CPU "auto" means off: a batch of 64 from the host's cache takes about 2 ms more than the
  # gather, which is negligible in a step of seconds, and a second copy of all images needs memory.
  # On a GPU or TPU this saves the copy on the host and a transfer of 10 MB per step.
  accelerator = sharding.mesh.devices.flat[0].platform not in HOST_PLATFORMS
  if choice == "off" or (choice == "auto" and not (accelerator and fits and alone)):
    return store
  logger.info("the %d images of %s are kept in device memory", len(store), store.name)
  return DeviceImages(store, sharding)
