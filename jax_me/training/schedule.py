"""Learning rate as a function of the step; written so that its settings may be traced arrays."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def warmup_cosine(
  step: ArrayLike,
  *,
  peak: ArrayLike,
  minimum: ArrayLike,
  warmup_steps: ArrayLike,
  total_steps: ArrayLike,
) -> jax.Array:
  """Linear warm-up from 0, then half a cosine down to `minimum` (MAE, arXiv:2111.06377, app. A).

  With step / steps_per_epoch for the epoch this is the per-step schedule of MAE and ConvNeXt V2.

  Args:
    step: finished optimiser steps, 0 for the first update; fractions are allowed.
    peak: learning rate at the end of the warm-up.
    minimum: learning rate at `total_steps` and after.
    warmup_steps: steps of linear growth; 0 starts at the peak.
    total_steps: length of the whole run, warm-up included.
  """
  step, peak, minimum = jnp.asarray(step), jnp.asarray(peak), jnp.asarray(minimum)
  warmup_steps, total_steps = jnp.asarray(warmup_steps), jnp.asarray(total_steps)
  warm = peak * step / jnp.maximum(warmup_steps, 1)
  progress = (step - warmup_steps) / jnp.maximum(total_steps - warmup_steps, 1)
  cosine = minimum + (peak - minimum) * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))
  return jnp.where(step < warmup_steps, warm, cosine)


def peak_learning_rate(learning_rate: float, base_learning_rate: float, batch_size: int) -> float:
  """`learning_rate` when it is set (> 0), else blr * effective batch / 256.

  The linear scaling rule of MAE and ConvNeXt V2 (arXiv:1706.02677).

  Raises:
    ValueError: neither rate is positive, or both are.
  """
  if (learning_rate > 0) == (base_learning_rate > 0):
    raise ValueError(
      "set exactly one of optimizer.learning_rate (absolute) and optimizer.base_learning_rate "
      f"(for 256 images), got {learning_rate=} {base_learning_rate=}"
    )
  return learning_rate if learning_rate > 0 else base_learning_rate * batch_size / 256
