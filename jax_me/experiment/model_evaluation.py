"""Evaluation of a given model, trained or converted, on the dataset and folds of a recipe."""

import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict

from jax_me.bundled import import_bundled
from jax_me.data.folds import Fold
from jax_me.data.labels import normalize_label
from jax_me.experiment.experiment import Experiment
from jax_me.models import model_folder
from jax_me.models.model_folder import SavedModel
from jax_me.training.state import State

SHOWN_LABELS = 10  # In an error message.


def open_model(source: str | pathlib.Path, name: str | None = None) -> SavedModel:
  """Loads a model folder or a run, or converts a checkpoint.

  Args:
    source: a folder with `model.json`, a torch or safetensors file, or a folder of timm or
      transformers.
    name: the model to prefer where the arrays of a file match several.

  Raises:
    ValueError: there is no such model, or it is damaged (`SavedModelError`, `ConversionError`).
  """
  conversion = import_bundled("convert.model_source")
  if conversion.is_checkpoint(pathlib.Path(source)):
    return conversion.convert_to_model(source, name)
  return model_folder.load_model(source)


def use_model(config: ConfigDict, saved: SavedModel) -> None:
  """Puts a model's name, arguments, input size and normalisation into a recipe.

  Raises:
    ValueError: the recipe is for pre-training, or the model has no labels.
  """
  if config.task != "classify" or saved.labels is None:
    raise ValueError(
      f"only classifiers can be evaluated: {saved.name} in a recipe with task={config.task!r}"
    )
  given = ("image_size", "num_classes")
  with config.unlocked():
    config.model.name = saved.name
    config.model.image_size = saved.image_size
    config.model.arguments = {k: v for k, v in saved.arguments.items() if k not in given}
    config.data.mean = tuple(saved.mean)
    config.data.std = tuple(saved.std)


def evaluation_state(experiment: Experiment, fold: Fold, saved: SavedModel) -> State:
  """State of a fold with the weights of a given model.

  Args:
    experiment: of a recipe after `use_model`.
    fold: the fold to test.
    saved: the model; the outputs of its head are put into the order of the dataset's labels.

  Returns:
    weights and run parameters, on the devices of the experiment.

  Raises:
    ValueError: its labels are not those of the dataset.
  """
  assert saved.labels is not None
  order = label_order(experiment.labels, saved.labels)
  _, weights, _ = saved.split()
  params = dict(weights["params"])
  for head in ("head", "aux_head"):  # the latter of token labeling
    if head in params:
      params[head] = {path: value[..., order] for path, value in params[head].items()}
  program = experiment.program
  abstract = program.abstract_state()
  values = {"params": params, "model_state": weights["model_state"]}
  put = jax.tree.map(
    lambda value, like: jax.device_put(np.asarray(value), like.sharding),
    values,
    {name: abstract[name] for name in values},
  )
  return {**put, "run_parameters": program.put_run_parameters(experiment.run_parameters(fold))}


def label_order(labels: list[str], model_labels: list[str]) -> list[int]:
  """Position of each of the dataset's labels among those of the model.

  Args:
    labels: of the dataset.
    model_labels: of the model, in the order of its logits.

  Returns:
    one position per label.

  Raises:
    ValueError: the names are not the same.
  """
  known, wanted = (list(map(normalize_label, names)) for names in (model_labels, labels))
  if sorted(known) != sorted(wanted):
    raise ValueError(
      "the labels of the model and of the dataset are not the same (only in the model: "
      f"{_difference(known, wanted)}; only in the dataset: {_difference(wanted, known)}). Convert "
      "with --labels in the order of the model's classes, or choose the classes with the options "
      "of the dataset"
    )
  return [known.index(label) for label in wanted]


def _difference(labels: list[str], others: list[str]) -> str:
  only = sorted(set(labels) - set(others))
  more = f", ... ({len(only)} in all)" if len(only) > SHOWN_LABELS else ""
  return ", ".join(only[:SHOWN_LABELS]) + more or "none"
