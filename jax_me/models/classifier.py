"""Class probabilities of images, and valence and arousal: normalisation, model and softmax.

Evaluation, prediction on photographs and videos, and explanations compute them with the same
function, `classify`.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_me.models.affect_head import activate
from jax_me.models.layers import normalise
from jax_me.models.model_folder import ArrayTree, SavedModel, merge_model

Normalisation = Mapping[str, jax.Array]  # `mean` and `std`: float32 [3] each.
# (weights {"params", "model_state"}, normalisation, images uint8 [B, S, S, 3]) -> float32 [B, C],
# or [B, C + 2] with valence and arousal.
Classifier = Callable[[ArrayTree, Normalisation, jax.Array | np.ndarray], jax.Array]


def classify(
  model: Callable[[jax.Array], jax.Array],
  images: jax.Array,
  normalisation: Normalisation,
  affect: bool = False,
) -> jax.Array:
  """Class probabilities, and valence and arousal of models with these outputs.

  Args:
    model: normalised images -> logits [B, C].
    images: uint8 [B, S, S, 3] RGB.
    normalisation: `mean` and `std` of images scaled to [0, 1].
    affect: whether the model's last two outputs are valence and arousal.

  Returns:
    float32 [B, C] whose rows sum to 1; with valence and arousal in (-1, 1) after them [B, C + 2].
  """
  return activate(model(normalise(images.astype(jnp.float32) / 255.0, normalisation)), affect)


def make_classifier(graphdef: nnx.GraphDef[nnx.Module], affect: bool = False) -> Classifier:
  """`classify` jitted for models of one structure; compiled once per batch size and sharding."""
  return _jitted_classifier(graphdef, affect)


@functools.cache
def _jitted_classifier(graphdef: nnx.GraphDef[nnx.Module], affect: bool) -> Classifier:
  @jax.jit
  def classifier(weights, normalisation, images):
    model = merge_model(graphdef, weights["params"], weights["model_state"])
    return classify(model, images, normalisation, affect)

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
