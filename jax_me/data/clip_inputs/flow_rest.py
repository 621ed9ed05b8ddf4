"""Check of ready optical-flow images: the level of pixels that do not move."""

from collections.abc import Sequence

import numpy as np

# Levels of u, v and strain where nothing moves, as `optical_flow.flow_image` encodes them.
REST = (127.5, 127.5, 0.0)
# Head motion moves the whole face by some levels; a quarter of the range is another encoding.
TOLERANCE = 64.0


def rest_levels(images: np.ndarray) -> np.ndarray:
  """Level of each channel in the pixels that move least.

  Args:
    images: uint8 [N, S, S, 3]: u, v, strain.

  Returns:
    float64 [N, 3]: medians of u and v, and the lower quartile of strain. Most of a face does not
    move in an expression.
  """
  levels = np.median(images, axis=(1, 2))
  levels[:, 2] = np.percentile(images[..., 2], 25, axis=(1, 2))
  return levels


def describe_rest(images: np.ndarray, files: Sequence[str]) -> str:
  """Describes flow images whose resting pixels are not at zero motion.

  Args:
    images: uint8 [N, S, S, 3].
    files: [N] names.

  Returns:
    one line that names the file farthest from it, with its levels and the remedy; "" if all
    images are within TOLERANCE.
  """
  levels = rest_levels(images)
  distance = np.abs(levels - REST).max(1)
  count = int((distance > TOLERANCE).sum())
  if not count:
    return ""
  worst = int(distance.argmax())
  u, v, strain = levels[worst]
  return (
    f"{count} of {len(images)} flow images do not rest at zero motion (128, 128, 0); farthest is "
    f"{files[worst]}: u {u:.0f}, v {v:.0f}, strain {strain:.0f} in most of the image. Encode flow "
    "with one scale for all clips (docs/datasets.md, Ready images); of images that are each scaled "
    "to their own range, flips stay exact"
  )
