"""One Euro filter for face chips."""

import math

import numpy as np

from jax_me.faces.alignment import FaceChip

# Cut-off frequency at rest, in hertz; landmark jitter has higher frequencies.
MIN_CUTOFF = 1.0
# Increase of the cut-off with speed (beta), in hertz per face side per second: 11 Hz and a lag of
# 15 ms at half a side per second.
SPEED_GAIN = 20.0
# Cut-off frequency of the speed estimate, in hertz.
SPEED_CUTOFF = 1.0


class OneEuroFilter:
  """One Euro filter (Casiez, Roussel & Vogel, CHI 2012) of the face chips of one track.

  Filters position, log size and angle of the chip. Position is in units of the chip side, so the
  constants apply to faces of any size. A face at rest keeps its chip to a fraction of a pixel,
  while the landmarks of single frames jitter by half a pixel and more.
  """

  def __init__(self) -> None:
    self._value: np.ndarray | None = None
    self._speed = np.zeros(4)
    self._seconds = 0.0

  def update(self, chip: FaceChip, seconds: float) -> FaceChip:
    """Returns the smoothed chip of the next frame; `seconds` must not decrease."""
    side = chip.right - chip.left
    now = np.array(
      [(chip.left + chip.right) / 2, (chip.top + chip.bottom) / 2, math.log(side), chip.angle]
    )
    if self._value is None:
      self._value = now
    elif (step := seconds - self._seconds) > 0:
      unit = np.array([side, side, 1.0, 1.0])
      change = (now - self._value) / unit
      change[3] = math.remainder(change[3], math.tau)
      self._speed += _smoothing_factor(SPEED_CUTOFF, step) * (change / step - self._speed)
      cutoff = MIN_CUTOFF + SPEED_GAIN * float(np.abs(self._speed).max())
      self._value = self._value + _smoothing_factor(cutoff, step) * change * unit
    self._seconds = seconds
    x, y, size, angle = self._value
    half = math.exp(size) / 2
    return FaceChip(x - half, y - half, x + half, y + half, angle, chip.size)


def _smoothing_factor(cutoff: float, step: float) -> float:
  """Weight of the new value in a first-order low-pass filter."""
  return 1 / (1 + 1 / (math.tau * cutoff * step))
