"""Dynamic images: a clip summarised in one image by approximate rank pooling.

Bilen et al., "Dynamic Image Networks for Action Recognition", CVPR 2016 (and arXiv:1612.00738).
"""

from collections.abc import Iterable

import numpy as np


def rank_pooling_weights(count: int) -> np.ndarray:
  """Weight of each frame of a clip in its dynamic image.

  Rank pooling finds the direction along which the running means V_t of the frames are ordered in
  time. Its first gradient step from zero is the sum over all pairs t < q of V_q - V_t; collected
  by frame, frame t of T (counted from 1) has weight 2 (T - t + 1) - (T + 1) (H_T - H_{t-1}), with
  H_n the n-th harmonic number (CVPR 2016, section 2.2). Here the weights are divided by the sum of
  the positive ones, so that they do not grow with the length of the clip.

  Args:
    count: number of frames T, at least 1.

  Returns:
    float64 [count]; the positive weights add up to 1, the negative ones to -1. In a long clip the
    first fifth has negative weights, the rest positive ones, largest in the middle and near 0 at
    the end: an expression that rises and falls looks nearly like one that rises and stays. All 0
    for one frame.

  Raises:
    ValueError: count is below 1.
  """
  if count < 1:
    raise ValueError(f"a dynamic image needs at least one frame, got {count}")
  if count == 1:
    return np.zeros(1)
  frame = np.arange(1, count + 1)
  harmonic = np.concatenate([[0.0], np.cumsum(1 / frame)])
  weights = 2.0 * (count - frame + 1) - (count + 1) * (harmonic[-1] - harmonic[:-1])
  return weights / weights[weights > 0].sum()


def dynamic_image(frames: Iterable[np.ndarray], count: int, gain: float) -> np.ndarray:
  """Computes the dynamic image of a clip.

  Args:
    frames: uint8 [H, W, C], `count` of them in temporal order; read one at a time.
    count: number of frames, at least 1.
    gain: contrast, > 0. The weighted sum D of the frames lies in [-255, 255]; it is 0 where
      nothing changes, 255 where black becomes white after the first frames. The image is
      127.5 + gain / 2 * D, clipped: a change by 255 / gain grey levels saturates. One fixed gain
      for a dataset preserves the strength of an expression; the paper instead stretches each
      image to its own range.

  Returns:
    uint8 [H, W, C]; 128 where nothing changes (127.5 rounded to even).

  Raises:
    ValueError: the number of frames is not `count`, frames differ in shape or are not uint8, or
      gain <= 0.
  """
  if not gain > 0:
    raise ValueError(f"dynamic_image needs a gain above 0, got {gain}")
  total, received = np.zeros(()), 0
  weights = rank_pooling_weights(count)
  for frame in frames:
    if frame.dtype != np.uint8 or frame.ndim != 3 or (received and frame.shape != total.shape):
      raise ValueError(
        "dynamic_image needs uint8 frames [H, W, C] of one shape; frame "
        f"{received} is {frame.dtype} {list(frame.shape)}"
      )
    if received < count:
      total = total + weights[received] * frame.astype(np.float64)
    received += 1
  if received != count:
    raise ValueError(f"dynamic_image expected {count} frames and got {received}")
  # Rounded before scaling: weights that cancel leave 1e-14, which must not change 127.5.
  image = 127.5 + gain / 2 * np.round(total, 6)
  return np.clip(np.rint(image), 0, 255).astype(np.uint8)
