"""Small models with random weights, without compiling their initialisers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.helpers.quick_compilation import quick_jit


def random_model(
  build: Callable[[], nnx.Module], seed: int = 0, *, fan_in_scaling: bool = False
) -> nnx.Module:
  """build() with random values in every variable; the initialisers are not run.

  All values are N(0, 0.1), scales and variances about 1. With `fan_in_scaling` kernels preserve the
  variance of their input, scales and variances are about 1 and the rest have deviation 0.3.
  """
  graphdef, abstract = nnx.split(nnx.eval_shape(build))
  rng = np.random.default_rng(seed)
  variables = []
  for path, variable in nnx.to_flat_state(abstract):
    like = variable.get_value()
    values = rng.standard_normal(like.shape)
    if fan_in_scaling and path[-1] == "kernel":
      values /= np.prod(like.shape[:-1]) ** 0.5
    else:
      values = (0.3 if fan_in_scaling else 0.1) * values + (path[-1] in ("scale", "var"))
    variables.append((path, variable.replace(jnp.asarray(values, like.dtype))))
  return nnx.merge(graphdef, nnx.from_flat_state(variables))


def initialised_model(build: Callable[[], nnx.Module]) -> nnx.Module:
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
  """Gradients of loss(model) with respect to every trained array."""
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)
  grad = quick_jit(jax.grad(lambda params: loss(nnx.merge(graphdef, params, rest))))
  return jax.tree.leaves(grad(params))


def count_checkpoints(function: Callable, *arguments) -> int:
  """Number of subfunctions that are recomputed in the backward pass (jax.checkpoint)."""
  equations = jax.make_jaxpr(function)(*arguments).jaxpr.eqns
  return sum("remat" in str(e.primitive) or "checkpoint" in str(e.primitive) for e in equations)


def record_stage_outputs(encoder: nnx.Module) -> list:
  """A list to which the next call of a ConvNeXt V2 encoder appends the outputs of its stages."""
  outputs: list = []
  run_stages = encoder.run_stages

  def run_and_record(*arguments, **keywords):
    for x in run_stages(*arguments, **keywords):
      outputs.append(x)
      yield x

  encoder.run_stages = run_and_record
  return outputs
