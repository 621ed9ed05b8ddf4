"""Programs without a choice between platforms, for formats that cannot express one.

Some operations have one implementation for CPUs and one for other devices, chosen when a program is
lowered (`jax.lax.platform_dependent`). ONNX has no such choice. Within `portable_operations`,
forward passes are traced with the plain operations of `jax.lax` instead.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_PORTABLE = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable_operations() -> Iterator[None]:
  """Traces forward passes without `jax.lax.platform_dependent`."""
  token = _PORTABLE.set(True)
  try:
    yield
  finally:
    _PORTABLE.reset(token)


def is_portable() -> bool:
  """Whether the program that is traced must run anywhere."""
  return _PORTABLE.get()
