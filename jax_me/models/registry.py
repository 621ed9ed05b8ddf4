"""Registry of models: name in the original code -> constructor."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import jax
from flax import nnx

from jax_me.models.convnext_v2 import CONVNEXTV2_MODELS
from jax_me.models.fcmae import FCMAE_MODELS
from jax_me.models.mae import MAE_MODELS
from jax_me.models.shallow_cnn import SHALLOW_CNN_MODELS
from jax_me.models.shallow_resnet import SHALLOW_RESNET_MODELS
from jax_me.models.t2t_vit import T2T_MODELS
from jax_me.models.vit import VIT_MODELS

MODELS: dict[str, Callable[..., nnx.Module]] = {
  **VIT_MODELS,
  **MAE_MODELS,
  **T2T_MODELS,
  **CONVNEXTV2_MODELS,
  **FCMAE_MODELS,
  **SHALLOW_CNN_MODELS,
  **SHALLOW_RESNET_MODELS,
}


def create_model(name: str, *, rngs: nnx.Rngs, **overrides: Any) -> nnx.Module:
  """Builds a model by name.

  Args:
    name: key of `MODELS`.
    rngs: source of the initial values, for instance `nnx.Rngs(0)`.
    **overrides: keywords of the model's constructor, named as in the originals
      (`image_size, num_classes, embed_dim, depth, ...`), and `dtype`, `param_dtype`.

  Returns:
    The module.

  Raises:
    ValueError: unknown name or keyword (the message lists the closest), or a value that the
      constructor rejects.
  """
  if name not in MODELS:
    raise ValueError(f"unknown model {name!r}{suggestion(name, MODELS)}")
  known = default_arguments(name)
  for keyword in overrides:
    if keyword not in known:
      raise ValueError(f"{name} takes no argument {keyword!r}{suggestion(keyword, known)}")
  return MODELS[name](rngs=rngs, **overrides)


class _OneKey(nnx.RngStream):
  """Stream that repeats one key. Counting the keys under a trace takes most of its time in flax."""

  def __call__(self) -> jax.Array:
    return self.key[...]


def abstract_rngs() -> nnx.Rngs:
  """Keys for a model that is only built abstractly: all equal, quick to trace."""
  rngs = nnx.Rngs(0)
  rngs.default = _OneKey(0, tag="default")  # type: ignore[attr-defined]
  return rngs


def create_abstract_model(name: str, **overrides: Any) -> nnx.Module:
  """The module of `create_model` with the shapes and dtypes of its arrays in place of values.

  Raises:
    ValueError: as `create_model`.
  """
  return nnx.eval_shape(lambda: create_model(name, rngs=abstract_rngs(), **overrides))


@functools.cache
def default_arguments(name: str) -> dict[str, Any]:
  """Every constructor keyword of a named model, `rngs` excepted, with its default value."""
  constructor = MODELS[name]
  preset = constructor.keywords if isinstance(constructor, functools.partial) else {}
  target = constructor.func if isinstance(constructor, functools.partial) else constructor
  # A module class hides its signature behind its metaclass.
  target = target.__init__ if inspect.isclass(target) else target
  parameters = inspect.signature(target).parameters.values()
  defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
  return defaults | preset


def suggestion(word: str, known: Iterable[str]) -> str:
  """'; did you mean a, b?', or the whole list when no name is similar."""
  similar = difflib.get_close_matches(word, known, n=3)
  if similar:
    return f"; did you mean {', '.join(similar)}?"
  return f"; known: {', '.join(sorted(known))}"
