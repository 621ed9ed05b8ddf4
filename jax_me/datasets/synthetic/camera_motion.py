"""Simulated camera of the demo clips: head pose and drift, gain, blur and sensor noise."""

import dataclasses

import cv2
import numpy as np

from jax_me.datasets.synthetic import base_portrait, warping
from jax_me.datasets.synthetic.base_portrait import CANVAS, IOD, MARGIN


@dataclasses.dataclass(frozen=True)
class Camera:
  """Head pose and image properties of a clip.

  Attributes:
    still: [6], the mean pose: shift x and y in pixels, roll in degrees, scale, and yaw and pitch as
      the displacement of the nose relative to the ears in pixels.
    waves: [6, 2, 3], the drift of each component about its mean: two sine waves of (amplitude,
      cycles per frame, phase).
    gain: [3], factor of each colour channel.
    blur, noise: standard deviations, in pixels and in grey levels.
    key: seed of the noise, combined with the frame number.
  """

  still: np.ndarray
  waves: np.ndarray
  gain: np.ndarray
  blur: float
  noise: float
  key: tuple[int, ...]

  @classmethod
  def draw(cls, rng: np.random.Generator, key: tuple[int, ...]) -> "Camera":
    """Draws a camera for one clip; see the class for `key`."""
    still = np.array(
      [
        rng.uniform(-8, 8),
        rng.uniform(-6, 6),
        rng.normal(0, 2.5),
        rng.uniform(0.92, 1.06),
        rng.normal(0, 2.5),
        rng.normal(0, 2.0),
      ]
    )
    amplitude = np.array([0.5, 0.5, 0.2, 0.0015, 0.35, 0.35])
    waves = np.zeros((6, 2, 3))
    waves[..., 0] = rng.normal(0, 1, (6, 2)) * amplitude[:, None]
    waves[..., 1] = rng.uniform([0.001, 0.004], [0.004, 0.012], (6, 2))
    waves[..., 2] = rng.uniform(0, 2 * np.pi, (6, 2))
    gain = np.exp(rng.normal(0, 0.04) + rng.normal(0, 0.01, 3)).astype(np.float32)
    return cls(still, waves, gain, rng.uniform(0.3, 1.0), rng.uniform(1.0, 4.0), key)

  def at(self, index: int) -> np.ndarray:
    """Pose [6] in a frame, in the units of `still`."""
    size, rate, phase = np.moveaxis(self.waves, -1, 0)
    return self.still + (size * np.sin(2 * np.pi * rate * index + phase)).sum(1)

  def pose(self, index: int) -> np.ndarray:
    """Affine map [2, 3] from canvas to frame: shift, roll and scale."""
    x, y, roll, scale = self.at(index)[:4]
    middle = (CANVAS / 2, CANVAS / 2)
    pose = cv2.getRotationMatrix2D(middle, roll, scale)
    pose[:, 2] += [x - MARGIN, y - MARGIN]
    return pose

  def turn(self, points: np.ndarray, index: int) -> np.ndarray:
    """Motion field [GRID, GRID, 2] of yaw and pitch: the nose moves more than points behind it."""
    yaw, pitch = self.at(index)[4:]
    offset = (warping.grid_points() - points[29].astype(np.float32)) / np.float32(IOD)
    depth = np.exp(-0.5 * ((offset / np.array([0.8, 1.0], np.float32)) ** 2).sum(-1))
    return depth[..., None] * np.array([yaw, pitch], np.float32)

  def expose(self, image: np.ndarray, index: int) -> np.ndarray:
    """Applies gain, blur and sensor noise: sRGB float -> uint8."""
    image = base_portrait.blurred(image * self.gain, self.blur)
    rng = np.random.default_rng([*self.key, index])
    image += self.noise * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
