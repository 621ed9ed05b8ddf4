"""Between a module and {path: array}, where a path is written "blocks.0.attn.qkv.kernel"."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx


def abstract_model(build: Callable[[], nnx.Module]) -> tuple[Any, dict[str, Any]]:
  """Graph definition and {path: variable without values} of `build()`, built abstractly."""
  graphdef, state = nnx.split(nnx.eval_shape(build))
  return graphdef, {_joined(path): variable for path, variable in nnx.to_flat_state(state)}


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
