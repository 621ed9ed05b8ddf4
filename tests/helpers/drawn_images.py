"""Synthetic images for the tests of augmentation."""

import numpy as np


def drawn_image(height: int, width: int, seed: int = 0) -> np.ndarray:
  """Smooth colours with a little noise, float32 [height, width, 3] in [0, 1]."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width].astype(float)
  waves = [
    0.5 + 0.4 * np.sin(rng.uniform(0.1, 0.5) * y + rng.uniform(0.1, 0.5) * x + phase)
    for phase in rng.uniform(0, 6, 3)
  ]
  return np.clip(np.stack(waves, -1) + rng.normal(0, 0.03, (height, width, 3)), 0, 1).astype(
    np.float32
  )
