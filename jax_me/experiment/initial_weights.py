"""Where a run's weights come from when they are not random: a pre-training or converted weights."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jax_me.data.labels import normalize_label
from jax_me.models import model_folder
from jax_me.models.weight_mapping import initialise_from
from jax_me.training.state import State, initial_key

REPORT_FILE = "init_from.json"


def start_from(
  state: State,
  folder: str | pathlib.Path,
  *,
  target_name: str,
  labels: Sequence[str] | None,
  head_std: float = 0.0,
  seed: int = 0,
) -> tuple[State, dict[str, Any]]:
  """Puts the weights of a saved model into a fresh state.

  Args:
    state: freshly initialised.
    folder: a converted checkpoint or the workdir of a run.
    target_name: the model's name.
    labels: label names of the run, None in pre-training; a head with the same ones is taken over.
    head_std: deviation of the weights of a head that is not taken over; 0 leaves it as it is. The
      fine-tuning of MAE and of ConvNeXt V2 takes 2e-5: it starts from even probabilities.
    seed: of these weights.

  Returns:
    the state, and what was taken, resized, dropped and left fresh (`transfer.Transfer.report`).

  Raises:
    ValueError: the folder holds no model, or one that does not fit.
  """
  source = model_folder.load_model(folder)
  _, params, model_state = model_folder.split_model(source.model)
  transfer = initialise_from(
    state["params"],
    params,
    source_name=source.name,
    target_name=target_name,
    model_state=state["model_state"],
    source_model_state=model_state,
    labels=_normalized(labels),
    source_labels=_normalized(source.labels),
  )
  weights = transfer.params
  if head_std and any(row["path"] == "head.kernel" for row in transfer.report["fresh"]):
    old = weights["head"]["kernel"]
    key = jax.random.fold_in(initial_key(seed), 1)
    drawn = head_std * jax.random.truncated_normal(key, -2.0, 2.0, old.shape)
    weights = {**weights, "head": {**weights["head"], "kernel": np.asarray(drawn, old.dtype)}}
  started = {
    **state,
    "params": _placed(weights, state["params"]),
    "model_state": _placed(transfer.model_state, state["model_state"]),
  }
  if "ema" in state:
    # The average starts from the same weights, in buffers of its own: the step donates both.
    started["ema"] = _placed(weights, state["params"])
  return started, transfer.report


def _normalized(labels: Sequence[str] | None) -> list[str] | None:
  """Label names in one spelling: models of version 0.1 may have "half_smile" for "half smile"."""
  return None if labels is None else [normalize_label(label) for label in labels]


def _placed(values: Any, like: Any) -> Any:
  """Copies of arrays, sharded like others."""
  return jax.tree.map(
    lambda value, old: jax.device_put(np.asarray(value), old.sharding), values, like
  )
