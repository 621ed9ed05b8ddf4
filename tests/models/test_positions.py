"""Position tables and their resize: parity with the original code."""

import numpy as np
import pytest

from jax_me.models.positions import bicubic_matrix, resize_positions, sincos_2d, sinusoid_1d
from tests.helpers.golden_cases import golden_arrays

ROWS_197, ROWS_577 = [0, 1, 2, 100, 195, 196], [0, 1, 2, 25, 300, 576]


@pytest.mark.parametrize("dim", [192, 384, 512, 768])
def test_sincos_table(dim):
  arrays, table = golden_arrays("misc"), sincos_2d(14, dim)[0]
  np.testing.assert_allclose(table[ROWS_197], arrays[f"mae_sincos/dim{dim}_rows"], atol=1e-7)
  # The sums over all 197 rows and over all channels detect a wrong entry anywhere.
  np.testing.assert_allclose(
    table.sum(0, dtype=np.float64), arrays[f"mae_sincos/dim{dim}_colsum"], atol=1e-5
  )
  np.testing.assert_allclose(
    table.sum(1, dtype=np.float64), arrays[f"mae_sincos/dim{dim}_rowsum"], atol=1e-5
  )


@pytest.mark.parametrize("dim", [128, 256, 384, 448, 512, 768])
def test_sinusoid_table_is_within_one_ulp_of_the_original(dim):
  original = golden_arrays("misc")[f"t2t_sinusoid/dim{dim}_rows_f32_original"]
  np.testing.assert_array_max_ulp(sinusoid_1d(197, dim)[0, ROWS_197], original, maxulp=1)


def test_sinusoid_table_of_a_larger_grid():
  original = golden_arrays("misc")["t2t_sinusoid/577_dim384_rows_f32_original"]
  np.testing.assert_array_max_ulp(sinusoid_1d(577, 384)[0, ROWS_577], original, maxulp=1)


@pytest.mark.parametrize("grid", [24, 12, 7])
@pytest.mark.parametrize("kind", ["table", "random"])
@pytest.mark.parametrize("family", ["mae", "t2t"])
def test_resize_equals_torch(family, kind, grid):
  dim, seed = {"mae": (192, [5000, 0]), "t2t": (384, [5000, 1])}[family]
  table_name = {"mae": "sincos", "t2t": "sinusoid"}[family]
  if kind == "random":
    table = (0.02 * np.random.default_rng(seed).standard_normal((1, 197, dim))).astype(np.float32)
  else:
    table = sincos_2d(14, dim) if family == "mae" else sinusoid_1d(197, dim)
  name = kind if kind == "random" else table_name
  desired = golden_arrays("misc")[f"interp_{family}/{name}_14to{grid}_cols16_f64"]
  resized = resize_positions(table.astype(np.float64), grid)
  assert resized.shape == (1, 1 + grid**2, dim)
  np.testing.assert_allclose(resized[0, :, :16], desired, rtol=0, atol=1e-9)
  single = resize_positions(table, grid)
  assert single.dtype == np.float32
  np.testing.assert_allclose(single[0, :, :16], desired, rtol=0, atol=1e-6)


def test_resize_to_the_same_grid_changes_nothing():
  table = sincos_2d(7, 16)
  np.testing.assert_array_equal(resize_positions(table, 7), table)


@pytest.mark.parametrize(("source", "target"), [(14, 24), (14, 7), (7, 14), (1, 4), (5, 3)])
def test_bicubic_weights_preserve_constants(source, target):
  np.testing.assert_allclose(bicubic_matrix(source, target).sum(1), 1.0, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 196, 8), (2, 197, 8), (197, 8), (1, 1, 8)])
def test_resize_rejects_tables_that_are_not_square(shape):
  with pytest.raises(ValueError, match="position table"):
    resize_positions(np.zeros(shape), 4)


def test_sincos_rejects_widths_not_divisible_by_four():
  with pytest.raises(ValueError, match="divisible by 4, got 30"):
    sincos_2d(4, 30)
