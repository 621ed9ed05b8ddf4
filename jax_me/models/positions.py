"""Position tables of the transformers, and their bicubic resize as torch does it."""

import numpy as np

# Coefficient of cubic convolution in torch and OpenCV; Pillow and jax.image use -0.5.
_CUBIC_A = -0.75


def sincos_2d(grid: int, dim: int) -> np.ndarray:
  """MAE's fixed table (arXiv:2111.06377): 2-D sines and cosines, class token first.

  The column index fills the first half of the channels, the row index the second; within a half
  all sines come before all cosines.

  Args:
    grid: patches along a side.
    dim: channels, a multiple of 4.

  Returns:
    [1, 1 + grid**2, dim] float32; row 0 (the class token) is zeros.

  Raises:
    ValueError: dim is not a multiple of 4.
  """
  if dim % 4:
    raise ValueError(f"a 2-D sine-cosine table needs a width divisible by 4, got {dim}")
  frequency = 1.0 / 10000.0 ** (np.arange(dim // 4, dtype=np.float64) / (dim / 4.0))
  angle = np.arange(grid, dtype=np.float64)[:, None] * frequency
  line = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)  # [grid, dim / 2]
  column = np.broadcast_to(line[None, :], (grid, grid, dim // 2))
  row = np.broadcast_to(line[:, None], (grid, grid, dim // 2))
  patches = np.concatenate([column, row], axis=-1).reshape(grid * grid, dim)
  return np.concatenate([np.zeros((1, dim)), patches])[None].astype(np.float32)


def sinusoid_1d(positions: int, dim: int) -> np.ndarray:
  """Sinusoidal table of arXiv:1706.03762 as in T2T-ViT: sine and cosine interleaved.

  Args:
    positions: rows, including the class token (row 0).
    dim: channels.

  Returns:
    [1, positions, dim] float32.
  """
  channel = np.arange(dim)
  wavelength = np.power(10000.0, 2 * (channel // 2) / dim)
  angle = np.arange(positions, dtype=np.float64)[:, None] / wavelength
  return np.where(channel % 2 == 0, np.sin(angle), np.cos(angle))[None].astype(np.float32)


def _cubic_weight(distance: np.ndarray) -> np.ndarray:
  """Keys' cubic convolution kernel (1981) at |distance| up to 2 samples."""
  x = np.abs(distance)
  near = ((_CUBIC_A + 2) * x - (_CUBIC_A + 3)) * x * x + 1
  far = _CUBIC_A * (((x - 5) * x + 8) * x - 4)
  return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def bicubic_matrix(source: int, target: int) -> np.ndarray:
  """[target, source] float64: torch's 1-D bicubic resample (align_corners=False, no antialias).

  Samples beyond an edge repeat the edge sample; when shrinking, the kernel is not widened.
  """
  centre = (np.arange(target) + 0.5) * (source / target) - 0.5
  left = np.floor(centre).astype(np.int64)
  matrix = np.zeros((target, source))
  for tap in range(-1, 3):
    column = np.clip(left + tap, 0, source - 1)
    np.add.at(matrix, (np.arange(target), column), _cubic_weight(centre - (left + tap)))
  return matrix


def resize_positions(table: np.ndarray, grid: int) -> np.ndarray:
  """Resizes a position table to another grid, as the original code does with torch.

  Args:
    table: [1, 1 + g**2, D], the class token's row first.
    grid: patches along a side of the new image.

  Returns:
    [1, 1 + grid**2, D] in the table's dtype; the class token's row is kept.

  Raises:
    ValueError: the table is not one class token followed by a square grid.
  """
  table = np.asarray(table)
  source = round((table.shape[1] - 1) ** 0.5) if table.ndim == 3 and table.shape[1] > 1 else 0
  if source < 1 or table.shape[0] != 1 or source**2 + 1 != table.shape[1]:
    raise ValueError(f"a position table has shape [1, 1 + grid**2, D], got {table.shape}")
  if grid < 1:
    raise ValueError(f"a grid has at least one patch a side, got {grid}")
  if source == grid:
    return table
  matrix = bicubic_matrix(source, grid)
  patches = table[0, 1:].reshape(source, source, -1).astype(np.float64)
  resized = np.einsum("ip,jq,pqd->ijd", matrix, matrix, patches, optimize=True)
  rows = [table[:, :1].astype(np.float64), resized.reshape(1, grid * grid, -1)]
  return np.concatenate(rows, axis=1).astype(table.dtype)
