"""jax_me: facial expression and micro-expression recognition in JAX."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from jax_me.inference.predictor import Predictor

__version__ = "0.2.0.dev0"


def load(folder: str | os.PathLike, **overrides: object) -> "Predictor":
  """Loads the model of a converted model folder or of a run.

  See `jax_me.inference.predictor.load`.
  """
  # Imported here: `import jax_me` must stay fast, also in worker processes.
  from jax_me.inference.predictor import load

  return load(folder, **overrides)
