"""Model FLOP utilisation: how much of the devices' peak the arithmetic of the training step is.

As in PaLM (arXiv:2204.02311, app. B): the FLOPs of the products and convolutions of a step over
what the devices could do in that time in bfloat16 without sparsity. Recomputation (`remat`) counts
as work here.
"""

from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh

from jax_me.training.chips import CHIPS
from jax_me.training.flops import count_flops

# Beginning of jax's name of a device -> peak bfloat16 FLOP/s, dense. TPUs: chips.py. GPUs: NVIDIA's
# data sheets of these products (of the SXM form where there are several); older ones: float16.
PEAKS = (
  ("TPU v4", CHIPS["v4"].flops),
  ("TPU v5 lite", CHIPS["v5e"].flops),
  ("TPU v5e", CHIPS["v5e"].flops),
  ("TPU v5", CHIPS["v5p"].flops),
  ("TPU v6", CHIPS["v6e"].flops),
  ("NVIDIA H200", 989e12),
  ("NVIDIA H100 PCIe", 756e12),
  ("NVIDIA H100", 989e12),
  ("NVIDIA A100", 312e12),
  ("NVIDIA L40S", 362e12),
  ("NVIDIA L4", 121e12),
  ("NVIDIA A10G", 70e12),
  ("NVIDIA GeForce RTX 4090", 165e12),
  ("NVIDIA GeForce RTX 3090", 71e12),
  ("Tesla V100", 125e12),
  ("Tesla T4", 65e12),
)


def peak_flops(device_kind: str) -> float | None:
  """Peak FLOP/s of one device; None where it is not known (a CPU)."""
  return next((peak for name, peak in PEAKS if device_kind.startswith(name)), None)


class Utilisation:
  """Turns images per second into the share of the peak; counts a step's FLOPs once."""

  def __init__(self, mesh: Mesh):
    peak = peak_flops(mesh.devices.flat[0].device_kind)
    self._peak = peak * mesh.size if peak else 0.0
    self._flops_per_image = 0.0

  def look_at(self, step: Callable, state: Any, batch: dict[str, Any]) -> None:
    """Counts the work of the jitted step, where the devices' peak is known."""
    if self._peak and not self._flops_per_image:
      flops = count_flops(step.trace(state, batch).jaxpr)  # type: ignore[attr-defined]
      self._flops_per_image = flops / len(batch["image"])

  def row(self, images_per_second: float) -> dict[str, float]:
    """{"mfu": share in [0, 1]} for a row of the log; empty where it is not known."""
    if not self._flops_per_image or not images_per_second:
      return {}
    return {"mfu": images_per_second * self._flops_per_image / self._peak}
