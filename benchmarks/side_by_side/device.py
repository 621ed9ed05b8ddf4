"""The device that is measured."""

import dataclasses
import platform
import re

import jax

from jax_me.cpu_cores import available_cores


@dataclasses.dataclass(frozen=True)
class Device:
  """What the measurements depend on.

  Attributes:
    name: of the processor or accelerator.
    platform: of JAX: "cpu", "gpu" or "tpu".
    cores: of the CPU that this process may use.
    dtype: of the computation.
  """

  name: str
  platform: str
  cores: int
  dtype: str

  @property
  def file_name(self) -> str:
    """Name of the device's results without suffix."""
    name = f"{self.name} {self.cores} cores" if self.platform == "cpu" else self.name
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def find_device() -> Device:
  """JAX's first device: float32 on a CPU, else bfloat16."""
  device = jax.devices()[0]
  cpu = device.platform == "cpu"
  return Device(
    name=_processor() if cpu else device.device_kind,
    platform=device.platform,
    cores=available_cores(),
    dtype="float32" if cpu else "bfloat16",
  )


def _processor() -> str:
  try:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
      found = re.search(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
  except OSError:  # Not Linux.
    found = None
  return found[1] if found else platform.processor() or platform.machine()
