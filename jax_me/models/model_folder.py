"""Model folders on disk: `model.json`, an Orbax `weights/` folder, and checksums of both."""

import dataclasses
import json
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack, cast

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax import nnx

from jax_me.files import write_atomically
from jax_me.manifest import MANIFEST_FILE, DamagedFolder, verify_manifest, write_manifest
from jax_me.models.registry import create_abstract_model

MODEL_FILE = "model.json"
# Of model.json. Model folders have a manifest since 2; version 0.1 wrote 1.
FORMAT = 2
WEIGHTS_FOLDER = "weights"
CHECKPOINTS_FOLDER = "checkpoints"
CHECKPOINTS_LOCATION_FILE = "checkpoints.json"  # Their location when outside the workdir.
# Best evaluation of a run: <step>/weights, and a record once the weights are complete.
SELECTED_FOLDER = "selected"
RECORD_FILE = "record.json"


ArrayTree = dict[str, Any]  # Nested dict of arrays with string keys.


class SavedModelError(ValueError):
  """A folder that does not hold a usable model."""


class ModelFields(TypedDict):
  """Metadata of a model, as JSON values; see `SavedModel`."""

  name: str
  arguments: dict[str, Any]
  labels: list[str] | None
  image_size: int
  mean: Sequence[float]
  std: Sequence[float]
  source: dict[str, Any]


class ModelMetadata(ModelFields):
  """Content of `model.json`."""

  format: int


@dataclasses.dataclass
class SavedModel:
  """A loaded model and its metadata.

  Attributes:
    model: the module with its weights.
    name: key of `jax_me.models.MODELS`.
    arguments: constructor overrides (JSON values).
    labels: class names in the order of the logits, or None for a pre-training model.
    image_size: side of the square input in pixels.
    mean, std: per RGB channel of images scaled to [0, 1].
    source: provenance of the weights (JSON values).
  """

  model: nnx.Module
  name: str
  arguments: dict[str, Any]
  labels: list[str] | None
  image_size: int
  mean: Sequence[float]
  std: Sequence[float]
  source: dict[str, Any]

  def split(self) -> tuple[nnx.GraphDef, ArrayTree, ArrayTree]:
    """Graph definition, weights {"params", "model_state"} and normalisation {"mean", "std"}."""
    graphdef, params, model_state = split_model(self.model)
    normalisation = {
      "mean": jnp.asarray(self.mean, jnp.float32),
      "std": jnp.asarray(self.std, jnp.float32),
    }
    return graphdef, {"params": params, "model_state": model_state}, normalisation


def _nested(state: nnx.State) -> ArrayTree:
  """nnx.State -> nested dict of arrays with string keys (list indices become digits)."""

  def walk(node):
    return {str(k): walk(v) for k, v in node.items()} if isinstance(node, Mapping) else node

  return walk(nnx.to_pure_dict(state))


def _with_list_indices(tree: Any) -> Any:
  """Converts digit keys back to integers, as nnx.merge expects for lists."""
  if not isinstance(tree, Mapping):
    return tree
  return {int(k) if k.isdigit() else k: _with_list_indices(v) for k, v in tree.items()}


def split_model(model: nnx.Module) -> tuple[nnx.GraphDef, ArrayTree, ArrayTree]:
  """Splits a module into graph definition, trainable params and all other variables."""
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
  return graphdef, _nested(params), _nested(rest)


def merge_model(
  graphdef: nnx.GraphDef, params: Mapping[str, object], model_state: Mapping[str, object]
) -> nnx.Module:
  """Inverse of `split_model`; also works inside `jax.jit`.

  Args:
    graphdef: graph definition of the module.
    params: nested dict of the trainable arrays.
    model_state: nested dict of the other arrays.

  Returns:
    The module.
  """
  return nnx.merge(graphdef, _with_list_indices(params), _with_list_indices(model_state))


def write_json(path: str | os.PathLike, content: object) -> None:
  """Writes a JSON file atomically: readers see the old file or the new one."""
  write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def model_metadata(**fields: Unpack[ModelFields]) -> ModelMetadata:
  """Content of `model.json`."""
  return {"format": FORMAT, **fields}


def save_model(
  folder: str | os.PathLike,
  model: nnx.Module,
  *,
  documents: Mapping[str, object] | None = None,
  **fields: Unpack[ModelFields],
) -> None:
  """Writes a model folder with the checksums of its files, atomically.

  Args:
    folder: to be created; may exist when empty.
    model: the module with its weights.
    documents: {file name: content} of other JSON files of the folder.
    **fields: name, arguments, labels, image_size, mean, std, source: see `SavedModel`.

  Raises:
    FileExistsError: the folder exists and is not empty.
  """
  target = pathlib.Path(folder).absolute()
  if target.exists() and any(target.iterdir()):
    raise FileExistsError(f"{target} is not empty; choose another folder or remove it first")
  target.parent.mkdir(parents=True, exist_ok=True)
  staging = pathlib.Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
  try:
    _, params, model_state = split_model(model)
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(staging / WEIGHTS_FOLDER, {"params": params, "model_state": model_state})
    write_json(staging / MODEL_FILE, model_metadata(**fields))
    for name, content in (documents or {}).items():
      write_json(staging / name, content)
    write_manifest(staging)
    os.chmod(staging, 0o755)
    if target.exists():
      target.rmdir()
    os.replace(staging, target)
  except BaseException:
    shutil.rmtree(staging, ignore_errors=True)
    raise


