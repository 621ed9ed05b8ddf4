"""Losses over logits; averages count real examples only, never the padding."""

import jax
import jax.numpy as jnp
import optax


def softmax_cross_entropy(
  logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
  """Cross-entropy of each example, with label smoothing (arXiv:1512.00567).

  The smoothed target gives `1 - s + s / C` to the label and `s / C` to every other class.

  Args:
    logits: [B, C]; computed in at least float32.
    labels: [B] integer classes, or [B, C] target distributions (mixup, vote shares).
    label_smoothing: s in [0, 1).

  Returns:
    [B] losses in nats.
  """
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  classes = logits.shape[-1]
  targets = labels
  if labels.ndim == 1:
    targets = jax.nn.one_hot(labels, classes, dtype=logits.dtype)
  targets = targets.astype(logits.dtype)
  if label_smoothing:
    targets = optax.smooth_labels(targets, label_smoothing)
  return optax.softmax_cross_entropy(logits, targets)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean of `values` [B] where `mask` [B] is True; 0 when nothing is."""
  weight = mask.astype(values.dtype)
  return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(weight), 1)
