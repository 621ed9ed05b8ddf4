"""Number of folds per program when the memory of the devices is small."""

import types

import jax
import jax.numpy as jnp
import pytest

from jax_me.training import fold_chunks
from jax_me.training.fold_chunks import FoldsDoNotFit, compile_chunk, equal_rows

STATE_BYTES = 64
FOLD_BYTES = 1000  # Memory of its device that a fold needs.


@pytest.fixture
def single():
  """The attributes of a single fold's program that are used here."""
  mesh = types.SimpleNamespace(size=2)
  return types.SimpleNamespace(mesh=mesh, build=lambda key: {"w": jnp.zeros(STATE_BYTES // 4)})


def chunk(single, monkeypatch, *, budget, refuses_above=None, most=0, count=10):
  """Returns (rows of the program, all rows that were compiled)."""
  tried = []

  def compile_rows(rows):
    tried.append(rows)
    if refuses_above is not None and rows > refuses_above:
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
    return types.SimpleNamespace(rows=rows, memory_bytes=rows // single.mesh.size * FOLD_BYTES)

  monkeypatch.setattr(fold_chunks, "memory_budget", lambda mesh: budget)
  return compile_chunk(count, single, compile_rows, most=most).rows, tried


def test_all_folds_at_once_if_they_fit(single, monkeypatch):
  assert chunk(single, monkeypatch, budget=5 * FOLD_BYTES) == (10, [10])


def test_compiled_memory_decides_and_chunks_are_equal(single, monkeypatch):
  # Four per device would fit, but 10 folds in two chunks are 5 each, rounded up to the devices.
  assert chunk(single, monkeypatch, budget=4 * FOLD_BYTES) == (6, [10, 6])
  assert chunk(single, monkeypatch, budget=FOLD_BYTES) == (2, [10, 2])


def test_a_chunk_that_does_not_compile_is_made_smaller(single, monkeypatch):
  rows, tried = chunk(single, monkeypatch, budget=5 * FOLD_BYTES, refuses_above=6)
  assert rows == 4 and tried == [10, 4]


def test_chunks_too_small_for_the_state_are_not_compiled(single, monkeypatch):
  with pytest.raises(FoldsDoNotFit, match=r"one fold per device needs .* remat"):
    chunk(single, monkeypatch, budget=4 * STATE_BYTES)


def test_setting_limits_the_chunk(single, monkeypatch):
  assert chunk(single, monkeypatch, budget=5 * FOLD_BYTES, most=3) == (4, [4])


def test_other_compiler_errors_are_raised(single, monkeypatch):
  def broken(rows):
    raise jax.errors.JaxRuntimeError("INTERNAL: no such operation")

  monkeypatch.setattr(fold_chunks, "memory_budget", lambda mesh: 10 * FOLD_BYTES)
  with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
    compile_chunk(10, single, broken)


@pytest.mark.parametrize(
  "count, most, devices, rows",
  [(68, 68, 1, 68), (68, 60, 1, 34), (68, 7, 1, 7), (5, 8, 4, 8), (68, 30, 4, 24), (3, 1, 4, 4)],
)
def test_chunks_are_equal_and_fill_the_devices(count, most, devices, rows):
  assert equal_rows(count, most, devices) == rows
