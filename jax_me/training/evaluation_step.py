"""The evaluation pass: every example exactly once, padding masked away."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jax_me.models.model_folder import merge_model
from jax_me.training.processes import fetch
from jax_me.training.sharding import shard_batch
from jax_me.training.state import State
from jax_me.training.steps import normalise

# (weights, constants, images uint8 [B, S, S, 3]) -> float32 [B, C]
Classifier = Callable[[Mapping[str, Any], Mapping[str, jax.Array], jax.Array], jax.Array]


def evaluation_weights(state: State) -> dict[str, Any]:
  """The weights to judge: the moving average where the run keeps one."""
  return {"params": state.get("ema", state["params"]), "model_state": state["model_state"]}


def make_classifier(graphdef: Any) -> Classifier:
  """Jitted class probabilities; compiled once for all evaluations and folds of a run."""

  @jax.jit
  def classify(weights, constants, images):
    model = merge_model(graphdef, weights["params"], weights["model_state"])
    logits = model(normalise(images.astype(jnp.float32) / 255.0, constants))
    return jax.nn.softmax(logits.astype(jnp.float32), axis=-1)

  return classify


def class_probabilities(
  classifier: Classifier,
  weights: Mapping[str, Any],
  constants: Mapping[str, jax.Array],
  batches: Iterable[dict[str, np.ndarray]],
  mesh: Mesh,
) -> tuple[np.ndarray, np.ndarray]:
  """Runs the classifier over batches whose last one may be padded.

  Args:
    classifier: from `make_classifier`.
    weights: {"params", "model_state"}.
    constants: with `mean` and `std`.
    batches: {"image" uint8 [B, S, S, 3], "index" [B], "mask" [B]}; mask is False on padding. Each
      process gives its own rows of the global batches.
    mesh: devices; the global B must be a multiple of their number.

  Returns:
    indices [N] of the examples and probabilities [N, C], in the order of the batches; of all
    processes, in each of them.

  Raises:
    ValueError: an example came twice, or none came.
  """
  indices, scores = [], []
  for batch in batches:
    sharded = shard_batch({name: batch[name] for name in ("image", "index", "mask")}, mesh)
    probabilities = classifier(weights, constants, sharded.pop("image"))
    whole = fetch({**sharded, "scores": probabilities}, mesh)
    indices.append(whole["index"][whole["mask"]])
    scores.append(whole["scores"][whole["mask"]])
  if not indices:
    raise ValueError("there is nothing to evaluate: the split holds no example")
  seen = np.concatenate(indices)
  if len(np.unique(seen)) != len(seen):
    raise ValueError("an example was evaluated twice; the evaluation batches overlap")
  return seen, np.concatenate(scores)
