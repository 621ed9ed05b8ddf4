"""Ensemble of the folds of a run: the mean of their class probabilities as one classifier."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_me.manifest import MANIFEST_FILE
from jax_me.models.classifier import activate, deactivate
from jax_me.models.layers import normalise
from jax_me.models.model_folder import load_model, write_json
from jax_me.models.model_metadata import MODEL_FILE, SavedModelError
from jax_me.models.saved_model import FINAL, SavedModel, merge_model

ENSEMBLE_FOLDER = "ensemble"  # In the folder of a run.
FOLDS_FILE = "folds.json"  # In ENSEMBLE_FOLDER.
RUN_FILE = "run.json"  # Command, versions and devices of a run, in its folder.
FORMAT = 1


class Ensemble(nnx.Module):
  """Classifiers of one architecture, each with its own normalisation.

  Attributes:
    member: their module; every array has a leading axis over the classifiers.
    mean, std: float32 [M, 3], per RGB channel of images in [0, 1].
    affect: whether valence and arousal follow the logits.
  """

  def __init__(self, members: Sequence[SavedModel]):
    split = [member.split() for member in members]
    graphdef = split[0][0]
    weights, normalisation = jax.tree.map(
      lambda *arrays: jnp.stack(arrays), *[(weights, norm) for _, weights, norm in split]
    )
    self.member = merge_model(graphdef, weights["params"], weights["model_state"])
    self.mean = nnx.Variable(normalisation["mean"])
    self.std = nnx.Variable(normalisation["std"])
    self.affect = members[0].affect

  def __len__(self) -> int:
    """Number of classifiers."""
    return len(self.mean.get_value())

  def map_members(self, function: Callable[[Any, dict[str, jax.Array]], Any]) -> Any:
    """Calls `function(model, {"mean", "std"})` for each classifier, compiled once.

    Returns:
      its results with a leading axis over the classifiers.
    """
    graphdef, state = nnx.split(self.member)
    normalisation = {"mean": self.mean.get_value(), "std": self.std.get_value()}
    return jax.lax.map(
      lambda row: function(nnx.merge(graphdef, row[0]), row[1]), (state, normalisation)
    )

  def __call__(self, images: jax.Array) -> jax.Array:
    """Outputs of which `affect_head.activate` makes the mean class probabilities and values.

    Args:
      images: float [B, S, S, 3] in [0, 1], not normalised.

    Returns:
      float32 [B, C], the logarithms of the probabilities; [B, C + 2] with valence and arousal.
    """

    def probabilities(model: Any, normalisation: dict[str, jax.Array]) -> jax.Array:
      return activate(model(normalise(images, normalisation)), self.affect)

    return deactivate(self.map_members(probabilities).mean(axis=0), self.affect)


def architecture(model: nnx.Module) -> nnx.Module:
  """The module whose class is the architecture: of an ensemble that of its classifiers."""
  return model.member if isinstance(model, Ensemble) else model


def members_of(saved: SavedModel) -> list[SavedModel]:
  """The classifiers of an ensemble; another model is the only one."""
  model = saved.model
  if not isinstance(model, Ensemble):
    return [saved]
  graphdef, state = nnx.split(model.member)
  return [
    dataclasses.replace(
      saved,
      model=nnx.merge(graphdef, jax.tree.map(lambda array, row=row: array[row], state)),
      mean=model.mean.get_value()[row].tolist(),
      std=model.std.get_value()[row].tolist(),
      source={**saved.source, "fold": fold},
    )
    for row, fold in enumerate(saved.source["folds"])
  ]


def only_model(saved: SavedModel, source: str | os.PathLike) -> SavedModel:
  """The model, where the mean of several is of no use.

  Raises:
    SavedModelError: it is an ensemble.
  """
  if isinstance(saved.model, Ensemble):
    raise SavedModelError(
      f"{source} is the mean of {len(saved.model)} folds, and one model is needed: give the folder "
      f"of a fold ({saved.source['folds'][0]}), or train the final model (--config.final=all)"
    )
  return saved


def make_ensemble(members: Sequence[SavedModel]) -> SavedModel:
  """Makes one classifier of those of the folds.

  Raises:
    SavedModelError: they differ in more than their weights and normalisation.
  """
  first = members[0]
  for member in members[1:]:
    for name in (
      "name",
      "arguments",
      "labels",
      "image_size",
      "input",
      "alignment",
      "preparation",
      "affect",
    ):
      if getattr(member, name) != getattr(first, name):
        folds = f"{first.source['fold']} and {member.source['fold']}"
        raise SavedModelError(f"the models of {folds} differ in {name}: they are of two runs")
  source = {key: value for key, value in first.source.items() if key != "fold"}
  return dataclasses.replace(
    first,
    model=Ensemble(members),
    # The classifiers normalise the images themselves.
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    source={**source, "folds": [member.source["fold"] for member in members]},
  )


def write_ensemble(run: str | os.PathLike, folds: Sequence[str]) -> None:
  """Records that the models of these folds of a run are finished.

  Args:
    run: folder of the run.
    folds: names of its subfolders.
  """
  folder = pathlib.Path(run) / ENSEMBLE_FOLDER
  folder.mkdir(exist_ok=True)
  write_json(folder / FOLDS_FILE, {"format": FORMAT, "folds": list(folds)})


def find_model(source: str | os.PathLike) -> pathlib.Path:
  """The folder of a model: of a run with folds, that of its final model or of its ensemble.

  Args:
    source: a model folder, or the folder of a run.

  Raises:
    SavedModelError: the run is not finished.
  """
  root = pathlib.Path(source)
  if (root / MODEL_FILE).exists() or (root / FOLDS_FILE).exists():
    return root
  if (root / FINAL / MANIFEST_FILE).exists():
    return root / FINAL
  if (root / ENSEMBLE_FOLDER / FOLDS_FILE).exists():
    return root / ENSEMBLE_FOLDER
  if (root / RUN_FILE).exists():
    raise SavedModelError(
      f"{root} is a run without a model: it is not finished, or keeps no weights "
      "(folds.weights=False). The same command resumes it; the folders of finished folds are models"
    )
  return root


def model_folders(folder: str | os.PathLike) -> list[pathlib.Path]:
  """The folders with the weights of a model: of an ensemble those of its folds.

  Args:
    folder: as of `find_model`.

  Raises:
    SavedModelError: the list of folds is damaged.
  """
  root = pathlib.Path(folder)
  path = root / FOLDS_FILE
  if not path.exists():
    return [root]
  try:
    document = json.loads(path.read_text(encoding="utf-8"))
    names = [pathlib.PurePath(fold) for fold in document["folds"]]
    if document["format"] != FORMAT or not names:
      raise ValueError("it lists no folds")
    if len(set(names)) < len(names):
      raise ValueError("it lists a fold twice")
    # The file may come from elsewhere, and is not to point to other folders than those of the run.
    if any(name.is_absolute() or ".." in name.parts for name in names):
      raise ValueError("it lists folders outside the run")
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise SavedModelError(f"{path} cannot be read: {error}") from error
  return [root.absolute().parent / name for name in names]


def load_folder(folder: str | os.PathLike, *, verify: bool = False, **overrides: Any) -> SavedModel:
  """Loads a model folder, or a run: see `find_model`.

  Args:
    folder: the folder.
    verify, **overrides: as in `load_model`.

  Returns:
    the model; the `source` of an ensemble lists its folds.

  Raises:
    SavedModelError: there is no model, or one is damaged.
  """
  found = find_model(folder)
  models = [load_model(each, verify=verify, **overrides) for each in model_folders(found)]
  return make_ensemble(models) if (found / FOLDS_FILE).exists() else models[0]
