"""A checkpoint file as a model with its metadata, without a model folder."""

import pathlib

from jax_me.models.model_folder import MODEL_FILE, SavedModel

from .conversion import metadata_of
from .hub_folder import WEIGHT_FILES
from .torch_to_flax import convert_checkpoint, read_checkpoint


def is_checkpoint(source: pathlib.Path) -> bool:
  """Whether the path is a checkpoint file or a hub folder, not a model folder or a run."""
  hub_files = any((source / name).is_file() for name in WEIGHT_FILES)
  return source.is_file() or (hub_files and not (source / MODEL_FILE).exists())


def convert_to_model(source: str | pathlib.Path, name: str | None = None) -> SavedModel:
  """Converts a checkpoint file in memory.

  Args:
    source: torch or safetensors file, or a folder of timm or transformers.
    name: the model to take if the arrays match it among others.

  Returns:
    the model; its classes are numbered unless a hub folder names them.

  Raises:
    ConversionError: as `convert_checkpoint`.
  """
  conversion = convert_checkpoint(read_checkpoint(source), hint=name)
  return SavedModel(conversion.model, **metadata_of(conversion))
