"""Between a module and {path: array}, where a path is written "blocks.0.attn.qkv.kernel"."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_me.models import create_model


def abstract_model(name: str, arguments: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
  """Graph definition and {path: variable without values} of a model, built abstractly.

  Raises:
    ValueError, TypeError: what the constructor says of the arguments.
  """
  frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
  return _abstract_model(name, tuple(sorted(frozen.items())))


@functools.lru_cache(maxsize=4)  # tracing takes longer than everything else about a small file
def _abstract_model(
  name: str, arguments: tuple[tuple[str, Any], ...]
) -> tuple[Any, dict[str, Any]]:
  model = nnx.eval_shape(lambda: create_model(name, rngs=nnx.Rngs(0), **dict(arguments)))
  graphdef, state = nnx.split(model)
  return graphdef, {_joined(path): variable for path, variable in nnx.to_flat_state(state)}


def initial_arrays(
  name: str, arguments: Mapping[str, Any], paths: Sequence[str]
) -> dict[str, np.ndarray]:
  """The values (seed 0) that some arrays of a model start with; the others are not computed."""
  if not paths:
    return {}

  @jax.jit
  def initialise() -> dict[str, jax.Array]:
    state = nnx.to_flat_state(nnx.state(create_model(name, rngs=nnx.Rngs(0), **arguments)))
    return {_joined(path): variable[...] for path, variable in state if _joined(path) in paths}

  return {path: np.asarray(value) for path, value in initialise().items()}


def model_arrays(model: nnx.Module) -> dict[str, np.ndarray]:
  """{path: array} of all that a module holds, trained or fixed."""
  return {
    _joined(path): np.asarray(variable[...])
    for path, variable in nnx.to_flat_state(nnx.state(model))
  }


def filled_model(
  graphdef: Any, variables: Mapping[str, Any], values: Mapping[str, np.ndarray]
) -> Any:
  """The module with `values` in place, each in its variable's type."""
  state = [
    (_split(path), variable.replace(jnp.asarray(values[path], variable.get_value().dtype)))
    for path, variable in variables.items()
  ]
  return nnx.merge(graphdef, nnx.from_flat_state(state))


def _joined(path: tuple[Any, ...]) -> str:
  return ".".join(map(str, path))


def _split(path: str) -> tuple[Any, ...]:
  return tuple(int(part) if part.isdigit() else part for part in path.split("."))
