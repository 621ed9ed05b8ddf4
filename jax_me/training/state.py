"""Training state (a nested dict of arrays) and the per-run inputs of the compiled step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jax_me.models.model_folder import split_model

State = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RunParameters:
  """Values that differ between the runs (or folds) of one compiled step.

  They are arrays in the state, so runs with other values share the compilation.

  Attributes:
    seed: of augmentation, masking and dropout; each step folds in its number.
    mean, std: per RGB channel of images in [0, 1], from the training examples.
    peak, minimum: learning rates.
    warmup_steps, total_steps: lengths in optimiser steps; the cosine ends at `total_steps`.
    milestones: steps at which the schedule "step" lowers the rate.
    class_weights: factor of each class in the loss; empty means 1.
    warmup_start: learning rate at the start of the warm-up; None is 0.
    cosine_start: step at which the cosine starts; None is the end of the warm-up.
    epoch_steps: steps of an epoch, at whose start the learning rate changes; None is every step.
  """

  seed: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  peak: float
  minimum: float
  warmup_steps: int
  total_steps: int
  milestones: tuple[int, ...] = ()
  class_weights: tuple[float, ...] = ()
  warmup_start: float | None = None
  cosine_start: int | None = None
  epoch_steps: float | None = None

  def arrays(self) -> dict[str, jax.Array]:
    """One array per attribute, without `class_weights` when it is empty and without None."""
    arrays = {
      field.name: jnp.asarray(getattr(self, field.name), float)
      for field in dataclasses.fields(self)
      if getattr(self, field.name) is not None
    }
    arrays["seed"] = jnp.asarray(self.seed, jnp.int32)
    if not self.class_weights:
      del arrays["class_weights"]
    return arrays


def initial_key(seed: int) -> jax.Array:
  """PRNG key of the initial parameters."""
  return jax.random.split(jax.random.key(seed))[0]


def training_key(seed: int | jax.Array) -> jax.Array:
  """PRNG key into which each step folds its number; independent of `initial_key`."""
  return jax.random.split(jax.random.key(seed))[1]


def state_builder(
  make_model: Callable[[nnx.Rngs], nnx.Module],
  optimizer: optax.GradientTransformation,
  *,
  ema: bool,
) -> Callable[[jax.Array], State]:
  """A pure function PRNG key -> state (without `run_parameters`), to be traced or jitted.

  Args:
    make_model: builds the model from its random streams.
    optimizer: its state becomes part of the training state.
    ema: adds an exponential moving average of the parameters.

  Returns:
    the function.
  """

  def build(key):
    _, params, model_state = split_model(make_model(nnx.Rngs(key)))
    state = {
      "step": jnp.zeros((), jnp.int32),
      "params": params,
      "model_state": model_state,
      "opt_state": optimizer.init(params),
    }
    if ema:
      # A copy, because a donated buffer must not occur twice in the state.
      state["ema"] = jax.tree.map(jnp.copy, params)
    return state

  return build
