"""Float64 computation for comparisons with reference values."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def float64(enabled: bool = True) -> Iterator[None]:
  """Enables float64 arrays; flax's norms promote them with float32, which strict mode refuses."""
  with jax.enable_x64(enabled), jax.numpy_dtype_promotion("standard" if enabled else "strict"):
    yield
