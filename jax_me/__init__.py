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


def from_pretrained(
  repository: str, *, revision: str = "", verify: bool = False, **overrides: object
) -> "Predictor":
  """Loads a model of the Hugging Face hub (extra `hub`).

  Args:
    repository: "owner/name".
    revision: branch, tag or commit.
    verify: compute the reference output again, see `load`.
    **overrides: see `Predictor.from_pretrained`.

  Returns:
    the classifier.
  """
  from jax_me.inference.predictor import Predictor

  return Predictor.from_pretrained(repository, revision=revision, verify=verify, **overrides)


def push_to_hub(
  model: "str | os.PathLike | Predictor",
  repository: str,
  *,
  private: bool = True,
  token: str | None = None,
  licence: str = "",
) -> str:
  """Uploads a model with a model card to the Hugging Face hub (extra `hub`).

  Args:
    model: a model folder or run, or a loaded model.
    repository: "owner/name"; it is created where it does not exist.
    private: whether a new repository is private.
    token: of the account; by default that of `hf auth login` or `HF_TOKEN`.
    licence: of the weights, see `Predictor.push_to_hub`.

  Returns:
    the address of the repository.
  """
  predictor = load(model) if isinstance(model, str | os.PathLike) else model
  return predictor.push_to_hub(repository, private=private, token=token, licence=licence)
