"""Step functions: pure (state, batch) -> (state, metrics), to be jitted once with donation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jax_me.data.augment.augmentation import BatchTransform, row_keys
from jax_me.data.augment.mixup import mix_targets
from jax_me.models.model_folder import merge_model
from jax_me.training.losses import as_distributions, masked_mean, softmax_cross_entropy
from jax_me.training.schedule import Schedule, make_schedule
from jax_me.training.state import State, training_key

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
# (params, model_state, constants, batch, key) -> (loss, metrics)
LossFunction = Callable[..., tuple[jax.Array, Metrics]]
# (normalised images [B, S, S, 3], keys [B]) -> (mixed images, share of its own that each keeps [B])
Mixing = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def normalise(images: jax.Array, constants: dict[str, jax.Array]) -> jax.Array:
  """[B, H, W, 3] in [0, 1] -> zero mean and unit variance by the training set's statistics."""
  return (images - constants["mean"]) / constants["std"]


def _augmentation_keys(key: jax.Array, rows: int) -> jax.Array:
  """One key a row; of its own, for `key` itself is split further by the losses."""
  return row_keys(jax.random.split(key)[0], rows)


def _keys_of(batch: Batch, key: jax.Array) -> jax.Array:
  """The keys that a part of a batch brings, else new ones."""
  return batch["key"] if "key" in batch else _augmentation_keys(key, len(batch["image"]))


def classification_loss(
  graphdef: Any,
  augment: BatchTransform,
  *,
  erase: BatchTransform | None = None,
  mix: Mixing | None = None,
  label_smoothing: float = 0.0,
) -> LossFunction:
  """Cross-entropy of an augmented batch; metrics `loss` and `accuracy`.

  The target is the batch's `targets` [B, C] (distributions, for example shares of votes) where it
  has them, else its `label` [B]. An answer is right when it is the largest class of the target,
  which after mixing is that of the image of which there is more. Constants may hold
  `class_weights` [C].

  Args:
    graphdef: of the model.
    augment: uint8 images -> images in [0, 1] (`make_augmentation`).
    erase: changes normalised images (`make_erasing`).
    mix: mixes normalised images, after that (`make_mixup`).
    label_smoothing: see `softmax_cross_entropy`.
  """

  def loss_function(params, model_state, constants, batch, key):
    _, model_key = jax.random.split(key)
    keys = _keys_of(batch, key)
    images = normalise(augment(batch["image"], keys), constants)
    if erase is not None:
      images = erase(images, keys)
    if mix is not None:
      images, kept = mix(images, keys)
    model = merge_model(graphdef, params, model_state)
    logits = model(images, deterministic=False, rngs=nnx.Rngs(model_key))
    given = batch["targets"] if "targets" in batch else batch["label"]
    targets = as_distributions(given, logits.shape[-1])
    if mix is not None:
      targets = mix_targets(targets, kept)
    losses = softmax_cross_entropy(
      logits,
      targets,
      label_smoothing=label_smoothing,
      class_weights=constants.get("class_weights"),
    )
    loss = masked_mean(losses, batch["mask"])
    right = (jnp.argmax(logits, -1) == jnp.argmax(targets, -1)).astype(losses.dtype)
    return loss, {"loss": loss, "accuracy": masked_mean(right, batch["mask"])}

  return loss_function


def masked_autoencoder_loss(
  graphdef: Any, augment: BatchTransform, *, mask_ratio: float
) -> LossFunction:
  """Reconstruction loss over the removed patches (MAE, FCMAE); metric `loss`.

  A batch may bring its own mask `noise` [B, N]; else each step draws it.
  """

  def loss_function(params, model_state, constants, batch, key):
    _, mask_key, model_key = jax.random.split(key, 3)
    images = normalise(augment(batch["image"], _keys_of(batch, key)), constants)
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


def _without_stop(batch: Batch) -> tuple[Batch, Metrics]:
  """Splits off the wish to stop that any process may add to its rows; all read the answer."""
  rest = {name: value for name, value in batch.items() if name != "stop"}
  return rest, {"stop": jnp.any(batch["stop"]).astype(float)} if "stop" in batch else {}


def make_train_step(
  loss_function: LossFunction,
  optimizer: optax.GradientTransformation,
  *,
  accum_steps: int = 1,
  ema_decay: float = 0.0,
  schedule: Schedule | None = None,
) -> Callable[[State, Batch], tuple[State, Metrics]]:
  """One optimiser step.

  A step whose loss or gradient is not finite changes nothing but the step's number: parameters,
  optimiser and average stay what they were, and the metric `skipped` is 1.

  Args:
    loss_function: see `classification_loss`, `masked_autoencoder_loss`.
    optimizer: update direction for a learning rate of 1 (`make_optimizer`).
    accum_steps: the batch goes through in this many equal parts, their gradients averaged. Rows
      are augmented as in the whole batch; masks, dropout and the partners of mixing are each
      part's own.
    ema_decay: exponential moving average of the parameters; 0 = none.
    schedule: learning rate from step and constants; None is warm-up and cosine.

  Returns:
    step(state, batch): the metrics of the loss function, averaged over the parts, with
    `grad_norm` (before clipping), `learning_rate` and `skipped`.
  """
  schedule = schedule or make_schedule("cosine")

  def step(state: State, batch: Batch) -> tuple[State, Metrics]:
    constants, params, model_state = state["constants"], state["params"], state["model_state"]
    key = jax.random.fold_in(training_key(constants["seed"]), state["step"])
    batch, stop = _without_stop(batch)
    gradient = jax.grad(loss_function, has_aux=True)

    if accum_steps == 1:
      grads, metrics = gradient(params, model_state, constants, batch, key)
    else:

      def add_part(total, part):
        index, rows = part
        got = gradient(params, model_state, constants, rows, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, total, got), None

      keys = _augmentation_keys(key, len(batch["image"]))
      parts = _microbatches({**batch, "key": keys}, accum_steps)
      # The sum starts from zeros rather than from the first part: the model is compiled once.
      shapes = jax.eval_shape(
        gradient, params, model_state, constants, jax.tree.map(lambda x: x[0], parts), key
      )
      zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
      total, _ = jax.lax.scan(add_part, zeros, (jnp.arange(accum_steps), parts))
      grads, metrics = jax.tree.map(lambda x: x / accum_steps, total)

    rate = schedule(state["step"], constants)
    updates, opt_state = optimizer.update(grads, state["opt_state"], params)
    new_params = jax.tree.map(lambda p, u: p - (rate * u).astype(p.dtype), params, updates)
    changed = {"params": new_params, "opt_state": opt_state}
    if ema_decay:
      changed["ema"] = jax.tree.map(
        lambda old, new: ema_decay * old + (1.0 - ema_decay) * new, state["ema"], new_params
      )
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
    kept = jax.tree.map(
      lambda new, old: jnp.where(finite, new, old), changed, {key: state[key] for key in changed}
    )
    skipped = 1.0 - finite.astype(norm.dtype)
    metrics = {**metrics, "grad_norm": norm, "learning_rate": rate, "skipped": skipped, **stop}
    return {**state, **kept, "step": state["step"] + 1}, metrics

  return step
