"""Small models without compiling their initialisation, and quickly compiled functions."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

# Half the compile time; for functions that are run once or twice.
quick_jit = functools.partial(
  jax.jit,
  compiler_options={
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
  },
)


def drawn(build: Callable[[], nnx.Module], seed: int = 0) -> nnx.Module:
  """build(), with every array drawn by numpy: N(0, 0.1), scales about 1."""
  graphdef, abstract = nnx.split(nnx.eval_shape(build))
  rng, filled = np.random.default_rng(seed), []
  for path, variable in nnx.to_flat_state(abstract):
    shape, dtype = variable.get_value().shape, variable.get_value().dtype
    value = 0.1 * rng.standard_normal(shape) + (1.0 if path[-1] == "scale" else 0.0)
    filled.append((path, variable.replace(jnp.asarray(value, dtype))))
  return nnx.merge(graphdef, nnx.from_flat_state(filled))


def created(build: Callable[[], nnx.Module]) -> nnx.Module:
  """build() with its own initial values, compiled as one function."""
  graphdef, _ = nnx.split(nnx.eval_shape(build))
  return nnx.merge(graphdef, quick_jit(lambda: nnx.split(build())[1])())


def call(model: nnx.Module, *arguments, method: str = "__call__", **keywords):
  """model.method(*arguments, **keywords) as one compiled function of the model's arrays."""
  graphdef, state = nnx.split(model)

  def run(state):
    return getattr(nnx.merge(graphdef, state), method)(*arguments, **keywords)

  return quick_jit(run)(state)


def gradients(model: nnx.Module, loss: Callable[[nnx.Module], jax.Array]) -> list[jax.Array]:
  """Gradients of loss(model) in every trained array."""
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)
  grad = quick_jit(jax.grad(lambda params: loss(nnx.merge(graphdef, params, rest))))
  return jax.tree.leaves(grad(params))


def checkpointed(function: Callable, *arguments) -> int:
  """How many parts of the function are recomputed in the backward pass (jax.checkpoint)."""
  equations = jax.make_jaxpr(function)(*arguments).jaxpr.eqns
  return sum("remat" in str(e.primitive) or "checkpoint" in str(e.primitive) for e in equations)
