"""Schema of `model.json`: architecture, labels, preprocessing and provenance of a model folder."""

import collections
import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict, Unpack

import numpy as np

from jax_me.image_preparation import MAX_SIDE, ImagePreparation
from jax_me.models.registry import MODELS, create_abstract_model, default_arguments

MODEL_FILE = "model.json"
# 3 has the block "preprocessing" and a reference check, 2 a manifest; version 0.1 wrote 1.
FORMAT = 3
CHANNELS = "RGB"
AFFECT = ("valence", "arousal")  # The outputs after the logits of a model with `affect`.
# Settings of the alignment of the training images, with the values of folders that lack them.
# The others adapt dlib's face chip to images that were cropped in another way: see `InputSpec`.
ALIGNMENT_DEFAULTS: dict[str, Any] = {
  "align": True,
  "size": 0,
  "detector": "hog",
  "scale": 1.0,
  "down": 0.0,
  "upright": False,
  "grey": False,
}

_MAX_BYTES = 64 * 2**20
_MAX_SIZES = {
  **dict.fromkeys(("depth", "depths", "decoder_depth", "block_config"), 256),
  **dict.fromkeys(("num_heads", "decoder_num_heads", "patch_size"), 1024),
  "image_size": MAX_SIDE,
  "num_classes": 2**20,
}
_MAX_SIZE = 2**16  # Of all others: widths.
_MAX_GRID = 512  # Patches along a side.
_DTYPES = ("float64", "float32", "bfloat16", "float16")


class SavedModelError(ValueError):
  """A folder that does not hold a usable model."""


class ModelFields(TypedDict):
  """Metadata of a model; see `SavedModel`."""

  name: str
  arguments: dict[str, Any]
  labels: list[str] | None
  image_size: int
  mean: Sequence[float]
  std: Sequence[float]
  source: dict[str, Any]
  input: NotRequired[str]
  alignment: NotRequired[dict[str, Any]]
  preparation: NotRequired[ImagePreparation]
  licence: NotRequired[str]
  affect: NotRequired[bool]


class ModelMetadata(ModelFields):
  """Content of `model.json`, whatever its format."""

  format: int


def complete_fields(fields: ModelFields) -> ModelFields:
  """The fields with those that are absent: by the options of the dataset in `source`."""
  # Nothing is known about the images of a converted model, which has no options.
  options = fields["source"].get("options", {"align": False})
  size = fields["image_size"]
  alignment = fields.get("alignment")
  if alignment is None:
    alignment = {
      "align": bool(options.get("align", True)),
      "size": int(options.get("size", 0)) or size,
      "detector": str(options.get("detector", ALIGNMENT_DEFAULTS["detector"])),
    }
  return {
    **fields,
    "input": fields.get("input", options.get("input", "")),
    "alignment": ALIGNMENT_DEFAULTS | alignment,
    "preparation": fields.get("preparation") or ImagePreparation(size),
    "licence": fields.get("licence", ""),
    "affect": fields.get("affect", False),
  }


def preprocessing_block(fields: ModelFields) -> dict[str, Any]:
  """The block "preprocessing" of `model.json`: everything between an image and the model."""
  fields = complete_fields(fields)
  return {
    "input": fields["input"],
    "alignment": dict(fields["alignment"]),
    "channels": CHANNELS,
    **dataclasses.asdict(fields["preparation"]),
    "mean": [float(value) for value in fields["mean"]],
    "std": [float(value) for value in fields["std"]],
  }


def metadata_document(**fields: Unpack[ModelFields]) -> dict[str, Any]:
  """Content of `model.json` in the newest format."""
  return {
    "format": FORMAT,
    "name": fields["name"],
    "arguments": fields["arguments"],
    "labels": fields["labels"],
    "preprocessing": preprocessing_block(fields),
    "source": fields["source"],
    "licence": fields.get("licence", ""),
    # Absent from all other models, whose folders do not change.
    **({"affect": True} if fields.get("affect") else {}),
  }


