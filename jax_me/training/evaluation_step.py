"""Evaluation pass: outputs of the classifier for every example once, without the padding."""

from collections.abc import Iterable

import numpy as np
from jax.sharding import Mesh

from jax_me.models.classifier import Classifier, Normalisation
from jax_me.models.model_folder import ArrayTree
from jax_me.training.processes import fetch
from jax_me.training.sharding import shard_batch
from jax_me.training.state import State


def evaluation_weights(state: State) -> ArrayTree:
  """The weights to evaluate: the moving average if the run keeps one."""
  return {"params": state.get("ema", state["params"]), "model_state": state["model_state"]}


def class_probabilities(
  classifier: Classifier,
  weights: ArrayTree,
  normalisation: Normalisation,
  batches: Iterable[dict[str, np.ndarray]],
  mesh: Mesh,
) -> tuple[np.ndarray, np.ndarray]:
  """Runs the classifier over batches; the last one may be padded.

  Args:
    classifier: from `jax_me.models.classifier.make_classifier`.
    weights: {"params", "model_state"}.
    normalisation: arrays `mean` and `std` [3]; the run parameters have them.
    batches: {"image" uint8 [B, S, S, 3], "index" [B], "mask" [B]}; mask is False on padding. Each
      process passes its own rows of the global batches.
    mesh: devices; the global B must be a multiple of their number.

  Returns:
    indices [N] of the examples and outputs [N, C] of the classifier, in the order of the batches.
    Every process gets the results of all processes.

  Raises:
    ValueError: an example occurs twice, or there are none.
  """
  indices, scores = [], []
  for batch in batches:
    sharded = shard_batch({name: batch[name] for name in ("image", "index", "mask")}, mesh)
    probabilities = classifier(weights, normalisation, sharded.pop("image"))
    results = fetch({**sharded, "scores": probabilities}, mesh)
    indices.append(results["index"][results["mask"]])
    scores.append(results["scores"][results["mask"]])
  if not indices:
    raise ValueError("there is nothing to evaluate: the split has no examples")
  positions = np.concatenate(indices)
  if len(np.unique(positions)) != len(positions):
    raise ValueError("an example was evaluated twice; the evaluation batches overlap")
  return positions, np.concatenate(scores)