def read_model_metadata(folder: str | os.PathLike) -> ModelMetadata:
  """Reads and checks `model.json` of a model folder or a run's workdir."""
  path = pathlib.Path(folder) / MODEL_FILE
  try:
    metadata = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise SavedModelError(
      f"{folder} holds no model: {MODEL_FILE} is missing. Give a folder written by run.py "
      "(--workdir) or convert (--output)"
    ) from None
  except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
    raise SavedModelError(f"{path} cannot be read: {error}") from error
  needed = ModelMetadata.__required_keys__
  missing = [key for key in needed if not isinstance(metadata, dict) or key not in metadata]
  if missing:
    raise SavedModelError(f"{path} lacks {', '.join(missing)}; it was not written by jax_me")
  if metadata["format"] not in range(1, FORMAT + 1):
    raise SavedModelError(
      f"{path} has the format {metadata['format']!r}, which this version of jax_me does not know"
    )
  _check_normalisation(path, metadata["mean"], metadata["std"])
  return cast(ModelMetadata, {key: metadata[key] for key in sorted(needed)})


def _check_normalisation(path: pathlib.Path, mean: object, std: object) -> None:
  try:
    values = np.asarray([mean, std], np.float64)
    usable = values.shape == (2, 3) and np.isfinite(values).all() and (values[1] > 0).all()
  except (TypeError, ValueError):
    usable = False
  if not usable:
    raise SavedModelError(
      f"{path}: mean and std must be three finite numbers each, std positive; got {mean} and {std}"
    )


def selected_folder(workdir: str | os.PathLike) -> pathlib.Path | None:
  """Folder of a run's best weights so far, or None when the run does not select a model.

  Raises:
    SavedModelError: the record of the selection is damaged.
  """
  scores: dict[pathlib.Path, float] = {}
  for path in (pathlib.Path(workdir) / SELECTED_FOLDER).glob(f"*/{RECORD_FILE}"):
    try:
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


def weights_folder(folder: str | os.PathLike) -> epath.Path:
  """Orbax weights of a model folder, or of a workdir (selected, else newest checkpoint)."""
  root = pathlib.Path(folder).absolute()
  if (root / WEIGHTS_FOLDER).is_dir():
    return epath.Path(root / WEIGHTS_FOLDER)
  if (selected := selected_folder(root)) is not None:
    return epath.Path(selected / WEIGHTS_FOLDER)
  checkpoints = checkpoints_folder(root)
  names = [p.name for p in checkpoints.iterdir()] if checkpoints.is_dir() else []
  steps = sorted(int(n) for n in names if n.isdigit())
  for step in reversed(steps):
    if (checkpoints / str(step) / WEIGHTS_FOLDER).is_dir():
      return checkpoints / str(step) / WEIGHTS_FOLDER
  raise SavedModelError(
    f"{root} has a {MODEL_FILE} but no weights: neither {WEIGHTS_FOLDER}/ nor a finished "
    f"{CHECKPOINTS_FOLDER}/<step>/. Did the run stop before its first checkpoint?"
  )


def read_weights(folder: str | os.PathLike, abstract: ArrayTree) -> ArrayTree:
  """Reads {"params", "model_state"} in the shapes of `abstract` (nested ShapeDtypeStructs).

  Raises:
    SavedModelError: the stored arrays are damaged or do not match.
  """
  path = weights_folder(folder)
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  target = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(
      a.shape, a.dtype, sharding=getattr(a, "sharding", None) or device
    ),
    abstract,
  )
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      return checkpointer.restore(path, target)
  except Exception as error:  # Orbax and tensorstore raise many types for a damaged folder.
    raise SavedModelError(f"the weights in {path} cannot be read: {error}") from error


def check_model_folder(folder: str | os.PathLike) -> None:
  """Compares a model folder with its checksums.

  The checkpoints of a run have none, nor have folders of version 0.1.

  Raises:
    SavedModelError: a file is missing or damaged.
  """
  root = pathlib.Path(folder)
  if not (root / MANIFEST_FILE).exists():
    if not (root / WEIGHTS_FOLDER).is_dir():
      return
    if read_model_metadata(root)["format"] == 1:
      logging.getLogger("jax_me").warning(
        "%s was written by version 0.1 and has no checksums: damage would not be noticed", root
      )
      return
  try:
    verify_manifest(root)
  except DamagedFolder as error:
    raise SavedModelError(
      f"{error}. The folder is not what was written: copy or convert the model again"
    ) from error


def load_model(folder: str | os.PathLike, **overrides: Any) -> SavedModel:
  """Loads a model from a model folder or a run's workdir (see `weights_folder`).

  The files of a model folder are compared with their checksums.

  Args:
    folder: written by `save_model`, `run.py` or `convert`.
    **overrides: constructor keywords that do not change the parameters (`dtype`, ...).

  Raises:
    SavedModelError: no model, unknown model name, damaged, mismatched or non-finite weights.
  """
  check_model_folder(folder)
  metadata = read_model_metadata(folder)
  arguments = {**metadata["arguments"], **overrides}
  try:
    abstract_model = create_abstract_model(metadata["name"], **arguments)
  except (TypeError, ValueError) as error:
    raise SavedModelError(f"{folder}/{MODEL_FILE} describes no model of jax_me: {error}") from error
  graphdef, params, model_state = split_model(abstract_model)
  weights = read_weights(folder, {"params": params, "model_state": model_state})
  for path, value in jax.tree_util.tree_leaves_with_path(weights):
    if jnp.issubdtype(value.dtype, jnp.floating) and not np.isfinite(np.asarray(value)).all():
      raise SavedModelError(
        f"{folder}: {jax.tree_util.keystr(path)} has values that are not finite"
      )
  model = merge_model(graphdef, weights["params"], weights["model_state"])
  fields = {key: metadata[key] for key in ModelFields.__annotations__}  # type: ignore[literal-required]
  return SavedModel(model, **fields)
