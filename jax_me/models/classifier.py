"""Class probabilities of images, and valence and arousal: normalisation, model and softmax.

Evaluation, prediction on photographs and videos, and explanations compute them with the same
function, `classify`.

Valence and arousal are two further outputs of a classifier's head, after its logits. Both are in
(-1, 1), as AffectNet annotates them (arXiv:1708.03985): valence from unpleasant to pleasant,
arousal from calm to excited. The head stays one linear layer, so that every family, conversion and
weight file works with it as with another number of classes.
"""

import functools
from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_me.models.batch_slices import cache_slices
from jax_me.models.compiler_options import compiler_options
from jax_me.models.layers import normalise
from jax_me.models.model_folder import ArrayTree, SavedModel, merge_model
from jax_me.models.model_metadata import AFFECT

Array = TypeVar("Array", jax.Array, np.ndarray)
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


def split_outputs(outputs: Array, affect: bool) -> tuple[Array, Array | None]:
  """Splits the outputs of a head, or what `activate` makes of them.

  Args:
    outputs: [..., C], or [..., C + 2] with valence and arousal.
    affect: whether the last two are valence and arousal.

  Returns:
    [..., C] of the classes; [..., 2] of valence and arousal, None without.
  """
  if not affect:
    return outputs, None
  return outputs[..., : -len(AFFECT)], outputs[..., -len(AFFECT) :]


def activate(outputs: jax.Array, affect: bool) -> jax.Array:
  """Softmax of the logits, and the hyperbolic tangent of valence and arousal.

  Args:
    outputs: [..., C] or [..., C + 2], of the head.
    affect: whether the last two are valence and arousal.

  Returns:
    float32 of the same shape: probabilities, then values in (-1, 1).
  """
  logits, values = split_outputs(outputs.astype(jnp.float32), affect)
  probabilities = jax.nn.softmax(logits, axis=-1)
  return probabilities if values is None else jnp.concatenate([probabilities, jnp.tanh(values)], -1)


def deactivate(activated: jax.Array, affect: bool) -> jax.Array:
  """Outputs of which `activate` makes these probabilities and values.

  Args:
    activated: [..., C] or [..., C + 2].
    affect: whether the last two are valence and arousal.

  Returns:
    an array of the same shape.
  """
  probabilities, values = split_outputs(activated, affect)
  logits = jnp.log(probabilities)
  return logits if values is None else jnp.concatenate([logits, jnp.arctanh(values)], -1)


def make_classifier(graphdef: nnx.GraphDef[nnx.Module], affect: bool = False) -> Classifier:
  """`classify` jitted for models of one structure; compiled once per batch size and sharding."""
  return _jitted_classifier(graphdef, affect)


@functools.cache
def _jitted_classifier(graphdef: nnx.GraphDef[nnx.Module], affect: bool) -> Classifier:
  @functools.partial(jax.jit, compiler_options=compiler_options(jax.default_backend()))
  def classifier(weights, normalisation, images):
    model = merge_model(graphdef, weights["params"], weights["model_state"])
    with cache_slices():
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
