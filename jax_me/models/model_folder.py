"""Model folders on disk: `model.json`, weights, the reference check, and checksums of all files."""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Unpack, cast

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx

from jax_me.files import staging_folder, write_atomically
from jax_me.manifest import (
  MANIFEST_FILE,
  DamagedFolder,
  combined_sha256,
  read_manifest,
  verified_in_background,
  verify_manifest,
  write_manifest,
)
from jax_me.models.model_metadata import (
  MODEL_FILE,
  ModelFields,
  ModelMetadata,
  SavedModelError,
  metadata_document,
  read_model_metadata,
)
from jax_me.models.reference_check import (
  REFERENCE_FILE,
  Reference,
  ReferenceResult,
  compare_description,
  make_reference,
  read_reference,
  verify_output,
  write_reference,
)
from jax_me.models.registry import create_abstract_model
from jax_me.models.saved_model import ArrayTree, SavedModel, merge_model, split_model
from jax_me.models.weight_files import (
  ORBAX,
  WEIGHTS_FOLDER,
  read_arrays,
  stored_weights,
  write_weights,
)

CHECKPOINTS_FOLDER = "checkpoints"
CHECKPOINTS_LOCATION_FILE = "checkpoints.json"  # Their location when outside the workdir.
# Best evaluation of a run: <step>/weights, record and checksums; renamed to <step> when complete.
SELECTED_FOLDER = "selected"
RECORD_FILE = "record.json"


def write_json(path: str | os.PathLike, content: object) -> None:
  """Writes a JSON file atomically: readers see the old file or the new one."""
  write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def save_model(
  folder: str | os.PathLike,
  model: nnx.Module,
  *,
  documents: Mapping[str, object] | None = None,
  weights_format: str = ORBAX,
  half: bool = False,
  reference: Reference | None = None,
  **fields: Unpack[ModelFields],
) -> None:
  """Writes a model folder with its reference check and the checksums of its files, atomically.

  Args:
    folder: to be created; may exist when empty.
    model: the module with its weights.
    documents: {file name: content} of other JSON files of the folder.
    weights_format: one of `weight_files.WEIGHT_FORMATS`.
    half: store the parameters in float16; they are loaded in the dtype of the model.
    reference: of the model, if its output is known; else it is computed.
    **fields: name, arguments, labels, image_size, mean, std, source and, unless they follow from
      `source`, input, alignment, preparation, licence: see `SavedModel`.

  Raises:
    FileExistsError: the folder exists and is not empty.
    SavedModelError: the fields are impossible.
  """
  target = pathlib.Path(folder).absolute()
  if target.exists() and any(target.iterdir()):
    raise FileExistsError(f"{target} is not empty; choose another folder or remove it first")
  with staging_folder(target) as staging:
    write_json(staging / MODEL_FILE, metadata_document(**fields))
    for name, content in (documents or {}).items():
      write_json(staging / name, content)
    _, params, model_state = split_model(model)
    if half:
      params = jax.tree.map(lambda value: np.asarray(value, np.float16), params)
    weights = {"params": params, "model_state": model_state}
    write_weights(staging, weights, weights_format)
    finish_model_folder(staging, weights, also=tuple(documents or ()), reference=reference)
    if target.exists():
      target.rmdir()
    os.replace(staging, target)


def finish_model_folder(
  folder: str | os.PathLike,
  arrays: ArrayTree,
  *,
  also: tuple[str, ...] = (),
  reference: Reference | None = None,
) -> None:
  """Adds the reference check and the checksums to a folder with `model.json` and weights.

  Args:
    folder: of the model; other files in it stay without checksums.
    arrays: {"params", "model_state"}, as they are stored.
    also: names of other files of the model.
    reference: as in `save_model`.

  Raises:
    SavedModelError: there are no weights, or `model.json` is not the description of their model.
  """
  root = pathlib.Path(folder)
  weights = stored_weights(root)
  if weights is None:
    raise SavedModelError(f"{root} has no weights")
  metadata = read_model_metadata(root)
  graphdef, abstract = _abstract_model(root, metadata, {})
  if jax.tree.map(np.shape, arrays) != jax.tree.map(np.shape, abstract):
    raise SavedModelError(f"{root / MODEL_FILE} does not describe the model of the weights")
  # As they are loaded: a run may compute and store in another dtype.
  arrays = jax.tree.map(lambda value, like: np.asarray(value, like.dtype), arrays, abstract)
  saved = SavedModel(merge_model(graphdef, **arrays), **_fields(metadata))
  write_manifest(root, weights)
  write_reference(
    root / REFERENCE_FILE,
    reference or make_reference(saved),
    _document(root),
    combined_sha256(read_manifest(root), weights),
  )
  write_manifest(root, MODEL_FILE, REFERENCE_FILE, weights, *also)


