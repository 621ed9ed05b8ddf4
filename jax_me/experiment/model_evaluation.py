"""Evaluation of a given model, trained or converted, on the dataset and folds of a recipe."""

import dataclasses

from ml_collections import ConfigDict

from jax_me.experiment.experiment import Experiment
from jax_me.experiment.initial_weights import normalize_labels, put_like
from jax_me.models.classifier import check_head
from jax_me.models.ensemble import members_of
from jax_me.models.model_folder import SavedModel
from jax_me.models.model_metadata import AFFECT
from jax_me.training.state import State

SHOWN_LABELS = 10  # In an error message.


def name_classes(saved: SavedModel, labels: list[str]) -> SavedModel:
  """The model with other names of its classes, in the order of its logits.

  Raises:
    ValueError: it has another number of classes, or none, or a name is given twice.
  """
  if saved.labels is None or len(labels) != len(saved.labels):
    classes = len(saved.labels or [])
    raise ValueError(f"{len(labels)} labels are given; {saved.name} has {classes or 'no'} classes")
  if len(set(normalize_labels(labels))) != len(labels):
    raise ValueError(f"a label is given twice: {', '.join(labels)}")
  return dataclasses.replace(saved, labels=labels)


def use_model(config: ConfigDict, saved: SavedModel) -> None:
  """Puts a model's name, arguments, input size and normalisation into a recipe.

  Raises:
    ValueError: the recipe is for pre-training, or the model has no labels or an untrained head.
  """
  if config.task != "classify" or saved.labels is None:
    raise ValueError(
      f"only classifiers can be evaluated: {saved.name} in a recipe with task={config.task!r}"
    )
  check_head(saved)
  given = ("image_size", "num_classes")
  with config.unlocked():
    config.model.name = saved.name
    config.model.image_size = saved.image_size
    config.model.arguments = {k: v for k, v in saved.arguments.items() if k not in given}
    config.data.mean = tuple(saved.mean)
    config.data.std = tuple(saved.std)
    config.affect_weight = float(saved.affect)


def states_for(experiment: Experiment, saved: SavedModel) -> list[State]:
  """The states for the evaluation of a given model: of an ensemble one for each classifier.

  Args:
    experiment: of a recipe after `use_model`.
    saved: the model; the outputs of its head are put into the order of the dataset's labels.

  Returns:
    weights and run parameters, on the devices.

  Raises:
    ValueError: its labels are not those of the dataset.
  """
  assert saved.labels is not None
  order = label_order(experiment.labels, saved.labels)
  if saved.affect:  # They stay behind the classes.
    order += range(len(order), len(order) + len(AFFECT))
  abstract = experiment.program.abstract_state()
  run_parameters = experiment.run_parameters(experiment.folds[0])
  states = []
  for member in members_of(saved):
    _, weights, _ = member.split()
    params = dict(weights["params"])
    for head in ("head", "aux_head"):  # the latter of token labeling
      if head in params:
        params[head] = {path: value[..., order] for path, value in params[head].items()}
    reordered = {"params": params, "model_state": weights["model_state"]}
    own = dataclasses.replace(run_parameters, mean=tuple(member.mean), std=tuple(member.std))
    states.append(
      {
        **put_like(reordered, {name: abstract[name] for name in reordered}),
        "run_parameters": experiment.program.put_run_parameters(own),
      }
    )
  return states


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
  known, wanted = normalize_labels(model_labels), normalize_labels(labels)
  if sorted(known) != sorted(wanted):
    raise ValueError(
      "the labels of the model and of the dataset are not the same (only in the model: "
      f"{_difference(known, wanted)}; only in the dataset: {_difference(wanted, known)}). Give "
      "--labels in the order of the model's classes, or choose the classes with the options of the "
      "dataset"
    )
  return [known.index(label) for label in wanted]


def _difference(labels: list[str], others: list[str]) -> str:
  only = sorted(set(labels) - set(others))
  more = f", ... ({len(only)} in all)" if len(only) > SHOWN_LABELS else ""
  return ", ".join(only[:SHOWN_LABELS]) + more or "none"
