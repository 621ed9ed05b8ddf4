"""Valence and arousal: two further outputs of a classifier's head, after its logits.

Both are in (-1, 1), as AffectNet annotates them (arXiv:1708.03985): valence from unpleasant to
pleasant, arousal from calm to excited. The head stays one linear layer, so that every family,
conversion and weight file works with it as with another number of classes.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = TypeVar("Array", jax.Array, np.ndarray)

AFFECT = ("valence", "arousal")


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
