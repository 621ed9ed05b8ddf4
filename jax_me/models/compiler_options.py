"""Options of XLA's compiler that depend on the platform."""

import functools
import os

import jax

# The operations that XLA leaves to the library YNNPACK on CPUs. In jax 0.10.2 they are reductions
# and convolutions; XLA's own convolutions take 0.5 to 0.9 times as long
# (`benchmarks/convolution.py`), and are the default again in 0.12.
YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
_REDUCTIONS = "LIBRARY_FUSION_TYPE_REDUCE"
FAST_BY_DEFAULT = (0, 12)


@functools.cache
def compiler_options(platform: str) -> dict[str, str] | None:
  """`compiler_options` of `jax.jit` for programs with convolutions.

  Args:
    platform: that the program runs on, as `jax.Device.platform` names it.

  Returns:
    None for other platforms than "cpu", for releases of jax that do not need or know the option,
    and where the environment variable XLA_FLAGS states it.
  """
  needed = jax.__version_info__ < FAST_BY_DEFAULT and YNNPACK not in os.environ.get("XLA_FLAGS", "")
  if platform != "cpu" or not needed:
    return None
  options = {YNNPACK: _REDUCTIONS}
  try:
    jax.jit(lambda: 0, compiler_options=options).lower().compile()
  except jax.errors.JaxRuntimeError:
    return None
  return options
