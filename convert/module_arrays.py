"""Conversion between a module and {path: array}, with paths such as "blocks.0.attn.qkv.kernel"."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_me.models import create_model
from jax_me.models.registry import create_abstract_model


def abstract_model(
  name: str, arguments: Mapping[str, object]
) -> tuple[nnx.GraphDef, dict[str, nnx.Variable]]:
  """Graph definition and {path: variable without values} of a model, built abstractly.

  Raises:
    ValueError, TypeError: the constructor rejects the arguments.
  """
  frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
  return _abstract_model(name, tuple(sorted(frozen.items())))


@functools.lru_cache(maxsize=4)  # for a small file, tracing takes most of the time
def _abstract_model(
  name: str, arguments: tuple[tuple[str, Any], ...]
) -> tuple[nnx.GraphDef, dict[str, nnx.Variable]]:
  graphdef, state = nnx.split(create_abstract_model(name, **dict(arguments)))
  return graphdef, {_join(path): variable for path, variable in nnx.to_flat_state(state)}


def initial_arrays(
  name: str, arguments: Mapping[str, object], paths: Sequence[str]
) -> dict[str, np.ndarray]:
  """Initial values (seed 0) of some arrays of a model; the others are not computed.

  Args:
    name: key of `jax_me.models.MODELS`.
    arguments: constructor keywords.
    paths: of the arrays to compute.

  Returns:
    {path: array}.
  """
  if not paths:
    return {}

  @jax.jit
  def initialise() -> dict[str, jax.Array]:
    state = nnx.to_flat_state(nnx.state(create_model(name, rngs=nnx.Rngs(0), **arguments)))
    return {_join(path): variable[...] for path, variable in state if _join(path) in paths}

  return {path: np.asarray(value) for path, value in initialise().items()}


def model_arrays(model: nnx.Module) -> dict[str, np.ndarray]:
  """{path: array} of all variables of a module, trained or fixed."""
  return {
    _join(path): np.asarray(variable[...]) for path, variable in nnx.to_flat_state(nnx.state(model))
  }


def fill_model(
  graphdef: nnx.GraphDef, variables: Mapping[str, nnx.Variable], values: Mapping[str, np.ndarray]
) -> nnx.Module:
  """Builds a module with the given values.

  Args:
    graphdef, variables: see `abstract_model`.
    values: {path: array} of every variable; cast to the variable's dtype.

  Returns:
    The module.
  """
  state = [
    (_split(path), variable.replace(jnp.asarray(values[path], variable.get_value().dtype)))
    for path, variable in variables.items()
  ]
  return nnx.merge(graphdef, nnx.from_flat_state(state))


def _join(path: tuple[Any, ...]) -> str:
  return ".".join(map(str, path))


def _split(path: str) -> tuple[Any, ...]:
  return tuple(int(part) if part.isdigit() else part for part in path.split("."))
