"""What a conversion gives."""

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from flax import nnx

  from convert.report import LoadReport


@dataclasses.dataclass
class Conversion:
  """A converted model.

  Attributes:
    model: the module with its weights.
    name: key of `jax_me.models.MODELS`.
    arguments: constructor keywords, taken from the file or given.
    report: what became of every key.
  """

  model: "nnx.Module"
  name: str
  arguments: dict[str, Any]
  report: "LoadReport"
