"""Floating-point operations of the matrix products and convolutions of a traced function.

XLA's own count includes the body of a loop once; this one multiplies it by the iterations.
"""

from typing import Any

import numpy as np
from jax.extend import core

# A `jax.named_scope` of products with an identity matrix, which only copy and do not count.
COPIES = "products_that_copy"


def count_flops(jaxpr: core.ClosedJaxpr | core.Jaxpr) -> int:
  """FLOPs (two per multiply-add) of products and convolutions, over all devices.

  A conditional counts as its most expensive branch. Recomputation in a backward pass counts, what
  is within the scope `COPIES` does not.

  Args:
    jaxpr: of a function, for example `jax.jit(f).trace(*arguments).jaxpr`.
  """
  inner = jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr
  return sum(_equation_flops(equation) for equation in inner.eqns)


def _equation_flops(equation: Any) -> int:
  name = equation.primitive.name
  if COPIES in str(equation.source_info.name_stack):
    return 0
  if name == "dot_general":
    return _product_flops(equation)
  if name == "conv_general_dilated":
    return _convolution_flops(equation)
  if name == "cond":
    return max(count_flops(branch) for branch in equation.params["branches"])
  repeats = equation.params["length"] if name == "scan" else 1
  return repeats * sum(count_flops(inner) for inner in _called_functions(equation.params))


def _called_functions(parameters: dict[str, Any]) -> list[Any]:
  """The functions that an equation calls, without the derivative rules of a custom derivative."""
  values = [
    value
    for key, value in parameters.items()
    if key not in ("fwd_jaxpr_thunk", "jvp_jaxpr_fun", "cond_jaxpr")
  ]
  return [value for value in values if isinstance(value, core.ClosedJaxpr | core.Jaxpr)]


def _product_flops(equation: Any) -> int:
  (contracted, _), _ = equation.params["dimension_numbers"]
  left = equation.invars[0].aval.shape
  return 2 * _size(equation.outvars[0]) * int(np.prod([left[axis] for axis in contracted]))


def _convolution_flops(equation: Any) -> int:
  """Includes the taps on padding, so it is an upper bound."""
  kernel = equation.invars[1].aval.shape
  outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
  taps = int(np.prod(kernel)) // outputs
  # Taps on the zeros inserted by input dilation (the gradient of a strided one) do not count.
  holes = int(np.prod(equation.params["lhs_dilation"]))
  return 2 * _size(equation.outvars[0]) * taps // holes


def _size(variable: Any) -> int:
  return int(np.prod(variable.aval.shape))
