"""The models that can be named: their family, and what their constructors take."""

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any

from convert.errors import ConversionError
from jax_me.models import weight_mapping


def family_of(name: str) -> str:
  """The family of a model's name.

  Raises:
    ConversionError: no such model.
  """
  from jax_me.models import MODELS

  if name not in MODELS:
    near = difflib.get_close_matches(name, MODELS, n=3)
    raise ConversionError(
      f"unknown model {name!r}", remedy=f"choose one of {', '.join(near or sorted(MODELS))}"
    )
  return weight_mapping.family_of(name)


@functools.cache
def sizes(name: str) -> dict[str, Any]:
  """Every constructor keyword of a named model with the value it takes by itself."""
  from jax_me.models import MODELS

  constructor: Callable = MODELS[name]
  given: dict[str, Any] = {}
  while isinstance(constructor, functools.partial):
    given = constructor.keywords | given
    constructor = constructor.func
  target = constructor.__init__ if inspect.isclass(constructor) else constructor
  parameters = inspect.signature(target).parameters.values()
  defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
  return defaults | given