def selected_folder(workdir: str | os.PathLike) -> pathlib.Path | None:
  """Folder of a run's best weights so far, or None when the run does not select a model.

  Raises:
    SavedModelError: the record of the selection is damaged.
  """
  scores: dict[pathlib.Path, float] = {}
  for path in (pathlib.Path(workdir) / SELECTED_FOLDER).glob(f"*/{RECORD_FILE}"):
    if not path.parent.name.isdigit():  # Not finished.
      continue
    try:
      if (path.parent / MANIFEST_FILE).exists():
        verify_manifest(path.parent, RECORD_FILE)
      scores[path.parent] = float(json.loads(path.read_text(encoding="utf-8"))["score"])
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise SavedModelError(f"{path} cannot be read: {error}") from error
  # There are two only for a moment, before the older one is removed.
  return max(scores, key=scores.__getitem__) if scores else None


def redirect_checkpoints(workdir: pathlib.Path, location: str) -> None:
  """Records that the checkpoints of a run are stored outside its workdir.

  Args:
    workdir: of the run.
    location: a folder, or the URL of one in a bucket ("gs://...", which needs the package gcsfs).
  """
  absolute = location if "://" in location else str(pathlib.Path(location).absolute())
  write_json(workdir / CHECKPOINTS_LOCATION_FILE, {"checkpoints": absolute})


def checkpoints_folder(workdir: str | os.PathLike) -> epath.Path:
  """Folder of a run's checkpoints: in its workdir, or as set by `redirect_checkpoints`.

  Raises:
    SavedModelError: the file with the location is damaged.
  """
  root = pathlib.Path(workdir).absolute()
  path = root / CHECKPOINTS_LOCATION_FILE
  if not path.exists():
    return epath.Path(root / CHECKPOINTS_FOLDER)
  try:
    return epath.Path(json.loads(path.read_text(encoding="utf-8"))["checkpoints"])
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise SavedModelError(f"{path} cannot be read: {error}") from error


def checkpoint_steps(workdir: str | os.PathLike) -> list[int]:
  """Steps of the finished checkpoints of a run, in ascending order.

  Raises:
    SavedModelError: the file with their location is damaged.
  """
  folder = checkpoints_folder(workdir)
  names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
  steps = sorted(int(name) for name in names if name.isdigit())
  return [step for step in steps if (folder / str(step) / WEIGHTS_FOLDER).is_dir()]


def weights_path(folder: str | os.PathLike) -> epath.Path:
  """Weights of a model folder, or of a workdir (selected, else newest checkpoint)."""
  root = pathlib.Path(folder).absolute()
  if (stored := stored_weights(root)) is not None:
    return epath.Path(root / stored)
  if (selected := selected_folder(root)) is not None:
    return epath.Path(selected / WEIGHTS_FOLDER)
  if steps := checkpoint_steps(root):
    return checkpoints_folder(root) / str(steps[-1]) / WEIGHTS_FOLDER
  raise SavedModelError(
    f"{root} has a {MODEL_FILE} but no weights: neither {WEIGHTS_FOLDER}/ nor a finished "
    f"{CHECKPOINTS_FOLDER}/<step>/. Did the run stop before its first checkpoint?"
  )


def read_weights(folder: str | os.PathLike, abstract: ArrayTree) -> ArrayTree:
  """Reads {"params", "model_state"} of a model folder or a workdir; see `read_arrays`.

  Args:
    folder: see `weights_path`.
    abstract: nested ShapeDtypeStructs.

  Returns:
    the arrays.

  Raises:
    SavedModelError: there are none, or they are damaged or do not match.
  """
  return read_arrays(weights_path(folder), abstract)


def read_selected(folder: pathlib.Path, abstract: ArrayTree) -> ArrayTree:
  """Reads the weights of a `selected_folder`, and compares them with their checksums.

  Args:
    folder: of the selection.
    abstract: nested ShapeDtypeStructs.

  Returns:
    the arrays.

  Raises:
    SavedModelError: they are damaged or do not match.
  """
  with _checked_weights(epath.Path(folder / WEIGHTS_FOLDER)):
    return read_weights(folder, abstract)


