"""A model folder with a model card, as it is uploaded to the Hugging Face hub."""

import dataclasses
import os
import pathlib
import tempfile
from typing import Any

from jax_me.bundled import PACKAGED, expression_model, import_bundled
from jax_me.files import write_atomically
from jax_me.inference.sharing.model_card import CARD_FILE, model_card
from jax_me.models.ensemble import find_model, only_model
from jax_me.models.model_folder import load_model, save_model
from jax_me.models.saved_model import SavedModel
from jax_me.models.weight_files import SAFETENSORS


def write_shared_folder(
  saved: SavedModel,
  folder: str | os.PathLike,
  repository: str,
  *,
  origin: str | os.PathLike = "",
  licence: str = "",
) -> None:
  """Writes what `share_model` uploads: model.json, safetensors, reference check, manifest, card.

  Other files of a run, such as predictions with names of people, are not part of it, and paths of
  this computer in the provenance become names.

  Args:
    saved: the model.
    folder: to be created; may exist when empty.
    repository: "OWNER/NAME".
    origin: what the model was loaded from: a folder, whose run may have scores; else "".
    licence: of the weights: a name of the hub, or a sentence; "" takes that of the model.

  Raises:
    ValueError: the mean of several folds, a name of another form, or damaged scores.
    FileExistsError: the folder is not empty.
  """
  _check_repository(repository)
  only_model(saved, origin or saved.title)
  saved = dataclasses.replace(saved, source=without_paths(saved.source))
  card = model_card(saved, repository, origin=_folder_of(origin), licence=licence)
  save_model(
    folder,
    saved.model,
    weights_format=SAFETENSORS,
    name=saved.name,
    arguments=saved.arguments,
    labels=saved.labels,
    image_size=saved.image_size,
    mean=[float(value) for value in saved.mean],
    std=[float(value) for value in saved.std],
    source=saved.source,
    input=saved.input,
    alignment=saved.alignment,
    preparation=saved.preparation,
    licence=licence or saved.licence,
    affect=saved.affect,
  )
  load_model(folder)  # As others will: checksums, reference, finite weights.
  # Not in the manifest: cards are edited on the hub.
  write_atomically(pathlib.Path(folder) / CARD_FILE, card.encode("utf-8"))


def share_model(
  saved: SavedModel,
  repository: str,
  *,
  origin: str | os.PathLike = "",
  private: bool = True,
  token: str | None = None,
  licence: str = "",
) -> str:
  """Uploads a model to the Hugging Face hub.

  Args:
    saved: the model.
    repository: "OWNER/NAME"; created if it does not exist.
    origin, licence: as in `write_shared_folder`.
    private: whether a new repository is private; an existing one stays as it is.
    token: of the hub; None takes that of `hf auth login` or `HF_TOKEN`.

  Returns:
    the address of the repository.

  Raises:
    ValueError: as in `write_shared_folder`, or the upload failed.
  """
  upload = import_bundled("convert.hub_upload").upload_folder
  with tempfile.TemporaryDirectory(prefix="jax_me_share_") as scratch:
    folder = pathlib.Path(scratch) / "model"
    write_shared_folder(saved, folder, repository, origin=origin, licence=licence)
    return upload(folder, repository, private=private, token=token)


def without_paths(value: Any) -> Any:
  """A JSON value in which absolute paths are only the names of their last parts."""
  if isinstance(value, dict):
    return {key: without_paths(part) for key, part in value.items()}
  if isinstance(value, list | tuple):
    return [without_paths(part) for part in value]
  if not isinstance(value, str):
    return value
  for kind in (pathlib.PurePosixPath, pathlib.PureWindowsPath):
    if kind(value).is_absolute() or value.startswith("~"):
      return kind(value).name
  return value


def _check_repository(repository: str) -> None:
  name = import_bundled("convert.weight_names").parse_weight_name(f"hf://{repository}")
  if name.repository != repository:
    raise ValueError(f"a repository to write to is OWNER/NAME, got {repository!r}")


def _folder_of(origin: str | os.PathLike) -> pathlib.Path | None:
  if origin == PACKAGED:
    return expression_model()
  return find_model(origin) if origin and pathlib.Path(origin).is_dir() else None
