"""Smooth warps of the demo canvas: thin-plate splines through control points and their inverses."""

import cv2
import numpy as np

from jax_me.datasets.synthetic import base_portrait

STEP = 3  # Fields are sampled at every third canvas pixel.
GRID = base_portrait.CANVAS // STEP


def grid_points() -> np.ndarray:
  """Canvas coordinates of the grid's cells [GRID, GRID, 2], the centres `cv2.resize` assumes."""
  return (base_portrait.pixel_centres(GRID) + 0.5) * STEP - 0.5


def frame_border(count: int = 7) -> np.ndarray:
  """Fixed points along the canvas border: [4 * (count - 1), 2]."""
  side = np.linspace(0, base_portrait.CANVAS - 1, count)[:-1]
  last = np.full_like(side, base_portrait.CANVAS - 1)
  zero = np.zeros_like(side)
  sides = [(side, zero), (last, side), (last - side, last), (zero, last - side)]
  return np.concatenate([np.stack(s, 1) for s in sides])


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  a, b = a / base_portrait.CANVAS, b / base_portrait.CANVAS
  square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * (a @ b.T)
  square = np.maximum(square, 1e-12)
  return square * np.log(square)


def cardinal_fields(points: np.ndarray, pinned: np.ndarray, smoothing: float = 1e-4) -> np.ndarray:
  """Thin-plate spline fields, one per control point.

  Args:
    points: [P, 2] control points, canvas pixels.
    pinned: [Q, 2] fixed points.
    smoothing: ridge on the spline's diagonal (in squared canvas sides); 0 interpolates exactly.

  Returns:
    float32 [GRID * GRID, P]: column p is the weight of a displacement of point p in each cell, so
    `fields @ displacements` is the dense displacement (Bookstein 1989, eq. 3-6).
  """
  centres = np.concatenate([points, pinned])
  count = len(centres)
  system = np.zeros((count + 3, count + 3))
  system[:count, :count] = _kernel(centres, centres) + smoothing * np.eye(count)
  affine = np.concatenate([np.ones((count, 1)), centres / base_portrait.CANVAS], 1)
  system[:count, count:] = affine
  system[count:, :count] = affine.T
  unit = np.zeros((count + 3, len(points)))
  unit[: len(points)] = np.eye(len(points))
  weights = np.linalg.solve(system, unit)
  cells = grid_points().reshape(-1, 2)
  basis = np.concatenate(
    [_kernel(cells, centres), np.ones((len(cells), 1)), cells / base_portrait.CANVAS], 1
  )
  return (basis.astype(np.float32) @ weights.astype(np.float32)).astype(np.float32)


def sampled(image: np.ndarray, at: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
  """Samples an image with reflection at the border.

  Args:
    image: [H, W, ...].
    at: float32 [h, w, 2], (x, y) positions in pixels.
    interpolation: OpenCV's interpolation flag.

  Returns:
    [h, w, ...].
  """
  border = cv2.BORDER_REFLECT_101
  # OpenCV's stubs do not allow the second map to be None.
  return cv2.remap(image, at, None, interpolation, borderMode=border)  # type: ignore[call-overload]


def inverse(field: np.ndarray, rounds: int = 5) -> np.ndarray:
  """Inverts a forward displacement field: the backward displacement of every grid cell.

  Solves back(x) = field(x - back(x)) by fixed-point iteration, which converges where the field's
  gradient is below 1 (no folds); exact to about 0.03 pixels, the resolution of `cv2.remap`.

  Args:
    field: float32 [GRID, GRID, 2], displacement of each grid cell in canvas pixels.
    rounds: number of iterations.
  """
  cells = base_portrait.pixel_centres(GRID)
  back = field
  for _ in range(rounds):
    at = cells - back * np.float32(1 / STEP)
    back = sampled(field, at)
  return back


def jacobian(field: np.ndarray) -> np.ndarray:
  """Determinant of d(x + field)/dx [GRID - 1, GRID - 1]; above 0 where nothing folds."""
  along_x = np.diff(field, axis=1)[:-1] / STEP
  along_y = np.diff(field, axis=0)[:, :-1] / STEP
  return (1 + along_x[..., 0]) * (1 + along_y[..., 1]) - along_x[..., 1] * along_y[..., 0]
