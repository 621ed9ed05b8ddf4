"""jax_me: facial expression and micro-expression recognition in JAX."""

import os
from typing import TYPE_CHECKING

from jax_me.bundled import PACKAGED

if TYPE_CHECKING:
  from jax_me.inference.predictor import Predictor

__version__ = "0.2.0.dev0"


def load(
  folder: str | os.PathLike = PACKAGED, *, verify: bool = False, **overrides: object
) -> "Predictor":
  """Loads a model folder, a run, a checkpoint, or weights by name.

  Args:
    folder: a model folder, a run, a checkpoint file, or a name (hf://OWNER/NAME, timm://NAME,
      release://FILE); by default the expression model that comes with jax_me. See
      `jax_me.inference.predictor.load`.
    verify: also compare the output for a synthetic image with the one that the folder keeps.
    **overrides: constructor keywords that do not change the parameters (`dtype`, ...).

  Returns:
    the classifier.
  """
  # Imported here: `import jax_me` must stay fast, also in worker processes.
  from jax_me.inference.predictor import load

  return load(folder, verify=verify, **overrides)
