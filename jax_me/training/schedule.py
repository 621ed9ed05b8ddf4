"""Learning-rate schedules, as functions of the step whose settings may be traced arrays."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

SCHEDULES = ("cosine", "step", "constant")

# (finished steps, run parameters of the state) -> learning rate
Schedule = Callable[[ArrayLike, Mapping[str, jax.Array]], jax.Array]


def make_schedule(name: str, *, gamma: float = 0.1) -> Schedule:
  """A schedule that reads its numbers from the run parameters, so that folds share a compiled step.

  Args:
    name: "cosine" (`warmup_cosine`), "step" (`warmup_multistep`) or "constant" after the warm-up.
    gamma: factor at each milestone of "step".

  Raises:
    ValueError: unknown name.
  """
  if name not in SCHEDULES:
    raise ValueError(f"optimizer.schedule must be one of {', '.join(SCHEDULES)}, got {name!r}")

  def rate(step: ArrayLike, run_parameters: Mapping[str, jax.Array]) -> jax.Array:
    peak, warmup_steps = run_parameters["peak"], run_parameters["warmup_steps"]
    warmup_start = run_parameters.get("warmup_start", 0.0)
    if "epoch_steps" in run_parameters:
      step = first_of_epoch(step, run_parameters["epoch_steps"])
    if name == "cosine":
      return warmup_cosine(
        step,
        peak=peak,
        minimum=run_parameters["minimum"],
        warmup_steps=warmup_steps,
        total_steps=run_parameters["total_steps"],
        warmup_start=warmup_start,
        cosine_start=run_parameters.get("cosine_start"),
      )
    milestones = run_parameters["milestones"] if name == "step" else ()
    return warmup_multistep(
      step,
      peak=peak,
      warmup_steps=warmup_steps,
      milestones=milestones,
      gamma=gamma,
      warmup_start=warmup_start,
    )

  return rate


def first_of_epoch(step: ArrayLike, epoch_steps: ArrayLike) -> jax.Array:
  """The position of the start of the epoch of a step, in steps; epochs may have part steps."""
  epoch_steps = jnp.asarray(epoch_steps, float)
  # A step that is the start of an epoch must not fall into the previous one by rounding.
  epoch = jnp.floor(jnp.asarray(step, epoch_steps.dtype) / epoch_steps + 1e-4)
  return epoch * epoch_steps


def warmup_cosine(
  step: ArrayLike,
  *,
  peak: ArrayLike,
  minimum: ArrayLike,
  warmup_steps: ArrayLike,
  total_steps: ArrayLike,
  warmup_start: ArrayLike = 0.0,
  cosine_start: ArrayLike | None = None,
) -> jax.Array:
  """Linear warm-up, then half a cosine down to `minimum` (MAE, arXiv:2111.06377, app. A).

  With epoch = step / steps_per_epoch this is the per-step schedule of MAE and ConvNeXt V2.

  Args:
    step: finished optimiser steps, 0 for the first update; may be fractional.
    peak: learning rate at the end of the warm-up.
    minimum: learning rate from `total_steps` on.
    warmup_steps: steps of the linear warm-up; 0 starts at the peak.
    total_steps: step at which the cosine ends.
    warmup_start: learning rate at the start of the warm-up.
    cosine_start: step at which the cosine starts; None is the end of the warm-up.

  Returns:
    the learning rate.
  """
  peak = jnp.asarray(peak, float)
  step, minimum, warmup_steps, total_steps = (
    jnp.asarray(value, peak.dtype) for value in (step, minimum, warmup_steps, total_steps)
  )
  warm = _warm_up(step, peak, warmup_start, warmup_steps)
  start = warmup_steps if cosine_start is None else jnp.asarray(cosine_start, peak.dtype)
  progress = (step - start) / jnp.maximum(total_steps - start, 1)
  cosine = minimum + (peak - minimum) * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))
  return jnp.where(step < warmup_steps, warm, cosine)


def warmup_multistep(
  step: ArrayLike,
  *,
  peak: ArrayLike,
  warmup_steps: ArrayLike,
  milestones: ArrayLike | tuple[()],
  gamma: float,
  warmup_start: ArrayLike = 0.0,
) -> jax.Array:
  """Linear warm-up, then the peak times `gamma` for each milestone reached.

  Without warm-up this is torch's MultiStepLR with milestones in steps.

  Args:
    step: finished optimiser steps, 0 for the first update.
    peak: learning rate before the first milestone.
    warmup_steps: steps of the linear warm-up; 0 starts at the peak.
    milestones: [M] steps at which the rate decreases; empty for a constant rate.
    gamma: factor at each milestone.
    warmup_start: learning rate at the start of the warm-up.

  Returns:
    the learning rate.
  """
  peak = jnp.asarray(peak, float)
  step, warmup_steps = jnp.asarray(step, peak.dtype), jnp.asarray(warmup_steps, peak.dtype)
  reached = jnp.sum(step >= jnp.asarray(milestones, peak.dtype))
  warm = _warm_up(step, peak, warmup_start, warmup_steps)
  factor = jax.lax.pow(jnp.asarray(gamma, peak.dtype), reached)
  return jnp.where(step < warmup_steps, warm, peak * factor)


def _warm_up(step: jax.Array, peak: jax.Array, start: ArrayLike, steps: jax.Array) -> jax.Array:
  start = jnp.asarray(start, peak.dtype)
  return start + (peak - start) * step / jnp.maximum(steps, 1)


def peak_learning_rate(learning_rate: float, base_learning_rate: float, batch_size: int) -> float:
  """Peak learning rate by the linear scaling rule (arXiv:1706.02677), as MAE and ConvNeXt V2 do.

  Args:
    learning_rate: absolute; used if > 0.
    base_learning_rate: for 256 images.
    batch_size: effective, over all devices and accumulation steps.

  Returns:
    `learning_rate`, else base_learning_rate * batch_size / 256.

  Raises:
    ValueError: neither rate is positive, or both are.
  """
  if (learning_rate > 0) == (base_learning_rate > 0):
    raise ValueError(
      "set exactly one of optimizer.learning_rate (absolute) and optimizer.base_learning_rate "
      f"(for 256 images), got {learning_rate=} {base_learning_rate=}"
    )
  return learning_rate if learning_rate > 0 else base_learning_rate * batch_size / 256
