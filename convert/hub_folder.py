"""Folders of timm and transformers, as their hub holds them: weights in one or more files, JSON.

A single file with a name that the hubs use is read with the config.json beside it.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from .errors import ConversionError
from .hub_model import HubModel
from .timm_config import timm_model
from .transformers_config import transformers_model

MODEL_FILE = "model.json"  # Of jax_me, whose module of model folders would import jax.
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
# In the order of preference; an index lists the files that hold the weights.
WEIGHT_FILES = (
  "model.safetensors",
  "model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
)
_SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")
_MAX_JSON = 64 * 2**20  # The largest index has an entry per array, a config one per class.


def weight_files(folder: pathlib.Path) -> tuple[list[pathlib.Path], dict[str, str] | None]:
  """The files of a folder that hold its weights.

  Returns:
    The paths, and {key: name of the file that holds it} when an index lists several.

  Raises:
    ConversionError: no weights, or an index that is damaged or names a file that is missing.
  """
  name = next((name for name in WEIGHT_FILES if (folder / name).is_file()), None)
  if name is None:
    others = sorted(path.name for path in folder.iterdir())
    if MODEL_FILE in others:
      raise ConversionError("the folder is already a model folder of jax_me")
    found = ", ".join(others[:8]) or "nothing"
    raise ConversionError(
      f"cannot be opened as a hub folder: it has none of {', '.join(WEIGHT_FILES)} (it has: "
      f"{found[:300]})",
      remedy="give the path of one checkpoint file, or a folder as timm or transformers saves it",
    )
  if not name.endswith(".json"):
    return [folder / name], None
  places = index_places(folder / name)
  missing = sorted({place for place in places.values() if not (folder / place).is_file()})
  if missing:
    raise ConversionError(
      f"{name} lists files that are missing: {', '.join(missing)[:300]}",
      remedy="the download is incomplete: fetch the folder again",
    )
  return [folder / place for place in sorted(set(places.values()))], places


def index_places(index: pathlib.Path) -> dict[str, str]:
  """{key: name of the file that holds it} of an index.

  Raises:
    ConversionError: it is damaged, or names files elsewhere.
  """
  places = read_json(index).get("weight_map")
  if not isinstance(places, dict) or not places or not all(map(_is_shard, places.values())):
    raise ConversionError(f"{index.name} has no weight_map of files beside it")
  return places


def _is_shard(name: object) -> bool:
  return isinstance(name, str) and _SHARD.fullmatch(name) is not None


def config_folder(file: pathlib.Path) -> pathlib.Path | None:
  """The hub folder to which a checkpoint file belongs, by its name; None for other files.

  Raises:
    ConversionError: the file is one of several that hold the weights together.
  """
  if _is_shard(file.name):
    raise ConversionError(
      "the file holds only a part of the weights", remedy="give the folder with all of its files"
    )
  return file.parent if file.name in WEIGHT_FILES else None


def read_hub_model(folder: pathlib.Path) -> HubModel | None:
  """The model that the folder's JSON files describe; None without a config.json of a hub.

  Raises:
    ConversionError: damaged JSON, or a model that jax_me does not have.
  """
  if not (folder / CONFIG_FILE).is_file():
    return None
  config = read_json(folder / CONFIG_FILE)
  processor = None
  image_processor, combined = (folder / name for name in PROCESSOR_FILES)
  if image_processor.is_file():
    processor = read_json(image_processor)
  elif combined.is_file():
    processor = read_json(combined).get("image_processor")
  try:
    if "model_type" in config:
      model = transformers_model(config, processor)
    elif "architecture" in config:
      model = timm_model(config)
    else:
      return None
    licence = _licence(folder, config.get("pretrained_cfg") or config)
    return dataclasses.replace(model, licence=licence, folder=folder)
  except ConversionError:
    raise
  except (TypeError, LookupError, ValueError, AttributeError, ArithmeticError) as error:
    raise ConversionError(
      f"{CONFIG_FILE} or preprocessor_config.json has a value of the wrong type ({error!r})",
      remedy="fetch the folder again; its JSON files are as the library wrote them",
    ) from error


def _licence(folder: pathlib.Path, config: Mapping[str, Any]) -> str:
  """The licence that the model card or timm's settings state; "" if neither does."""
  card = folder / CARD_FILE
  if card.is_file() and card.stat().st_size < _MAX_JSON:
    text = card.read_text(encoding="utf-8", errors="replace")
    header = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:\s*([\w.+-]+)\s*$", header[1], re.MULTILINE) if header else None
    if found:
      return found[1]
  licence = config.get("license")
  return licence[:100] if isinstance(licence, str) else ""


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The object in a JSON file.

  Raises:
    ConversionError: not readable, too large, or not an object.
  """
  try:
    if path.stat().st_size > _MAX_JSON:
      raise ConversionError(f"{path.name} is far larger than any of the hubs'")
    content = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
    raise ConversionError(f"{path.name} cannot be read ({error})") from error
  if not isinstance(content, dict):
    raise ConversionError(f"{path.name} is not a JSON object")
  return content


def combined_sha256(sums: Mapping[str, str]) -> str:
  """One checksum of several files: of the lines "SHA256  NAME", as sha256sum prints them."""
  lines = "".join(f"{value}  {name}\n" for name, value in sorted(sums.items()))
  return hashlib.sha256(lines.encode()).hexdigest()
