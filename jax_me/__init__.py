"""jax_me: facial expression and micro-expression recognition in JAX."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from jax_me.inference.predictor import Predictor

__version__ = "0.1.0"


def load(folder: str | os.PathLike, **overrides: Any) -> "Predictor":
  """The classifier of a converted folder or of a workdir; see `jax_me.inference.predictor`."""
  # Imported here: `import jax_me` must stay light, worker processes do it too.
  from jax_me.inference.predictor import load

  return load(folder, **overrides)
