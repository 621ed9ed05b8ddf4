"""Step functions: pure (state, batch) -> (state, metrics), to be jitted once with donation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jax_me.models.saved import merge_model
from jax_me.training.losses import masked_mean, softmax_cross_entropy
from jax_me.training.schedule import warmup_cosine
from jax_me.training.state import State, training_key

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
# (params, model_state, constants, batch, key) -> (loss, metrics)
LossFunction = Callable[..., tuple[jax.Array, Metrics]]
# (images uint8 [B, H, W, 3], key) -> float32 [B, S, S, 3] in [0, 1]
Augmentation = Callable[[jax.Array, jax.Array], jax.Array]


def normalise(images: jax.Array, constants: dict[str, jax.Array]) -> jax.Array:
  """[B, H, W, 3] in [0, 1] -> zero mean and unit variance by the training set's statistics."""
  return (images - constants["mean"]) / constants["std"]


def classification_loss(
  graphdef: Any, augment: Augmentation, *, label_smoothing: float = 0.0
) -> LossFunction:
  """Cross-entropy of an augmented batch; metrics `loss` and `accuracy`."""

  def loss_function(params, model_state, constants, batch, key):
    augment_key, model_key = jax.random.split(key)
    images = normalise(augment(batch["image"], augment_key), constants)
    model = merge_model(graphdef, params, model_state)
    logits = model(images, deterministic=False, rngs=nnx.Rngs(model_key))
    losses = softmax_cross_entropy(logits, batch["label"], label_smoothing=label_smoothing)
    loss = masked_mean(losses, batch["mask"])
    right = (jnp.argmax(logits, -1) == batch["label"]).astype(losses.dtype)
    return loss, {"loss": loss, "accuracy": masked_mean(right, batch["mask"])}

  return loss_function


def masked_autoencoder_loss(
  graphdef: Any, augment: Augmentation, *, mask_ratio: float
) -> LossFunction:
  """Reconstruction loss over the removed patches (MAE, FCMAE); metric `loss`.

  A batch may bring its own mask `noise` [B, N]; else each step draws it.
  """

  def loss_function(params, model_state, constants, batch, key):
    augment_key, mask_key, model_key = jax.random.split(key, 3)
    images = normalise(augment(batch["image"], augment_key), constants)
    model = merge_model(graphdef, params, model_state)
    output = model(
      images,
      mask_ratio,
      noise=batch.get("noise"),
      key=mask_key,
      deterministic=False,
      rngs=nnx.Rngs(model_key),
    )
    return output.loss, {"loss": output.loss}

  return loss_function


def _microbatches(batch: Batch, count: int) -> Batch:
  """[B, ...] -> [count, B / count, ...]; strided, so that each part spreads over all devices."""
  return jax.tree.map(
    lambda x: jnp.moveaxis(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 1, 0), batch
  )


def make_train_step(
  loss_function: LossFunction,
  optimizer: optax.GradientTransformation,
  *,
  accum_steps: int = 1,
  ema_decay: float = 0.0,
) -> Callable[[State, Batch], tuple[State, Metrics]]:
  """One optimiser step.

  Args:
    loss_function: see `classification_loss`, `masked_autoencoder_loss`.
    optimizer: update direction for a learning rate of 1 (`make_optimizer`).
    accum_steps: the batch goes through in this many equal parts, their gradients averaged.
    ema_decay: exponential moving average of the parameters; 0 = none.

  Returns:
    step(state, batch): the metrics of the loss function, averaged over the parts, with
    `grad_norm` (before clipping) and `learning_rate`.
  """

  def step(state: State, batch: Batch) -> tuple[State, Metrics]:
    constants, params, model_state = state["constants"], state["params"], state["model_state"]
    key = jax.random.fold_in(training_key(constants["seed"]), state["step"])
    gradient = jax.grad(loss_function, has_aux=True)

    if accum_steps == 1:
      grads, metrics = gradient(params, model_state, constants, batch, key)
    else:

      def add_part(total, part):
        index, rows = part
        got = gradient(params, model_state, constants, rows, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, total, got), None

      parts = _microbatches(batch, accum_steps)
      first = gradient(
        params,
        model_state,
        constants,
        jax.tree.map(lambda x: x[0], parts),
        jax.random.fold_in(key, 0),
      )
      rest = jax.tree.map(lambda x: x[1:], parts)
      total, _ = jax.lax.scan(add_part, first, (jnp.arange(1, accum_steps), rest))
      grads, metrics = jax.tree.map(lambda x: x / accum_steps, total)

    rate = warmup_cosine(
      state["step"],
      peak=constants["peak"],
      minimum=constants["minimum"],
      warmup_steps=constants["warmup_steps"],
      total_steps=constants["total_steps"],
    )
    updates, opt_state = optimizer.update(grads, state["opt_state"], params)
    new_params = jax.tree.map(lambda p, u: p - (rate * u).astype(p.dtype), params, updates)
    new_state = {
      **state,
      "step": state["step"] + 1,
      "params": new_params,
      "opt_state": opt_state,
    }
    if ema_decay:
      new_state["ema"] = jax.tree.map(
        lambda old, new: ema_decay * old + (1.0 - ema_decay) * new, state["ema"], new_params
      )
    metrics = {**metrics, "grad_norm": optax.tree.norm(grads), "learning_rate": rate}
    return new_state, metrics

  return step