def read_model_metadata(folder: str | os.PathLike) -> ModelMetadata:
  """Reads and checks `model.json` of a model folder or a run's workdir, of all formats.

  Nothing is built: a size that no model has is refused at once.

  Raises:
    SavedModelError: it is missing, damaged, of an unknown format, or a value is impossible.
  """
  path = pathlib.Path(folder) / MODEL_FILE
  try:
    if path.stat().st_size > _MAX_BYTES:
      raise SavedModelError(f"{path} is far too large for a description of a model")
    document = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise SavedModelError(
      f"{folder} holds no model: {MODEL_FILE} is missing. Give a folder written by run.py "
      "(--workdir) or convert (--output)"
    ) from None
  except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
    raise SavedModelError(f"{path} cannot be read: {error}") from error
  if not isinstance(document, dict) or "format" not in document:
    raise SavedModelError(f"{path} lacks format; it was not written by jax_me")
  version = document["format"]
  if version not in range(1, FORMAT + 1):
    raise SavedModelError(
      f"{path} has the format {version!r}, which this version of jax_me does not know"
    )
  try:
    return _parse_older(document) if version < 3 else _parse(document)
  except ValueError as error:
    raise SavedModelError(f"{path}: {error}") from error


def _parse(document: Mapping[str, Any]) -> ModelMetadata:
  _require(document, "name", "arguments", "labels", "preprocessing", "source", "licence")
  block = document["preprocessing"]
  if not isinstance(block, dict):
    raise ValueError("preprocessing must be an object")
  settings = [field.name for field in dataclasses.fields(ImagePreparation)]
  known = ("input", "alignment", "channels", "mean", "std", *settings)
  _require(block, *known)
  if unknown := sorted(set(block) - set(known)):
    raise ValueError(f"preprocessing has unknown settings: {', '.join(unknown)}")
  if block["channels"] != CHANNELS:
    raise ValueError(f"channels must be {CHANNELS!r}, got {block['channels']!r}")
  fields: ModelFields = {
    "name": document["name"],
    "arguments": document["arguments"],
    "labels": document["labels"],
    "image_size": block["image_size"],
    "mean": block["mean"],
    "std": block["std"],
    "source": document["source"],
    "input": block["input"],
    "alignment": block["alignment"],
    "preparation": ImagePreparation(**{name: block[name] for name in settings}),
    "licence": document["licence"],
    "affect": document.get("affect", False),
  }
  if not isinstance(fields["affect"], bool):
    raise ValueError("affect must be true or false")
  for name in ("input", "licence"):
    if not isinstance(fields[name], str):  # type: ignore[literal-required]
      raise ValueError(f"{name} must be text")
  _check_alignment(fields["alignment"])
  _check(fields)
  classes = (default_arguments(fields["name"]) | fields["arguments"]).get("num_classes")
  outputs = len(fields["labels"] or ()) + (len(AFFECT) if fields["affect"] else 0)
  if fields["labels"] is not None and outputs != classes:
    raise ValueError(f"{outputs} labels for {classes or 'no'} classes")
  return {"format": document["format"], **complete_fields(fields)}


def _parse_older(document: Mapping[str, Any]) -> ModelMetadata:
  """Formats 1 and 2: the preprocessing of a hub's model is in `source`, and is not used."""
  names = ModelFields.__required_keys__
  _require(document, *sorted(names))
  fields: ModelFields = {name: document[name] for name in names}  # type: ignore[assignment,misc]
  _check(fields)
  if not isinstance(options := fields["source"].get("options", {}), dict):
    raise ValueError("options in source must be an object")
  _check_alignment({key: options[key] for key in ALIGNMENT_DEFAULTS if key in options})
  return {"format": document["format"], **complete_fields(fields)}


def _require(document: Mapping[str, Any], *names: str) -> None:
  missing = [name for name in names if name not in document]
  if missing:
    raise ValueError(f"lacks {', '.join(missing)}; it was not written by jax_me")


def _check(fields: ModelFields) -> None:
  """Raises ValueError for a value of the wrong type or an impossible one."""
  if not isinstance(fields["name"], str) or not isinstance(fields["arguments"], dict):
    raise ValueError("name must be text and arguments an object")
  if not isinstance(fields["source"], dict):
    raise ValueError("source must be an object")
  _check_labels(fields["labels"])
  _check_number("image_size", fields["image_size"], MAX_SIDE)
  _check_normalisation(fields["mean"], fields["std"])
  if fields["name"] in MODELS:
    check_arguments(fields["name"], fields["arguments"])
  else:
    create_abstract_model(fields["name"])  # Raises the error of an unknown name.


