"""Weights of a model on disk: an Orbax folder, or a safetensors file."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import safetensors
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from jax_me.files import give_ordinary_permissions
from jax_me.models.model_metadata import SavedModelError
from jax_me.models.saved_model import ArrayTree

WEIGHTS_FOLDER = "weights"
SAFETENSORS_FILE = "weights.safetensors"
ORBAX, SAFETENSORS = "orbax", "safetensors"
WEIGHT_FORMATS = (ORBAX, SAFETENSORS)
_SEPARATOR = "."


def write_weights(folder: str | os.PathLike, weights: ArrayTree, form: str = ORBAX) -> None:
  """Writes {"params", "model_state"} into a folder.

  Args:
    folder: of the model.
    weights: nested dict of arrays.
    form: one of WEIGHT_FORMATS.

  Raises:
    ValueError: unknown format.
  """
  root = pathlib.Path(folder).absolute()
  if form == ORBAX:
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(root / WEIGHTS_FOLDER, weights, force=True)
  elif form == SAFETENSORS:
    write_safetensors(root / SAFETENSORS_FILE, _flat(weights))
  else:
    raise ValueError(f"weights are stored as {' or '.join(WEIGHT_FORMATS)}, not as {form!r}")


def write_safetensors(
  path: str | os.PathLike,
  arrays: Mapping[str, np.ndarray],
  metadata: dict[str, str] | None = None,
) -> None:
  """Writes a safetensors file with the permissions of an ordinary new file.

  Args:
    path: the file.
    arrays: by name.
    metadata: texts by name.
  """
  save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, metadata)
  give_ordinary_permissions(path)


def stored_weights(folder: str | os.PathLike) -> str | None:
  """Name of the file or folder with the weights of a model folder; None if it has none."""
  root = pathlib.Path(folder)
  if (root / SAFETENSORS_FILE).is_file():
    return SAFETENSORS_FILE
  return WEIGHTS_FOLDER if (root / WEIGHTS_FOLDER).is_dir() else None


def read_arrays(path: str | os.PathLike, abstract: ArrayTree) -> ArrayTree:
  """Reads {"params", "model_state"} from an Orbax folder or a safetensors file.

  Args:
    path: the folder or the file.
    abstract: nested ShapeDtypeStructs; without a sharding the first device is taken.

  Returns:
    the arrays, with the shapes, dtypes and shardings of `abstract`.

  Raises:
    SavedModelError: the stored arrays are damaged or do not match.
  """
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  target = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(
      a.shape, a.dtype, sharding=getattr(a, "sharding", None) or device
    ),
    abstract,
  )
  try:
    if str(path).endswith(SAFETENSORS_FILE):
      return _read_safetensors(path, target)
    with ocp.StandardCheckpointer() as checkpointer:
      return checkpointer.restore(path, target)
  except Exception as error:  # Orbax and tensorstore raise many types for a damaged folder.
    raise SavedModelError(f"the weights in {path} cannot be read: {error}") from error


def _read_safetensors(path: str | os.PathLike, target: ArrayTree) -> ArrayTree:
  wanted = _flat(target)
  with safetensors.safe_open(path, framework="numpy") as file:
    keys = set(file.keys())
    if keys != wanted.keys():
      differ = sorted(keys ^ wanted.keys())
      raise ValueError(f"these arrays are only in the file or only in the model: {differ[:5]}")
    arrays = {}
    for key, like in wanted.items():
      value = file.get_tensor(key)
      if value.shape != like.shape:
        raise ValueError(f"{key} has the shape {value.shape}, the model {like.shape}")
      arrays[key] = jax.device_put(value.astype(like.dtype, copy=False), like.sharding)
  nested = unflatten_dict({tuple(key.split(_SEPARATOR)): value for key, value in arrays.items()})
  return {name: nested.get(name, {}) for name in target}


def _flat(tree: ArrayTree) -> dict[str, Any]:
  """{"params.blocks.0.attn.qkv.kernel": array}."""
  return flatten_dict(tree, sep=_SEPARATOR)
