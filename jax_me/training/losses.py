"""Classification losses; averages ignore padding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_me.models.layers import at_least_float32


def as_distributions(labels: jax.Array, classes: int) -> jax.Array:
  """Integer classes [B] as one-hot [B, C]; distributions [B, C] are returned unchanged.

  Raises:
    ValueError: other shapes.
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
      number of examples, not by their weights as torch does for integer classes, so that all
      microbatches count equally: choose weights whose mean over the examples is 1.

  Returns:
    [B] losses in nats.

  Raises:
    ValueError: labels of another shape.
  """
  logits = logits.astype(at_least_float32(logits.dtype))
  targets = as_distributions(labels, logits.shape[-1]).astype(logits.dtype)
  if label_smoothing:
    targets = optax.smooth_labels(targets, label_smoothing)
  if class_weights is not None:
    targets = targets * class_weights.astype(logits.dtype)[None]
  return -jnp.sum(targets * jax.nn.log_softmax(logits), -1)


def concordance_loss(prediction: jax.Array, truth: jax.Array, mask: jax.Array) -> jax.Array:
  """1 - CCC over the batch, averaged over valence and arousal (Kollias et al., arXiv:1804.10938).

  The CCC of a batch is 2 cov / (var + var + (difference of means)^2), `evaluation.affect`. With few
  examples it is far from that of all: use batches of at least 32.

  Args:
    prediction: [B, 2].
    truth: [B, 2]; NaN where unknown.
    mask: [B] bool, False on padding.

  Returns:
    [] in [0, 2]; 1 without known values.
  """
  prediction = prediction.astype(at_least_float32(prediction.dtype))
  known = (mask[:, None] & ~jnp.isnan(truth)).astype(prediction.dtype)
  truth = jnp.where(known > 0, truth, 0).astype(prediction.dtype)
  count = jnp.maximum(known.sum(0, keepdims=True), 1)

  def mean(values: jax.Array) -> jax.Array:
    return jnp.sum(known * values, 0, keepdims=True) / count

  shift = mean(prediction) - mean(truth)
  x, y = prediction - mean(prediction), truth - mean(truth)
  spread = mean(x * x) + mean(y * y) + shift**2
  return 1.0 - jnp.mean(2 * mean(x * y) / (spread + 1e-6))


# Largest "conservative" weight over that of the most frequent class, as MAE-SFER's sampler.
CONSERVATIVE_LIMIT = 3.0
WEIGHT_RULES = {"balanced": np.inf, "conservative": CONSERVATIVE_LIMIT}


def balanced_class_weights(labels: np.ndarray, classes: int, limit: float = np.inf) -> np.ndarray:
  """Weights inversely proportional to the class frequencies; their mean over the examples is 1.

  Args:
    labels: [N] integer classes of the training examples.
    classes: C.
    limit: largest weight over that of the most frequent class, at least 1.

  Returns:
    float64 [C]: N / (number of classes with examples * examples of the class); 0 for a class
    without examples. With a limit that is reached, all weights are rescaled to the mean of 1.
  """
  counts = np.bincount(labels, minlength=classes)
  occurs = counts > 0
  weights = np.where(occurs, len(labels) / (occurs.sum() * np.maximum(counts, 1)), 0.0)
  largest = limit * weights[occurs].min()
  if weights.max() <= largest:
    return weights
  weights = np.minimum(weights, largest)
  return weights * (len(labels) / (weights @ counts))


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean of `values` [B] where `mask` [B] is True; 0 if it is True nowhere."""
  weight = mask.astype(values.dtype)
  return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(weight), 1)
