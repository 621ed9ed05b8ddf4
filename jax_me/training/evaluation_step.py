"""Evaluation pass: class probabilities of every example once, without the padding."""

from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from jax_me.models.model_folder import ArrayTree, merge_model
from jax_me.training.processes import fetch
from jax_me.training.sharding import shard_batch
from jax_me.training.state import State
from jax_me.training.steps import normalise

# (weights, run_parameters, images uint8 [B, S, S, 3]) -> float32 [B, C]
Classifier = Callable[[ArrayTree, Mapping[str, jax.Array], jax.Array], jax.Array]


def evaluation_weights(state: State) -> ArrayTree:
  """The weights to evaluate: the moving average if the run keeps one."""
  return {"params": state.get("ema", state["params"]), "model_state": state["model_state"]}


def make_classifier(graphdef: nnx.GraphDef[nnx.Module]) -> Classifier:
  """Jitted class probabilities; compiled once for all evaluations and folds of a run."""

  @jax.jit
  def classify(weights, run_parameters, images):
    model = merge_model(graphdef, weights["params"], weights["model_state"])
    logits = model(normalise(images.astype(jnp.float32) / 255.0, run_parameters))
    return jax.nn.softmax(logits.astype(jnp.float32), axis=-1)

  return classify


def class_probabilities(
  classifier: Classifier,
  weights: ArrayTree,
  run_parameters: Mapping[str, jax.Array],
  batches: Iterable[dict[str, np.ndarray]],
  mesh: Mesh,
) -> tuple[np.ndarray, np.ndarray]:
  """Runs the classifier over batches; the last one may be padded.

  Args:
    classifier: from `make_classifier`.
    weights: {"params", "model_state"}.
    run_parameters: arrays `mean` and `std` [3].
    batches: {"image" uint8 [B, S, S, 3], "index" [B], "mask" [B]}; mask is False on padding. Each
      process passes its own rows of the global batches.
    mesh: devices; the global B must be a multiple of their number.

  Returns:
    indices [N] of the examples and probabilities [N, C], in the order of the batches. Every process
    gets the results of all processes.

  Raises:
    ValueError: an example occurs twice, or there are none.
  """
  indices, scores = [], []
  for batch in batches:
    sharded = shard_batch({name: batch[name] for name in ("image", "index", "mask")}, mesh)
    probabilities = classifier(weights, run_parameters, sharded.pop("image"))
    results = fetch({**sharded, "scores": probabilities}, mesh)
    indices.append(results["index"][results["mask"]])
    scores.append(results["scores"][results["mask"]])
  if not indices:
    raise ValueError("there is nothing to evaluate: the split has no examples")
  positions = np.concatenate(indices)
  if len(np.unique(positions)) != len(positions):
    raise ValueError("an example was evaluated twice; the evaluation batches overlap")
  return positions, np.concatenate(scores)
