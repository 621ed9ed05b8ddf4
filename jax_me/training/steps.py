"""Loss functions and the training step: pure functions, jitted once with donation."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jax_me.data.augment.augmentation import BatchTransform, row_keys
from jax_me.data.augment.mixup import mix_targets
from jax_me.models.classifier import split_outputs
from jax_me.models.layers import normalise
from jax_me.models.model_folder import ArrayTree, merge_model, split_model
from jax_me.training.losses import (
  as_distributions,
  concordance_loss,
  masked_mean,
  softmax_cross_entropy,
)
from jax_me.training.param_groups import in_head, map_paths
from jax_me.training.schedule import Schedule, make_schedule
from jax_me.training.state import State, training_key

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
# (params, model_state, run_parameters, batch, key) -> (loss, (metrics, new model_state))
LossFunction = Callable[..., tuple[jax.Array, tuple[Metrics, ArrayTree]]]
# (normalised images [B, S, S, 3], keys [B]) -> (mixed images, weight of each row's own target [B])
Mixing = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def _augmentation_keys(key: jax.Array, rows: int) -> jax.Array:
  """One key per row, from a split of `key`, which the losses split differently."""
  return row_keys(jax.random.split(key)[0], rows)


def _row_keys(batch: Batch, key: jax.Array) -> jax.Array:
  """The row keys in the batch (a microbatch has some), else new ones."""
  return batch["key"] if "key" in batch else _augmentation_keys(key, len(batch["image"]))


def classification_loss(
  graphdef: nnx.GraphDef[nnx.Module],
  augment: BatchTransform,
  *,
  erase: BatchTransform | None = None,
  mix: Mixing | None = None,
  label_smoothing: float = 0.0,
  freeze_backbone: bool = False,
  affect_weight: float = 0.0,
) -> LossFunction:
  """Cross-entropy of an augmented batch; metrics `loss` and `accuracy`.

  The target is the batch's `targets` [B, C] (distributions, for example shares of votes) if it has
  them, else its `label` [B]. A prediction is correct when it is the class with the largest target,
  after mixing that of the image with the larger weight. The run parameters may hold
  `class_weights` [C].

  Args:
    graphdef: of the model.
    augment: uint8 images -> images in [0, 1] (`make_augmentation`).
    erase: random erasing of normalised images (`make_erasing`).
    mix: mixup or CutMix of normalised images, after erasing (`make_mixup`).
    label_smoothing: see `softmax_cross_entropy`.
    freeze_backbone: only the head has a gradient; dropout and stochastic depth are off, so that the
      features of an image do not change.
    affect_weight: factor of `concordance_loss`; > 0 if the model's last two outputs are valence and
      arousal. The batch then has their values `affect` [B, 2], and the metrics `affect_loss`. A
      mixed image has the values of its parts, weighted, where those of both are known.

  Returns:
    the loss function.
  """

  def loss_function(params, model_state, run_parameters, batch, key):
    _, model_key = jax.random.split(key)
    keys = _row_keys(batch, key)
    images = normalise(augment(batch["image"], keys), run_parameters)
    if erase is not None:
      images = erase(images, keys)
    if mix is not None:
      images, kept = mix(images, keys)
    if freeze_backbone:  # XLA then leaves out the backward pass of the backbone.
      params = map_paths(lambda path, x: x if in_head(path) else jax.lax.stop_gradient(x), params)
    model = merge_model(graphdef, params, model_state)
    outputs = model(images, deterministic=freeze_backbone, rngs=nnx.Rngs(model_key))
    logits, affect = split_outputs(outputs, affect_weight > 0)
    labels = batch["targets"] if "targets" in batch else batch["label"]
    targets = as_distributions(labels, logits.shape[-1])
    if mix is not None:
      targets = mix_targets(targets, kept)
    losses = softmax_cross_entropy(
      logits,
      targets,
      label_smoothing=label_smoothing,
      class_weights=run_parameters.get("class_weights"),
    )
    loss = masked_mean(losses, batch["mask"])
    correct = (jnp.argmax(logits, -1) == jnp.argmax(targets, -1)).astype(losses.dtype)
    metrics = {"loss": loss, "accuracy": masked_mean(correct, batch["mask"])}
    if affect is not None:
      values = batch["affect"] if mix is None else mix_targets(batch["affect"], kept)
      affect_loss = concordance_loss(jnp.tanh(affect), values, batch["mask"])
      loss = loss + affect_weight * affect_loss
      metrics |= {"loss": loss, "affect_loss": affect_loss}
    return loss, (metrics, split_model(model)[2])

  return loss_function


def masked_autoencoder_loss(
  graphdef: nnx.GraphDef[nnx.Module], augment: BatchTransform, *, mask_ratio: float
) -> LossFunction:
  """Reconstruction loss over the removed patches (MAE, FCMAE); metric `loss`.

  The batch may contain the mask `noise` [B, N]; otherwise each step draws it.

  Args:
    graphdef: of the model.
    augment: uint8 images -> images in [0, 1] (`make_augmentation`).
    mask_ratio: fraction of patches to remove, in (0, 1).

  Returns:
    the loss function.
  """

  def loss_function(params, model_state, run_parameters, batch, key):
    _, mask_key, model_key = jax.random.split(key, 3)
    images = normalise(augment(batch["image"], _row_keys(batch, key)), run_parameters)
    model = merge_model(graphdef, params, model_state)
    output = model(
      images,
      mask_ratio,
      noise=batch.get("noise"),
      key=mask_key,
      deterministic=False,
      rngs=nnx.Rngs(model_key),
    )
    return output.loss, ({"loss": output.loss}, split_model(model)[2])

  return loss_function


def _microbatches(batch: Batch, count: int) -> Batch:
  """[B, ...] -> [count, B / count, ...]; strided, so that each part covers all devices."""
  return jax.tree.map(
    lambda x: jnp.moveaxis(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 1, 0), batch
  )


def _split_stop_flag(batch: Batch) -> tuple[Batch, Metrics]:
  """Separates the stop requests of the processes and combines them into one metric."""
  rest = {name: value for name, value in batch.items() if name != "stop"}
  return rest, {"stop": jnp.any(batch["stop"]).astype(float)} if "stop" in batch else {}


def make_train_step(
  loss_function: LossFunction,
  optimizer: optax.GradientTransformation,
  *,
  accum_steps: int = 1,
  ema_decay: float = 0.0,
  schedule: Schedule | None = None,
  peak_factors: Mapping[str, float] | None = None,
) -> Callable[..., tuple[State, Metrics]]:
  """One optimiser step.

  A step whose loss or gradient is not finite only increments the step number: parameters,
  running statistics, optimiser state and moving average do not change, and the metric `skipped` is
  1.

  Args:
    loss_function: see `classification_loss`, `masked_autoencoder_loss`.
    optimizer: update direction for a learning rate of 1 (`make_optimizer`).
    accum_steps: number of equal microbatches, whose gradients are averaged. Rows are augmented as
      in the whole batch; masks, dropout and mixing partners are drawn per microbatch, and batch
      norms take the statistics of each microbatch.
    ema_decay: of the exponential moving average of the parameters; 0 means none.
    schedule: learning rate from step and run parameters; None is warm-up and cosine.
    peak_factors: factor of the peak learning rate by the dotted path of a parameter; the minimum is
      the same for all. None is 1 (layer-wise decay of the whole rate is part of the optimiser).

  Returns:
    step(state, batch, split, by_device) -> (state, metrics). The metrics are those of the loss
    function, averaged over the microbatches, and `grad_norm` (before clipping), `learning_rate` and
    `skipped`. `split` places parameters and gradients for the update (`split_for_update`);
    `by_device` changes the function of gradients (`gradient_by_device`).
  """
  schedule = schedule or make_schedule("cosine")

  def rates_of(state: State, params: ArrayTree, rate: jax.Array) -> ArrayTree:
    """The learning rate of each parameter."""
    if peak_factors is None:
      return jax.tree.map(lambda _: rate, params)
    run_parameters = state["run_parameters"]
    rates = {
      factor: schedule(state["step"], {**run_parameters, "peak": factor * run_parameters["peak"]})
      for factor in set(peak_factors.values())
    }
    return map_paths(lambda path, _: rates[peak_factors[path]], params)

  def step(
    state: State,
    batch: Batch,
    split: Callable[[ArrayTree], ArrayTree] = lambda tree: tree,
    by_device: Callable[[Callable], Callable] | None = None,
  ) -> tuple[State, Metrics]:
    run_parameters, params, model_state = (
      state["run_parameters"],
      state["params"],
      state["model_state"],
    )
    key = jax.random.fold_in(training_key(run_parameters["seed"]), state["step"])
    batch, stop = _split_stop_flag(batch)
    gradient = jax.grad(loss_function, has_aux=True)
    if accum_steps > 1 or by_device is not None:  # Parts are augmented as in the whole batch.
      batch = {**batch, "key": _augmentation_keys(key, len(batch["image"]))}
    if by_device is not None:
      gradient = by_device(gradient)

    if accum_steps == 1:
      grads, (metrics, new_model_state) = gradient(params, model_state, run_parameters, batch, key)
    else:

      def add_gradient(carried, microbatch):
        total, model_state = carried
        index, rows = microbatch
        grads, (metrics, model_state) = gradient(
          params, model_state, run_parameters, rows, jax.random.fold_in(key, index)
        )
        found = (split(grads), metrics)
        return (jax.tree.map(jnp.add, total, found), model_state), None

      parts = _microbatches(batch, accum_steps)
      # The sum starts from zeros, not from the first microbatch, to compile the model only once.
      grads, (metrics, _) = jax.eval_shape(
        gradient, params, model_state, run_parameters, jax.tree.map(lambda x: x[0], parts), key
      )
      zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), (grads, metrics))
      (total, new_model_state), _ = jax.lax.scan(
        add_gradient, (zeros, model_state), (jnp.arange(accum_steps), parts)
      )
      grads, metrics = jax.tree.map(lambda x: x / accum_steps, total)

    rate = schedule(state["step"], run_parameters)
    grads, params = split(grads), split(params)
    # Optax combines float and integer arrays, which strict dtype promotion (as in tests) rejects.
    with jax.numpy_dtype_promotion("standard"):
      updates, opt_state = optimizer.update(grads, state["opt_state"], params)
    new_params = jax.tree.map(
      lambda p, u, r: p - (r * u).astype(p.dtype), params, updates, rates_of(state, params, rate)
    )
    changed = {"params": new_params, "model_state": new_model_state, "opt_state": opt_state}
    if ema_decay:
      changed["ema"] = jax.tree.map(
        lambda old, new: ema_decay * old + (1.0 - ema_decay) * new, state["ema"], new_params
      )
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
    before = {**{key: state[key] for key in changed}, "params": params}
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), changed, before)
    skipped = 1.0 - finite.astype(norm.dtype)
    metrics = {**metrics, "grad_norm": norm, "learning_rate": rate, "skipped": skipped, **stop}
    return {**state, **kept, "step": state["step"] + 1}, metrics

  return step
