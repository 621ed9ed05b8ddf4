"""Models for tests: random weights without compiling the initialisers, and a look inside."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from flax import nnx


def randomly_filled(build: Callable[[], nnx.Module], seed: int = 0) -> nnx.Module:
  """`build()` with every variable drawn, those that start at zero or one too.

  Kernels keep the variance of their input; scales are about 1; the rest has deviation 0.3.
  """
  graphdef, abstract = nnx.split(nnx.eval_shape(build))
  rng = np.random.default_rng(seed)
  filled = []
  for path, variable in nnx.to_flat_state(abstract):
    like = variable.get_value()
    values = rng.standard_normal(like.shape)
    if path[-1] == "kernel":
      values /= np.prod(like.shape[:-1]) ** 0.5
    else:
      values = 0.3 * values + (path[-1] == "scale")
    filled.append((path, variable.replace(jnp.asarray(values, like.dtype))))
  return nnx.merge(graphdef, nnx.from_flat_state(filled))


def note_stages(encoder: nnx.Module) -> list:
  """A list that fills with the stages' outputs when a ConvNeXt V2 encoder is next called."""
  outputs: list = []
  run_stages = encoder.run_stages

  def run_and_note(*arguments, **keywords):
    for x in run_stages(*arguments, **keywords):
      outputs.append(x)
      yield x

  encoder.run_stages = run_and_note
  return outputs
