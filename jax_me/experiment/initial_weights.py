"""Initial weights of a run from a pre-training or a converted checkpoint."""

import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from jax_me.bundled import import_bundled
from jax_me.data.labels import normalize_label
from jax_me.models import model_folder
from jax_me.models.ensemble import only_model
from jax_me.models.model_folder import ArrayTree, SavedModel
from jax_me.models.weight_mapping import initialise_from
from jax_me.training.checkpoint import JsonValue
from jax_me.training.state import State, initial_key

REPORT_FILE = "init_from.json"


def open_model(source: str | pathlib.Path, name: str | None = None) -> SavedModel:
  """Loads a model folder or a run, or converts a checkpoint; see `convert.model_source`."""
  return import_bundled("convert.model_source").open_model(source, name)


def initialise_state(
  state: State,
  folder: str | pathlib.Path,
  *,
  target_name: str,
  labels: Sequence[str] | None,
  head_std: float = 0.0,
  head_init: str = "",
  seed: int = 0,
) -> tuple[State, dict[str, JsonValue]]:
  """Puts the weights of a saved model into a fresh state.

  Args:
    state: freshly initialised.
    folder: a model folder, the workdir of a run, a torch or safetensors file, or a name of weights.
    target_name: the model's name.
    labels: label names of the run, None in pre-training. The head is loaded only if its labels are
      the same.
    head_std: standard deviation of the weights of a head that is not loaded; 0 keeps the model's
      initialisation. MAE and ConvNeXt V2 fine-tune with 2e-5, nearly uniform probabilities.
    head_init: "xavier_uniform" for such weights instead, if head_std is 0.
    seed: of the head's weights.

  Returns:
    the state, and the report of loaded, resized, dropped and fresh weights.

  Raises:
    ValueError: the folder holds no model, or one that does not fit.
  """
  source = only_model(open_model(folder, target_name), folder)
  _, params, model_state = model_folder.split_model(source.model)
  transfer = initialise_from(
    state["params"],
    params,
    source_name=source.name,
    target_name=target_name,
    model_state=state["model_state"],
    source_model_state=model_state,
    labels=None if labels is None else normalize_labels(labels),
    source_labels=None if source.labels is None else normalize_labels(source.labels),
  )
  weights = transfer.params
  fresh = any(row["path"] == "head.kernel" for row in transfer.report["fresh"])
  if fresh and (head_std or head_init):
    old = weights["head"]["kernel"]
    key = jax.random.fold_in(initial_key(seed), 1)
    if head_std:
      kernel = head_std * jax.random.truncated_normal(key, -2.0, 2.0, old.shape)
    else:
      kernel = jax.nn.initializers.xavier_uniform()(key, old.shape)
    weights = {**weights, "head": {**weights["head"], "kernel": np.asarray(kernel, old.dtype)}}
  initialised = {
    **state,
    "params": put_like(weights, state["params"]),
    "model_state": put_like(transfer.model_state, state["model_state"]),
  }
  if "ema" in state:
    # Separate buffers with the same weights, because the step donates both.
    initialised["ema"] = put_like(weights, state["params"])
  return initialised, transfer.report


def normalize_labels(labels: Sequence[str]) -> list[str]:
  """Label names in one spelling: models of version 0.1 may have "half_smile" for "half smile"."""
  return [normalize_label(label) for label in labels]


def put_like(values: ArrayTree, like: ArrayTree) -> ArrayTree:
  """Copies of arrays, with the shardings of others."""
  return jax.tree.map(
    lambda value, old: jax.device_put(np.asarray(value), old.sharding), values, like
  )
