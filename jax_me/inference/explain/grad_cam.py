"""Grad-CAM (arXiv:1610.02391) for all classifier families."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_me.inference.explain.activation_hooks import (
  ActivationHook,
  hook_layer,
  pools_patch_tokens,
  unrolled_copy,
)
from jax_me.models.classifier import split_outputs
from jax_me.models.convnext_v2 import ConvNeXtV2
from jax_me.models.layers import at_least_float32
from jax_me.models.shallow_cnn import ShallowCNN, STSTNet
from jax_me.models.shallow_resnet import ShallowResNet, zoomed
from jax_me.models.t2t_vit import T2TViT
from jax_me.models.vit import VisionTransformer

CONVOLUTIONAL = (ConvNeXtV2, ShallowResNet, ShallowCNN, STSTNet)


def weighted_activation(activation: jax.Array, gradient: jax.Array) -> jax.Array:
  """ReLU(sum_k alpha_k A_k), alpha_k the spatial mean of dy/dA_k (equations 1 and 2).

  Args:
    activation: [B, ..., K] feature maps, spatial axes in the middle.
    gradient: [B, ..., K] of the class score with respect to `activation`.

  Returns:
    [B, ...], non-negative.
  """
  spatial = tuple(range(1, activation.ndim - 1))
  alpha = gradient.mean(axis=spatial, keepdims=True)
  return jax.nn.relu((alpha * activation).sum(axis=-1))


def grad_cam(
  model: nnx.Module, images: jax.Array, classes: jax.Array, affect: bool = False
) -> tuple[jax.Array, jax.Array]:
  """Grad-CAM of the score (the logit, before the softmax) of one class per image.

  The feature maps are those that the model pools: the last stage of ConvNeXt V2 or of the residual
  CNN, the streams of STSTNet, the last convolution of the two-layer CNN, or the patch tokens of the
  last ViT block with `global_pool`. Of a model that averages mirrored views, the map is the mean of
  both. A class token does not depend on the other output tokens of the last block; in that case the
  feature maps are the patch tokens that enter its attention (the output of its first norm).
  Gradients are taken with respect to the activation only; the parameters are constants.

  Args:
    model: a ViT, T2T-ViT, ConvNeXt V2 or shallow classifier.
    images: [B, S, S, 3] normalised.
    classes: int32 [B], index of the logit; -1 selects the largest one.
    affect: whether valence and arousal follow the logits.

  Returns:
    maps [B, h, w], non-negative, in units of the logits; outputs of the model [B, C]. At least
    float32.

  Raises:
    ValueError: the model is not one of these classifiers.
  """
  tokens = isinstance(model, VisionTransformer | T2TViT)
  if not tokens and not isinstance(model, CONVOLUTIONAL):
    raise ValueError(f"Grad-CAM needs a classifier of jax_me, got a {type(model).__name__}")
  # Merged inside the differentiated function: nnx modules may only be modified in the trace that
  # created them.
  graphdef, state = nnx.split(unrolled_copy(model))

  def hooked_forward(shift: jax.Array | None) -> tuple[ActivationHook, jax.Array]:
    copy: Any = nnx.merge(graphdef, state)
    return _hook_feature_maps(copy, shift), copy(images)

  def score(shift: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    hook, logits = hooked_forward(shift)
    largest = split_outputs(logits, affect)[0].argmax(axis=-1)
    chosen = jnp.where(classes < 0, largest, classes)
    picked = jnp.take_along_axis(logits, chosen[:, None], axis=-1)
    # Images are independent, so the gradient of the sum holds the gradient of each image.
    return picked.sum(), (hook.output, logits)  # type: ignore[return-value]

  shape: Any = jax.eval_shape(lambda: hooked_forward(None)[0].output)
  shift = jnp.zeros(shape.shape, at_least_float32(shape.dtype))
  gradient, (activation, logits) = jax.grad(score, has_aux=True)(shift)
  activation = activation.astype(gradient.dtype)
  if tokens:
    side = round((activation.shape[1] - 1) ** 0.5)
    activation, gradient = (
      x[:, 1:].reshape(-1, side, side, x.shape[-1]) for x in (activation, gradient)
    )
  maps = weighted_activation(activation, gradient)
  if getattr(model, "mirrored", False):
    views = maps.reshape(2, -1, *maps.shape[1:])
    maps = (views[0] + views[1][..., ::-1]) / 2
  # From the places of the enlarged image to those of the image.
  return zoomed(maps[..., None], 1 / getattr(model, "zoom", 1.0))[..., 0], logits


def _hook_feature_maps(model: Any, shift: jax.Array | None) -> ActivationHook:
  """Hooks the layer whose output or, for class tokens, whose first norm has the feature maps."""
  if isinstance(model, STSTNet):
    return hook_layer(model, "streams", shift)
  layers: Any
  if isinstance(model, ShallowCNN):
    layers = model.convs
  else:
    layers = model.blocks if isinstance(model, VisionTransformer | T2TViT) else model.stages[-1]
  if isinstance(model, VisionTransformer | T2TViT) and not pools_patch_tokens(model):
    return hook_layer(layers[-1], "norm1", shift)
  return hook_layer(layers, len(layers) - 1, shift)
