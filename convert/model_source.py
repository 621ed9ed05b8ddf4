"""A checkpoint file as a model with its metadata, without a model folder."""

import pathlib

from jax_me.models.model_folder import SavedModel

from .conversion import metadata_of
from .torch_to_flax import convert_checkpoint, read_checkpoint


def convert_to_model(source: str | pathlib.Path, name: str | None = None) -> SavedModel:
  """Converts a checkpoint file in memory.

  Args:
    source: torch or safetensors file.
    name: the model to take if the arrays match it among others; None, or a name that they do not
      match, takes the only one that they match.

  Returns:
    the model; its classes are numbered, as checkpoint files have no names of them.

  Raises:
    ConversionError: as `convert_checkpoint`.
  """
  from .detection import detect

  checkpoint = read_checkpoint(source)
  matching = detect(checkpoint.arrays).names
  conversion = convert_checkpoint(checkpoint, name if name in matching else None)
  return SavedModel(conversion.model, **metadata_of(conversion))