@contextlib.contextmanager
def checked_folder(folder: str | os.PathLike) -> Iterator[None]:
  """Compares a model folder with its checksums and its reference while the body reads it.

  Of an unfinished run, the weights are compared with the checksums of their checkpoint. Folders of
  version 0.1 have none, which is said.

  Args:
    folder: a model folder, or the workdir of a run.

  Yields:
    nothing.

  Raises:
    SavedModelError: a file is missing or damaged, or the folder was edited.
  """
  root = pathlib.Path(folder)
  weights = stored_weights(root)
  if not (root / MANIFEST_FILE).exists():
    if weights is None:
      read_model_metadata(root)  # Without a model there are no weights to look for.
      with _checked_weights(weights_path(root)):
        yield
      return
    if read_model_metadata(root)["format"] == 1:
      logging.getLogger("jax_me").warning(
        "%s was written by version 0.1 and has no checksums: damage would not be noticed", root
      )
      yield
      return
  try:
    with verified_in_background(root) as listed:
      if read_model_metadata(root)["format"] >= 3:
        digest = combined_sha256(listed, weights or "")
        unlisted = {MODEL_FILE, REFERENCE_FILE} - listed.keys()
        if unlisted or not digest:
          raise SavedModelError(
            f"{root / MANIFEST_FILE} does not list {', '.join(sorted(unlisted)) or 'the weights'}"
          )
        compare_description(root / REFERENCE_FILE, _document(root), digest)
      yield
  except DamagedFolder as error:
    raise SavedModelError(
      f"{error}. The folder is not what was written: copy or convert the model again"
    ) from error


@contextlib.contextmanager
def _checked_weights(weights: epath.Path) -> Iterator[None]:
  """Compares weights inside a checkpoint with its checksums; version 0.1 and buckets have none."""
  if "://" in str(weights) or not (weights.parent / MANIFEST_FILE).exists():
    yield
    return
  try:
    with verified_in_background(weights.parent, weights.name):
      yield
  except DamagedFolder as error:
    raise SavedModelError(
      f"{error}. Remove {weights.parent} to use the checkpoint before it, or resume the run"
    ) from error


def _document(root: pathlib.Path) -> dict[str, Any]:
  return json.loads((root / MODEL_FILE).read_text(encoding="utf-8"))


def load_model(folder: str | os.PathLike, *, verify: bool = False, **overrides: Any) -> SavedModel:
  """Loads a model from a model folder or a run's workdir (see `weights_path`).

  The files of a model folder are compared with their checksums and with the reference check.

  Args:
    folder: written by `save_model`, `run.py` or `convert`.
    verify: also compute the output of the reference check, which compiles the model.
    **overrides: constructor keywords that do not change the parameters (`dtype`, ...).

  Returns:
    the model.

  Raises:
    SavedModelError: no model, unknown model name, damaged, mismatched or non-finite weights, an
      edited folder, or an output that differs from the reference.
  """
  with checked_folder(folder):
    metadata = read_model_metadata(folder)
    graphdef, abstract = _abstract_model(folder, metadata, overrides)
    weights = read_weights(folder, abstract)
    for path, value in jax.tree_util.tree_leaves_with_path(weights):
      if jnp.issubdtype(value.dtype, jnp.floating) and not np.isfinite(np.asarray(value)).all():
        raise SavedModelError(
          f"{folder}: {jax.tree_util.keystr(path)} has values that are not finite"
        )
  model = merge_model(graphdef, weights["params"], weights["model_state"])
  saved = SavedModel(model, **_fields(metadata))
  if verify:
    arguments = {**saved.arguments, **overrides}
    check_reference(folder, dataclasses.replace(saved, arguments=arguments))
  return saved


def _abstract_model(
  folder: str | os.PathLike, metadata: ModelMetadata, overrides: Mapping[str, Any]
) -> tuple[nnx.GraphDef, ArrayTree]:
  """Graph definition and shapes {"params", "model_state"} of the model of a folder."""
  try:
    model = create_abstract_model(metadata["name"], **{**metadata["arguments"], **overrides})
  except (TypeError, ValueError, ArithmeticError) as error:
    raise SavedModelError(f"{folder}/{MODEL_FILE} describes no model of jax_me: {error}") from error
  graphdef, params, model_state = split_model(model)
  return graphdef, {"params": params, "model_state": model_state}


def _fields(metadata: ModelMetadata) -> ModelFields:
  return cast(ModelFields, {key: value for key, value in metadata.items() if key != "format"})


def check_reference(folder: str | os.PathLike, saved: SavedModel) -> ReferenceResult:
  """Computes the output of the reference check of a folder on this device.

  Args:
    folder: of the model.
    saved: its model.

  Returns:
    the differences.

  Raises:
    SavedModelError: the folder has no reference check, or it fails.
  """
  path = pathlib.Path(folder) / REFERENCE_FILE
  if not path.is_file():
    raise SavedModelError(
      f"{folder} has no reference check: it was written by an earlier version, or its run is not "
      "finished"
    )
  return verify_output(saved, read_reference(path))
