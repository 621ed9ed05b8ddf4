"""Speed of training, and model FLOPs utilisation (MFU) as in PaLM (arXiv:2204.02311, app. B).

MFU is the FLOPs of the matrix products and convolutions of a step, divided by the devices' peak in
that time (bfloat16, without sparsity). Recomputation (`remat`) is included.
"""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from jax.sharding import Mesh

from jax_me.models.flops import count_flops
from jax_me.training.chips import CHIPS
from jax_me.training.state import State

# Prefix of JAX's device kind -> peak bfloat16 FLOP/s, dense. TPUs: chips.py. GPUs: NVIDIA's data
# sheets (the SXM version where there are several); float16 for older ones.
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
  """Peak FLOP/s of one device; None if unknown (for example, a CPU)."""
  return next((peak for name, peak in PEAKS if device_kind.startswith(name)), None)


class Utilisation:
  """MFU from images per second; the FLOPs of a step are counted once."""

  def __init__(self, mesh: Mesh):
    peak = peak_flops(mesh.devices.flat[0].device_kind)
    self._peak = peak * mesh.size if peak else 0.0
    self._flops_per_image = 0.0

  def count_step(self, step: Callable, state: State, batch: Any) -> None:
    """Counts the FLOPs of a step, if the devices' peak is known.

    Args:
      step: jitted (state, batch) -> (state, metrics).
      state: its first argument.
      batch: its second argument, with "image" [B, ...].
    """
    if self._peak and not self._flops_per_image:
      flops = count_flops(step.trace(state, batch).jaxpr)  # type: ignore[attr-defined]
      self._flops_per_image = flops / len(batch["image"])

  def metrics(self, images_per_second: float) -> dict[str, float]:
    """{"mfu": fraction in [0, 1]} for a row of the log; empty if unknown."""
    if not self._flops_per_image or not images_per_second:
      return {}
    return {"mfu": images_per_second * self._flops_per_image / self._peak}


class ThroughputMeter:
  """Seconds per step over the last calls, without pauses (evaluation, checkpoints)."""

  def __init__(self, calls: int = 20):
    self._calls: collections.deque[tuple[float, int]] = collections.deque(maxlen=calls)
    self._last_time: float | None = None

  def count(self, steps: int) -> None:
    """Called when steps are finished. The first ones, with the compilation, are not counted."""
    now = time.monotonic()
    if self._last_time is not None:
      self._calls.append((now - self._last_time, steps))
    self._last_time = now

  @property
  def calls(self) -> int:
    """Number of calls that are measured."""
    return len(self._calls)

  @property
  def seconds(self) -> float:
    """Time of these calls."""
    return sum(seconds for seconds, _ in self._calls)

  def seconds_per_step(self) -> float:
    """0 before the second call of `count`."""
    steps = sum(steps for _, steps in self._calls)
    return self.seconds / steps if steps else 0.0

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Context whose time is not counted."""
    entered = time.monotonic()
    yield
    if self._last_time is not None:
      self._last_time += time.monotonic() - entered
