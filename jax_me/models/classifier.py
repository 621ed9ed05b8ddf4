"""Class probabilities of images: normalisation, model and softmax.

Evaluation, prediction on photographs and videos, and explanations compute them with the same
function, `classify`.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_me.models.layers import normalise
from jax_me.models.model_folder import ArrayTree, SavedModel, merge_model

Normalisation = Mapping[str, jax.Array]  # `mean` and `std`: float32 [3] each.
# (weights {"params", "model_state"}, normalisation, images uint8 [B, S, S, 3]) -> float32 [B, C]
Classifier = Callable[[ArrayTree, Normalisation, jax.Array | np.ndarray], jax.Array]


def classify(
  model: Callable[[jax.Array], jax.Array], images: jax.Array, normalisation: Normalisation
) -> jax.Array:
  """Class probabilities.

  Args:
    model: normalised images -> logits [B, C].
    images: uint8 [B, S, S, 3] RGB.
    normalisation: `mean` and `std` of images scaled to [0, 1].

  Returns:
    float32 [B, C]; each row sums to 1.
  """
  logits = model(normalise(images.astype(jnp.float32) / 255.0, normalisation))
  return jax.nn.softmax(logits.astype(jnp.float32), axis=-1)


@functools.cache
def make_classifier(graphdef: nnx.GraphDef[nnx.Module]) -> Classifier:
  """`classify` jitted for models of one structure; compiled once per batch size and sharding."""

  @jax.jit
  def classifier(weights, normalisation, images):
    model = merge_model(graphdef, weights["params"], weights["model_state"])
    return classify(model, images, normalisation)

  return classifier


def check_head(saved: SavedModel) -> None:
  """Refuses a converted encoder: the head that it was given computes nothing yet.

  Raises:
    ValueError: no file had the weights of the head.
  """
  if any(path.startswith("head.") for path in saved.source.get("fresh", ())):
    file = saved.source.get("file", "the file")
    raise ValueError(
      f"{file} has no classifier head, and the head of {saved.name} is untrained: fine-tune it "
      "first (--config.init_from)"
    )