def check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
  """Checks types and sizes of constructor keywords without building the model.

  Raises:
    ValueError: a keyword that is unknown, of the wrong type or too large.
  """
  known = default_arguments(name)
  for keyword, value in arguments.items():
    if keyword not in known:
      raise ValueError(f"{name} takes no argument {keyword!r}")
    _check_argument(keyword, value, known[keyword])
  given = {**known, **arguments}
  if "patch_size" in given and given["image_size"] > _MAX_GRID * given["patch_size"]:
    raise ValueError(f"image_size {given['image_size']} has more than {_MAX_GRID} patches a side")


def _check_argument(keyword: str, value: Any, default: Any) -> None:
  most = _MAX_SIZES.get(keyword, _MAX_SIZE)
  if isinstance(default, bool):
    if not isinstance(value, bool):
      raise ValueError(f"{keyword} must be true or false, got {_shown(value)}")
  elif isinstance(default, int):
    _check_number(keyword, value, most)
  elif isinstance(default, tuple):
    if not isinstance(value, list | tuple) or not 0 < len(value) <= 8:
      raise ValueError(f"{keyword} must be a list of one to eight sizes, got {_shown(value)}")
    for part in value:
      _check_number(keyword, part, most)
  elif isinstance(default, str):
    if not isinstance(value, str) or len(value) > 100:
      raise ValueError(f"{keyword} must be text, got {_shown(value)}")
  elif isinstance(default, float) or default is None:
    number = type(value) in (int, float) and math.isfinite(value) and abs(value) <= _MAX_SIZE
    if not number and not (default is None and value is None):
      raise ValueError(f"{keyword} must be a number, got {_shown(value)}")
  elif value not in _DTYPES:
    raise ValueError(f"{keyword} must be one of {', '.join(_DTYPES)}, got {_shown(value)}")


def _check_number(name: str, value: Any, most: int) -> None:
  if type(value) is not int or not 0 <= value <= most:
    raise ValueError(f"{name} must be a whole number of at most {most}, got {_shown(value)}")


def _check_labels(labels: Any) -> None:
  if labels is None:
    return
  if not isinstance(labels, list) or not 0 < len(labels) <= _MAX_SIZES["num_classes"]:
    raise ValueError(f"labels must be a list of names, got {_shown(labels)}")
  wrong = [label for label in labels if not isinstance(label, str) or len(label) > 1000]
  if wrong:
    raise ValueError(f"labels must be names, got {_shown(wrong[0])}")
  if twice := [label for label, count in collections.Counter(labels).items() if count > 1]:
    raise ValueError(f"labels must differ, but {_shown(twice[0])} occurs twice")


def _check_normalisation(mean: Any, std: Any) -> None:
  try:
    values = np.asarray([mean, std], np.float64)
    usable = values.shape == (2, 3) and np.isfinite(values).all() and (values[1] > 0).all()
  except (TypeError, ValueError):
    usable = False
  if not usable:
    raise ValueError(
      "mean and std must be three finite numbers each, std positive; got "
      f"{_shown(mean)} and {_shown(std)}"
    )


def _check_alignment(alignment: Any) -> None:
  if not isinstance(alignment, dict):
    raise ValueError(f"alignment must be an object, got {_shown(alignment)}")
  if unknown := sorted(set(alignment) - set(ALIGNMENT_DEFAULTS)):
    raise ValueError(f"alignment has unknown settings: {', '.join(unknown)}")
  for name, value in alignment.items():
    default = ALIGNMENT_DEFAULTS[name]
    if type(value) is not type(default):
      raise ValueError(f"{name} of alignment must be like {default!r}, got {_shown(value)}")
  _check_number("size of alignment", alignment.get("size", 0), MAX_SIDE)
  scale, down = alignment.get("scale", 1.0), alignment.get("down", 0.0)
  if not 0.1 <= scale <= 10 or not -10 <= down <= 10:
    raise ValueError(
      f"scale of alignment must be in [0.1, 10] and down in [-10, 10], got {scale} and {down}"
    )


def _shown(value: Any) -> str:
  return repr(value)[:100]
