"""Floating-point operations of a traced function: those of its matrix products and convolutions.

XLA's own count takes the body of a loop once, however often it runs; this one multiplies.
"""

from typing import Any

import numpy as np
from jax.extend import core


def count_flops(jaxpr: core.ClosedJaxpr | core.Jaxpr) -> int:
  """Two for each multiplication and addition of products and convolutions, over all devices.

  A branch counts with its dearest side. What a backward pass recomputes counts again.

  Args:
    jaxpr: of a function, for example `jax.jit(f).trace(*arguments).jaxpr`.
  """
  inner = jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr
  return sum(_equation(equation) for equation in inner.eqns)


def _equation(equation: Any) -> int:
  name = equation.primitive.name
  if name == "dot_general":
    return _product(equation)
  if name == "conv_general_dilated":
    return _convolution(equation)
  if name == "cond":
    return max(count_flops(branch) for branch in equation.params["branches"])
  repeats = equation.params["length"] if name == "scan" else 1
  return repeats * sum(count_flops(inner) for inner in _inner(equation.params))


def _inner(parameters: dict[str, Any]) -> list[Any]:
  """The functions that an equation calls. Of a custom derivative only the function itself runs."""
  values = [
    value
    for key, value in parameters.items()
    if key not in ("fwd_jaxpr_thunk", "jvp_jaxpr_fun", "cond_jaxpr")
  ]
  return [value for value in values if isinstance(value, core.ClosedJaxpr | core.Jaxpr)]


def _product(equation: Any) -> int:
  (contracted, _), _ = equation.params["dimension_numbers"]
  left = equation.invars[0].aval.shape
  return 2 * _size(equation.outvars[0]) * int(np.prod([left[axis] for axis in contracted]))


def _convolution(equation: Any) -> int:
  """As if no tap fell on padding: an upper bound by the border of the picture."""
  kernel = equation.invars[1].aval.shape
  outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
  taps = int(np.prod(kernel)) // outputs
  # A convolution with holes in its input (a strided one's gradient) meets zeros only there.
  holes = int(np.prod(equation.params["lhs_dilation"]))
  return 2 * _size(equation.outvars[0]) * taps // holes


def _size(variable: Any) -> int:
  return int(np.prod(variable.aval.shape))
