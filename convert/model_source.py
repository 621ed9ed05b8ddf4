"""Models from any source: model folder, run, checkpoint file, hub folder, or name of weights.

Weights by name are converted once, into the cache folder of jax_me.
"""

import os
import pathlib
import shutil
import sys
from typing import Any

import jax_me
from jax_me.bundled import PACKAGED, expression_model
from jax_me.cache_folder import cache_folder
from jax_me.files import exclusive_lock
from jax_me.models.ensemble import load_folder
from jax_me.models.model_folder import load_model
from jax_me.models.model_metadata import MODEL_FILE, SavedModelError
from jax_me.models.saved_model import SavedModel

from .conversion import metadata_of, save_conversion
from .hub_download import download_model_folder
from .hub_folder import WEIGHT_FILES
from .torch_files import read_checkpoint, read_local_weights
from .torch_to_flax import convert_checkpoint
from .weight_names import (
  WeightName,
  fetch_weights,
  is_offline,
  parse_weight_name,
  revision_of,
)


def open_model(
  source: str | os.PathLike, name: str | None = None, *, verify: bool = False, **overrides: Any
) -> SavedModel:
  """Loads a model folder or a run, or converts a checkpoint.

  Args:
    source: a folder with `model.json`; a run with folds, whose final model is taken, or else the
      mean of its folds; a torch or safetensors file, or a folder of timm or transformers, which is
      converted in memory; or a name of weights, whose converted model is kept in the cache folder;
      "packaged" is the expression model that comes with jax_me.
    name: the model to prefer where the arrays of a file match several.
    verify: also compare the output with the reference check of the folder.
    **overrides: constructor keywords that do not change the parameters (`dtype`, ...).

  Returns:
    The model; its classes are numbered unless the source names them.

  Raises:
    ValueError: there is no such model, or it is damaged (`SavedModelError`, `ConversionError`).
  """
  if source == PACKAGED:
    source = expression_model()
  weights = parse_weight_name(source)
  if weights is not None:
    return _open_by_name(weights, verify=verify, **overrides)
  if _is_checkpoint(pathlib.Path(source)):
    conversion = convert_checkpoint(read_checkpoint(source), hint=name, **overrides)
    return SavedModel(conversion.model, **metadata_of(conversion))
  return load_folder(source, verify=verify, **overrides)


def _is_checkpoint(source: pathlib.Path) -> bool:
  """Whether the path is a checkpoint file or a hub folder, not a model folder or a run."""
  hub_files = any((source / name).is_file() for name in WEIGHT_FILES)
  return source.is_file() or (hub_files and not (source / MODEL_FILE).exists())


def _open_by_name(name: WeightName, **options: Any) -> SavedModel:
  revision = revision_of(name)
  if name.release is None:
    shared = download_model_folder(name.repository, revision, offline=is_offline())
    if shared is not None:
      return load_model(shared, **options)
  folder = converted_folder(name, revision)
  folder.parent.mkdir(parents=True, exist_ok=True)
  lock = folder.with_name(folder.name + ".lock")
  with exclusive_lock(lock, lambda: _say(f"waiting: another process converts {name}")):
    try:
      return load_model(folder, **options)
    except SavedModelError as error:
      if (folder / MODEL_FILE).exists():
        _say(f"{error} It is converted again.")
    weights = fetch_weights(name, revision)
    conversion = convert_checkpoint(read_local_weights(weights))
    if folder.exists():
      shutil.rmtree(folder)
    save_conversion(conversion, folder)
  report = conversion.report
  head = f"{name}, revision {revision[:12]}, converted to {folder}"
  _say("\n  ".join([head, *report.notes, *report.warnings]))
  return load_model(folder, **options)


def converted_folder(name: WeightName, revision: str) -> pathlib.Path:
  """Model folder in the cache; another version of jax_me converts anew."""
  where = f"release/{name.release.file}" if name.release else f"hub/{name.repository}"
  return cache_folder() / "models" / where / f"{revision[:12]}_{jax_me.__version__}"


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
