"""A model on disk: `model.json` beside an Orbax `weights/` folder, all that its use needs."""

import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from flax import nnx

from jax_me.files import write_atomically
from jax_me.models.registry import create_model

MODEL_FILE = "model.json"
WEIGHTS_FOLDER = "weights"
CHECKPOINTS_FOLDER = "checkpoints"
PLACE_FILE = "checkpoints.json"  # Says where they lie, when not in the workdir.
# Of a run that selects among its evaluations: <step>/weights and, when those are whole, a record.
SELECTED_FOLDER = "selected"
RECORD_FILE = "record.json"


class SavedModelError(ValueError):
  """A folder that does not hold a usable model."""


@dataclasses.dataclass
class SavedModel:
  """A loaded model and what travels with it.

  Attributes:
    model: the module with its weights.
    name: key of `jax_me.models.MODELS`.
    arguments: constructor overrides (JSON values).
    labels: class names in the order of the logits, or None for a pre-training model.
    image_size: side of the square input in pixels.
    mean, std: per RGB channel of images scaled to [0, 1].
    source: where the weights came from.
  """

  model: nnx.Module
  name: str
  arguments: dict[str, Any]
  labels: list[str] | None
  image_size: int
  mean: list[float]
  std: list[float]
  source: dict[str, Any]


def _nested(state: nnx.State) -> dict[str, Any]:
  """nnx.State -> nested dict of arrays with string keys (list positions become digits)."""

  def walk(node):
    return {str(k): walk(v) for k, v in node.items()} if isinstance(node, Mapping) else node

  return walk(nnx.to_pure_dict(state))


def _with_positions(tree: Any) -> Any:
  """Turns digit keys back into list positions, as nnx.merge expects them."""
  if not isinstance(tree, Mapping):
    return tree
  return {int(k) if k.isdigit() else k: _with_positions(v) for k, v in tree.items()}


def split_model(model: nnx.Module) -> tuple[Any, dict[str, Any], dict[str, Any]]:
  """Splits a module into graph definition, trainable params and everything else (nested dicts)."""
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
  return graphdef, _nested(params), _nested(rest)


def merge_model(graphdef: Any, params: Mapping, model_state: Mapping) -> Any:
  """Inverse of `split_model`; works on tracers, so inside `jax.jit` too."""
  return nnx.merge(graphdef, _with_positions(params), _with_positions(model_state))


def write_json(path: str | os.PathLike, content: Any) -> None:
  """Writes JSON so that a reader finds the old file or the new one, never half of it."""
  write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def model_card(
  *,
  name: str,
  arguments: Mapping[str, Any],
  labels: list[str] | None,
  image_size: int,
  mean: list[float],
  std: list[float],
  source: Mapping[str, Any],
) -> dict[str, Any]:
  """The content of `model.json`."""
  return {
    "format": 1,
    "name": name,
    "arguments": dict(arguments),
    "labels": labels,
    "image_size": image_size,
    "mean": list(mean),
    "std": list(std),
    "source": dict(source),
  }


def save_model(
  folder: str | os.PathLike,
  model: nnx.Module,
  *,
  name: str,
  arguments: Mapping[str, Any],
  labels: list[str] | None,
  image_size: int,
  mean: list[float],
  std: list[float],
  source: Mapping[str, Any],
) -> None:
  """Writes a model folder. It appears whole or not at all.

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
    card = model_card(
      name=name,
      arguments=arguments,
      labels=labels,
      image_size=image_size,
      mean=mean,
      std=std,
      source=source,
    )
    write_json(staging / MODEL_FILE, card)
    os.chmod(staging, 0o755)
    if target.exists():
      target.rmdir()
    os.replace(staging, target)
  except BaseException:
    shutil.rmtree(staging, ignore_errors=True)
    raise


def read_card(folder: str | os.PathLike) -> dict[str, Any]:
  """Reads and checks `model.json` of a model folder or a run's workdir."""
  path = pathlib.Path(folder) / MODEL_FILE
  try:
    card = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise SavedModelError(
      f"{folder} holds no model: {MODEL_FILE} is missing. Give the folder that run.py (--workdir) "
      "or convert (--output) wrote"
    ) from None
  except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
    raise SavedModelError(f"{path} cannot be read: {error}") from error
  needed = ("name", "arguments", "labels", "image_size", "mean", "std", "source")
  missing = [key for key in needed if not isinstance(card, dict) or key not in card]
  if missing:
    raise SavedModelError(f"{path} lacks {', '.join(missing)}; it was not written by jax_me")
  return card


