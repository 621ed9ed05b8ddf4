"""Decoded images that lie on the devices for a whole run: a batch is then a gather by index.

Every micro-expression dataset fits (250 clips of 224 pixels need 38 MB). The batches are those of
the host to the bit, and so is the position that a checkpoint keeps.
"""

import logging

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jax_me.data.image_store import ImageStore

logger = logging.getLogger(__name__)

CHOICES = ("auto", "on", "off")
DECODED_AT_ONCE = 256
# Where the devices have the host's own memory.
HOST_PLATFORMS = ("cpu",)


class DeviceImages:
  """The images of a store, whole on every device; takes the store's place in `pipeline`.

  Attributes:
    index, image_size, name: those of the store.
    resident: True.
    array: uint8 [N, image_size, image_size, 3], a copy on every device.
  """

  on_device = True
  cached = True

  def __init__(self, store: ImageStore, sharding: NamedSharding):
    """Decodes all images and copies them to the devices of this process.

    Args:
      store: the images.
      sharding: how the rows of a batch are spread over the devices of a mesh.

    Raises:
      ValueError: stored bytes cannot be decoded.
    """
    self.index, self.image_size, self.name = store.index, store.image_size, store.name
    images = np.empty((len(store), store.image_size, store.image_size, 3), np.uint8)
    for start in range(0, len(store), DECODED_AT_ONCE):
      positions = np.arange(start, min(start + DECODED_AT_ONCE, len(store)))
      images[positions] = store.images(positions)
    self._rows = sharding
    self.array = jax.device_put(images, NamedSharding(sharding.mesh, PartitionSpec()))
    # Each device takes its own rows from its own copy: nothing goes between devices.
    self._gather = jax.jit(gather, out_shardings=sharding)

  def __len__(self) -> int:
    return len(self.index)

  def batch(self, positions: np.ndarray) -> jax.Array:
    """As `ImageStore.batch`, spread over the devices; their number divides that of the rows."""
    places = jax.device_put(positions.astype(np.int32), self._rows)
    return self._gather(self.array, places)


def gather(images: jax.Array, positions: jax.Array) -> jax.Array:
  """Images at positions [B]; position -1 is padding and gives a black image."""
  rows = images[jnp.maximum(positions, 0)]
  return jnp.where((positions >= 0)[:, None, None, None], rows, 0)


def place_images(
  store: ImageStore, sharding: NamedSharding, *, choice: str, budget: int
) -> ImageStore | DeviceImages:
  """The images of a store on the devices, or the store itself.

  Args:
    store: the images.
    sharding: how the rows of a batch are spread over the devices of a mesh.
    choice: "on", "off", or "auto": where it pays and all images fit.
    budget: bytes of each device's memory that they may take.

  Raises:
    ValueError: another choice; or "on" where they do not fit, or with several processes.
  """
  if choice not in CHOICES:
    raise ValueError(f"data.resident must be one of {', '.join(CHOICES)}: {choice!r}")
  needed = len(store) * store.image_size**2 * 3
  fits, alone = needed <= budget, jax.process_count() == 1
  if choice == "on":
    # A process cannot hand its rows of a global batch to the loop once they are on the devices.
    if not alone:
      raise ValueError("data.resident=on works in one process only; use auto or off")
    if not fits:
      raise ValueError(
        f"data.resident=on: the {len(store)} images of {store.name} need {needed / 2**20:.0f} MiB "
        f"of {budget / 2**20:.0f} (data.resident_mib); raise that or use auto"
      )
  # On a CPU "auto" leaves them with the host: a batch of 64 out of the host's own cache costs some
  # 2 ms more than the gather, nothing beside a step of seconds, and a second copy of all images
  # costs memory. On a GPU or TPU the host is spared the copying, and the bus 10 MB a step.
  accelerator = sharding.mesh.devices.flat[0].platform not in HOST_PLATFORMS
  if choice == "off" or (choice == "auto" and not (accelerator and fits and alone)):
    return store
  logger.info("the %d images of %s stay on the devices", len(store), store.name)
  return DeviceImages(store, sharding)
