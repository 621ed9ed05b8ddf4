"""Activation hooks: intermediate activations of a model, without changes to the model's code.

The models neither keep nor return attention weights and feature maps, so that training does not
pay for them. Instead, a layer of a *copy* of the model is replaced by an `ActivationHook`, which
calls the layer and records its input and output. The copy shares the parameters; the original
module is unchanged.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx

from jax_me.models.t2t_vit import T2TViT
from jax_me.models.vit import VisionTransformer

Model = TypeVar("Model", bound=nnx.Module)


class ActivationHook:
  """Replaces a layer: calls it and records its last input and output.

  Args:
    layer: the wrapped layer.
    shift: added to the output if given. The gradient with respect to a shift of zeros equals the
      gradient with respect to the output; no parameter gradients are computed.
  """

  def __init__(self, layer: Callable[..., jax.Array], shift: jax.Array | None = None):
    self._layer = layer
    self._shift = shift
    self.input: jax.Array | None = None
    self.output: jax.Array | None = None

  def __call__(self, x: jax.Array, *arguments: Any) -> jax.Array:
    self.input = x
    output = self._layer(x, *arguments)
    self.output = output if self._shift is None else output + self._shift.astype(output.dtype)
    return self.output


def unrolled_copy(model: Model) -> Model:
  """A copy of a classifier that shares its parameters, without `scan` and `remat`.

  Layers inside a compiled loop (`scan`) or a recomputed block (`remat`) cannot be hooked. Neither
  switch changes the result.
  """
  graphdef, state = nnx.split(model)
  copy: Any = nnx.merge(graphdef, state)
  copy.scan = copy.remat = False
  return copy


def pools_patch_tokens(model: VisionTransformer | T2TViT) -> bool:
  """Whether the classifier head reads the mean of the patch tokens instead of the class token."""
  return isinstance(model, VisionTransformer) and model.global_pool


def hook_layer(
  owner: nnx.Module | nnx.List, name: str | int, shift: jax.Array | None = None
) -> ActivationHook:
  """Replaces one layer by an `ActivationHook`.

  Args:
    owner: module or list that holds the layer; modified in place.
    name: attribute name of the layer, or its index in a list.
    shift: see `ActivationHook`.

  Returns:
    the hook; its `input` and `output` are set by the next forward pass.
  """
  target: Any = owner
  if isinstance(name, int):
    hook = target[name] = ActivationHook(target[name], shift)
  else:
    hook = ActivationHook(getattr(target, name), shift)
    setattr(target, name, hook)
  return hook
