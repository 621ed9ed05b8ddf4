"""Losses over logits; averages count real examples only, never the padding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def as_distributions(labels: jax.Array, classes: int) -> jax.Array:
  """[B] integer classes -> [B, C] one-hot; what is [B, C] already stays as it is.

  Raises:
    ValueError: labels of another shape.
  """
  if labels.ndim == 1:
    return jax.nn.one_hot(labels, classes)
  if labels.ndim != 2 or labels.shape[1] != classes:
    raise ValueError(
      f"targets must be classes [B] or distributions [B, {classes}], got {list(labels.shape)}"
    )
  return labels


def softmax_cross_entropy(
  logits: jax.Array,
  labels: jax.Array,
  *,
  label_smoothing: float = 0.0,
  class_weights: jax.Array | None = None,
) -> jax.Array:
  """Cross-entropy of each example, with label smoothing (arXiv:1512.00567).

  The smoothed target gives `1 - s + s / C` to the label and `s / C` to every other class.

  Args:
    logits: [B, C]; computed in at least float32.
    labels: [B] integer classes, or [B, C] target distributions (mixup, vote shares).
    label_smoothing: s in [0, 1).
    class_weights: [C] factor of each class's term, as torch's `weight`. Averages divide by the
      number of examples, not by their weights as torch does for integer classes, so that parts
      of a batch count alike: choose weights whose mean over the examples is 1.

  Returns:
    [B] losses in nats.

  Raises:
    ValueError: labels of another shape.
  """
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  targets = as_distributions(labels, logits.shape[-1]).astype(logits.dtype)
  if label_smoothing:
    targets = optax.smooth_labels(targets, label_smoothing)
  if class_weights is not None:
    targets = targets * class_weights.astype(logits.dtype)
  return -jnp.sum(targets * jax.nn.log_softmax(logits), -1)


def balanced_class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
  """Weights with which every class that occurs counts alike; their mean over the examples is 1.

  Args:
    labels: [N] integer classes of the training examples.
    classes: C.

  Returns:
    float64 [C]: N / (classes that occur * examples of the class); 0 for a class without any.
  """
  counts = np.bincount(labels, minlength=classes)
  occurs = counts > 0
  return np.where(occurs, len(labels) / (occurs.sum() * np.maximum(counts, 1)), 0.0)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean of `values` [B] where `mask` [B] is True; 0 when nothing is."""
  weight = mask.astype(values.dtype)
  return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(weight), 1)
