"""A cut of a face that rests while the face rests, and follows at once when it moves."""

import math

import numpy as np

from jax_me.faces.alignment import FaceChip

# Cut-off of the low-pass filter at rest, in hertz: the jitter of landmarks lies above.
REST_CUTOFF = 1.0
# What the cut-off gains with speed, in hertz for each face side a second: at half a side a second
# it is 11 Hz, a lag of 15 ms.
SPEED_GAIN = 20.0
# Cut-off for the speed itself, in hertz.
SPEED_CUTOFF = 1.0


class SteadyChip:
  """The One Euro filter (Casiez, Roussel & Vogel, CHI 2012) over the cut of one face.

  Filtered are place, size and angle of the cut, all in units of its side, so that the settings
  mean the same for small and large faces. A face at rest keeps its cut to a fraction of a pixel,
  where the landmarks of single frames jitter by half a pixel and more.
  """

  def __init__(self) -> None:
    self._value: np.ndarray | None = None
    self._speed = np.zeros(4)
    self._seconds = 0.0

  def update(self, chip: FaceChip, seconds: float) -> FaceChip:
    """The steady cut.

    Args:
      chip: the cut by the landmarks of this frame.
      seconds: time of the frame; not before the last one.
    """
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
      self._speed += _share(SPEED_CUTOFF, step) * (change / step - self._speed)
      cutoff = REST_CUTOFF + SPEED_GAIN * float(np.abs(self._speed).max())
      self._value = self._value + _share(cutoff, step) * change * unit
    self._seconds = seconds
    x, y, size, angle = self._value
    half = math.exp(size) / 2
    return FaceChip(x - half, y - half, x + half, y + half, angle, chip.size)


def _share(cutoff: float, step: float) -> float:
  """Weight of the new value in a first-order low-pass filter."""
  return 1 / (1 + 1 / (math.tau * cutoff * step))
