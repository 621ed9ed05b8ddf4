"""Listening to what passes inside a model, without a change to the model's own code.

The models neither keep nor return attention weights and inner feature maps, so that training pays
nothing for them. Here a layer of a *copy* of the model is replaced by a `Tap`, which calls the
layer and remembers; the parameters are shared, the original module is left as it is.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from jax_me.models.t2t_vit import T2TViT
from jax_me.models.vit import VisionTransformer


class Tap:
  """Stands in the place of a layer: calls it, and remembers its last input and output.

  Args:
    layer: the module that is replaced.
    shift: added to the output, where given. The gradient in a shift of zeros is the gradient in
      the output, parameters being left alone.
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


def unrolled(model: Any) -> Any:
  """A copy that shares the parameters and runs its blocks one by one, each once.

  Of blocks that run as one compiled loop (`scan`), or that are recomputed in the backward pass
  (`remat`), single layers cannot be watched. Neither switch changes the result.

  Args:
    model: a classifier of `jax_me.models`.
  """
  graphdef, state = nnx.split(model)
  copy: Any = nnx.merge(graphdef, state)
  copy.scan = copy.remat = False
  return copy


def pools_patches(model: VisionTransformer | T2TViT) -> bool:
  """Whether the classifier takes the mean of the patch tokens, and not the class token."""
  return isinstance(model, VisionTransformer) and model.global_pool


def tap(owner: Any, name: str | int, shift: jax.Array | None = None) -> Tap:
  """Replaces a layer by a `Tap` and returns that: `owner.name`, or an item of a list of layers."""
  if isinstance(name, int):
    found = owner[name] = Tap(owner[name], shift)
  else:
    found = Tap(getattr(owner, name), shift)
    setattr(owner, name, found)
  return found
