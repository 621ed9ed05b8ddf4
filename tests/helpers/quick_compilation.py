"""Compilation in a third of the time, for functions that run once or twice.

The programs are slower, and their results differ in the last bits: for claims that hold for any
compiler.
"""

import contextlib
import functools
from collections.abc import Iterator

import jax
import jaxlib.version
import pytest
from jax._src import compiler

# XLA's older code generator for CPUs, which later versions do not have.
OLDER_GENERATOR: dict[str, bool] = (
  {"xla_cpu_use_fusion_emitters": False} if jaxlib.version.__version_info__ < (0, 11) else {}
)

quick_jit = functools.partial(
  jax.jit,
  compiler_options={
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    **OLDER_GENERATOR,
  },
)

# Of a process.
QUICK_ENVIRONMENT = {
  "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
  "XLA_FLAGS": " ".join(f"--{name}={value}".lower() for name, value in OLDER_GENERATOR.items()),
}


@contextlib.contextmanager
def quickly_compiled() -> Iterator[None]:
  """Applies to everything that is compiled in the context."""
  default = compiler.get_compile_options

  def quick_options(*arguments, **keywords):
    options = default(*arguments, **keywords)
    options.env_option_overrides = [*options.env_option_overrides, *OLDER_GENERATOR.items()]
    return options

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(compiler, "get_compile_options", quick_options)
    jax.config.update("jax_disable_most_optimizations", True)
    try:
      yield
    finally:
      jax.config.update("jax_disable_most_optimizations", False)