def selected_folder(workdir: str | os.PathLike) -> pathlib.Path | None:
  """The evaluation whose weights a run keeps as its best so far, None where it does not select.

  Raises:
    SavedModelError: its record is damaged.
  """
  scores: dict[pathlib.Path, float] = {}
  for path in (pathlib.Path(workdir) / SELECTED_FOLDER).glob(f"*/{RECORD_FILE}"):
    try:
      scores[path.parent] = float(json.loads(path.read_text(encoding="utf-8"))["score"])
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise SavedModelError(f"{path} cannot be read: {error}") from error
  # Two of them stand there for a moment only: the older one is about to be removed.
  return max(scores, key=scores.__getitem__) if scores else None


def place_checkpoints(workdir: pathlib.Path, place: str) -> None:
  """Says that the checkpoints of a workdir lie elsewhere.

  Args:
    workdir: of the run.
    place: a folder, or the URL of one in a bucket ("gs://...", which needs the package gcsfs).
  """
  whole = place if "://" in place else str(pathlib.Path(place).absolute())
  write_json(workdir / PLACE_FILE, {"checkpoints": whole})


def checkpoints_folder(workdir: str | os.PathLike) -> epath.Path:
  """Where the checkpoints of a run lie: in its workdir, or where `place_checkpoints` put them.

  Raises:
    SavedModelError: what says so is damaged.
  """
  root = pathlib.Path(workdir).absolute()
  path = root / PLACE_FILE
  if not path.exists():
    return epath.Path(root / CHECKPOINTS_FOLDER)
  try:
    return epath.Path(json.loads(path.read_text(encoding="utf-8"))["checkpoints"])
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise SavedModelError(f"{path} cannot be read: {error}") from error


def weights_folder(folder: str | os.PathLike) -> epath.Path:
  """The Orbax weights of a model folder, or of a workdir (selected, else newest checkpoint)."""
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


def read_weights(folder: str | os.PathLike, abstract: Any) -> dict[str, Any]:
  """Reads {"params", "model_state"} as shaped by `abstract` (nested ShapeDtypeStructs).

  Raises:
    SavedModelError: the stored arrays are damaged or do not fit, with the reason.
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


def load_model(folder: str | os.PathLike, **overrides: Any) -> SavedModel:
  """Loads the model of a converted folder or of a run's workdir (see `weights_folder`).

  Args:
    folder: written by `save_model`, `run.py` or `convert`.
    **overrides: constructor keywords that leave the parameters as they are (`dtype`, ...).

  Raises:
    SavedModelError: no model, unknown model name, damaged or ill-fitting weights.
  """
  card = read_card(folder)
  arguments = {**card["arguments"], **overrides}
  try:
    abstract_model = nnx.eval_shape(
      lambda: create_model(card["name"], rngs=nnx.Rngs(0), **arguments)
    )
  except (TypeError, ValueError) as error:
    raise SavedModelError(f"{folder}/{MODEL_FILE} describes no model of ours: {error}") from error
  graphdef, params, model_state = split_model(abstract_model)
  weights = read_weights(folder, {"params": params, "model_state": model_state})
  return SavedModel(
    model=merge_model(graphdef, weights["params"], weights["model_state"]),
    name=card["name"],
    arguments=card["arguments"],
    labels=card["labels"],
    image_size=card["image_size"],
    mean=card["mean"],
    std=card["std"],
    source=card["source"],
  )
