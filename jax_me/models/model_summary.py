"""Size, work and input of every model: parameters, multiply-adds, image sizes, keywords."""

import dataclasses
import functools
import inspect
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_me.files import write_atomically
from jax_me.models.flops import count_flops
from jax_me.models.registry import MODELS, create_abstract_model, default_arguments

# The summaries of all models as built by default; tracing them takes minutes.
# Written by `python -m jax_me.models.model_summary`.
SUMMARIES_FILE = pathlib.Path(__file__).with_name("model_summaries.json")

# The smallest image does not depend on the number of blocks.
_SHALLOW = {"depth": 1, "decoder_depth": 1, "depths": (1, 1, 1, 1)}


@dataclasses.dataclass(frozen=True)
class ModelSummary:
  """What a model costs and accepts.

  Attributes:
    name: key of `MODELS`.
    parameters: number of trained values.
    macs: multiply-adds of the products and convolutions of one image, forward; those of masked
      pre-training at the default mask ratio, decoder included.
    image_size: side of the square input in pixels.
    smallest_image: smallest `image_size` that the model accepts.
    arguments: default of each keyword of the constructor; values of the variant included.
  """

  name: str
  parameters: int
  macs: int
  image_size: int
  smallest_image: int
  arguments: dict[str, Any]


def summarize_model(name: str, **overrides: Any) -> ModelSummary:
  """Traces a model without allocating it.

  Args:
    name: key of `MODELS`.
    **overrides: keywords of the constructor.

  Returns:
    The summary.

  Raises:
    ValueError: as `create_model`.
  """
  model = create_abstract_model(name, **overrides)
  arguments = {**_defaults(name), **overrides}
  smallest_overrides = {k: v for k, v in overrides.items() if k != "image_size"}
  return ModelSummary(
    name=name,
    parameters=sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))),
    macs=_count_macs(model, arguments["image_size"]),
    image_size=arguments["image_size"],
    smallest_image=_smallest_image(name, arguments["image_size"], **smallest_overrides),
    arguments=arguments,
  )


@functools.cache
def recorded_summaries() -> dict[str, ModelSummary]:
  """{name: summary as built by default} of all models, from the table in the package."""
  rows = json.loads(SUMMARIES_FILE.read_text(encoding="utf-8"))
  return {name: ModelSummary(name=name, **row) for name, row in rows.items()}


def _defaults(name: str) -> dict[str, Any]:
  """Keywords without dtypes, with tuples as lists, as in JSON."""
  return {
    keyword: list(value) if isinstance(value, tuple) else value
    for keyword, value in default_arguments(name).items()
    if keyword not in ("dtype", "param_dtype")
  }


def _count_macs(model: nnx.Module, image_size: int) -> int:
  graphdef, state = nnx.split(model)

  def run(state: nnx.State, images: jax.Array, key: jax.Array) -> Any:
    module: Any = nnx.merge(graphdef, state)
    masked = "mask_ratio" in inspect.signature(type(module).__call__).parameters
    return module(images, key=key) if masked else module(images)

  image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
  return count_flops(jax.jit(run).trace(state, image, jax.random.key(0)).jaxpr) // 2


def _smallest_image(name: str, image_size: int, **overrides: Any) -> int:
  shallow = {k: value for k, value in _SHALLOW.items() if k in default_arguments(name)}
  for side in range(1, image_size):
    try:
      _count_macs(create_abstract_model(name, **{**shallow, **overrides, "image_size": side}), side)
    except (ValueError, TypeError, ZeroDivisionError):
      continue
    return side
  return image_size


def _write_summaries() -> None:
  rows = {}
  for name in MODELS:
    rows[name] = dataclasses.asdict(summarize_model(name))
    del rows[name]["name"]
    print(name, {k: v for k, v in rows[name].items() if k != "arguments"}, flush=True)
  write_atomically(SUMMARIES_FILE, (json.dumps(rows, indent=1) + "\n").encode())


if __name__ == "__main__":
  _write_summaries()
