"""Where a class's score comes from: Grad-CAM (arXiv:1610.02391) for every family of classifiers."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_me.inference.explain.activation_hooks import Tap, pools_patches, tap, unrolled
from jax_me.models.convnext_v2 import ConvNeXtV2
from jax_me.models.t2t_vit import T2TViT
from jax_me.models.transformer import exact_dtype
from jax_me.models.vit import VisionTransformer


def weighted_activation(activation: jax.Array, gradient: jax.Array) -> jax.Array:
  """ReLU(sum_k alpha_k A_k), alpha_k the mean of dy/dA_k over the sites (equations 1 and 2).

  Args:
    activation: [B, ..., K] feature maps, sites in the middle.
    gradient: [B, ..., K] of the class's score.

  Returns:
    [B, ...], never negative.
  """
  sites = tuple(range(1, activation.ndim - 1))
  alpha = gradient.mean(axis=sites, keepdims=True)
  return jax.nn.relu((alpha * activation).sum(axis=-1))


def grad_cam(model: Any, images: jax.Array, classes: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Grad-CAM of the score (the logit, before the softmax) of one class an image.

  The feature maps are those that the model pools: the last stage of ConvNeXt V2, the patch tokens
  of a ViT's last block where their mean is taken (`global_pool`). A class token does not depend on
  the last block's other tokens any more: there they are the patch tokens that enter its attention
  (the output of its first norm). Only the activation is differentiated in; the parameters are
  constants.

  Args:
    model: a ConvNeXt V2, ViT or T2T-ViT classifier.
    images: [B, S, S, 3] normalised.
    classes: int32 [B], which logit; -1 takes the largest.

  Returns:
    maps [B, h, w], not negative, of the scale of the logits; logits [B, classes]. At least float32.

  Raises:
    ValueError: another kind of model.
  """
  tokens = isinstance(model, VisionTransformer | T2TViT)
  pooled = not tokens or pools_patches(model)
  if not tokens and not isinstance(model, ConvNeXtV2):
    raise ValueError(f"Grad-CAM needs a classifier of jax_me, got a {type(model).__name__}")
  # Merged inside the differentiated function: modules may only be changed where they were made.
  graphdef, state = nnx.split(unrolled(model))

  def watched(shift: jax.Array | None) -> tuple[Tap, jax.Array]:
    copy = nnx.merge(graphdef, state)
    layers = copy.blocks if tokens else copy.stages[-1]
    last = tap(layers, len(layers) - 1, shift) if pooled else tap(layers[-1], "norm1", shift)
    return last, copy(images)

  def score(shift: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    last, logits = watched(shift)
    chosen = jnp.where(classes < 0, logits.argmax(axis=-1), classes)
    picked = jnp.take_along_axis(logits, chosen[:, None], axis=-1)
    # Images do not mix, so the sum's gradient holds each image's own.
    return picked.sum(), (last.output, logits)  # type: ignore[return-value]

  shape: Any = jax.eval_shape(lambda: watched(None)[0].output)
  shift = jnp.zeros(shape.shape, exact_dtype(shape.dtype))
  gradient, (activation, logits) = jax.grad(score, has_aux=True)(shift)
  activation = activation.astype(gradient.dtype)
  if tokens:
    side = round((activation.shape[1] - 1) ** 0.5)
    activation, gradient = (
      x[:, 1:].reshape(-1, side, side, x.shape[-1]) for x in (activation, gradient)
    )
  return weighted_activation(activation, gradient), logits
