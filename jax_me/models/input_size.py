"""Smallest input of a model: a check before a dataset is built, with the sizes that fit."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_me.models.registry import create_abstract_model, default_arguments

# The next larger multiples of these are offered: patches and the strides of all families.
_MULTIPLES = (2, 4, 8, 16, 32)


def check_input_size(name: str, image_size: int, arguments: Mapping[str, Any]) -> None:
  """Checks that a model takes square images of a size; computes nothing.

  Args:
    name: key of `registry.MODELS`.
    image_size: side of the images, pixels.
    arguments: other constructor keywords.

  Raises:
    ValueError: the model does not; one line with the sizes, or the patch sizes, that fit. Or
      another argument is impossible.
  """
  try:
    _build(name, image_size, arguments)
    return
  except (ValueError, ZeroDivisionError) as error:
    reason = str(error).splitlines()[0]
  remedies = []
  larger = sorted({-(-image_size // step) * step for step in _MULTIPLES if image_size > 0})
  fitting = next((size for size in larger if size > image_size and _fits(name, size, arguments)), 0)
  if fitting:
    remedies.append(f"model.image_size={fitting} (images are resized to it)")
  if "patch_size" in default_arguments(name):
    patches = [
      patch
      for patch in range(2, image_size // 2 + 1)
      if image_size % patch == 0 and _fits(name, image_size, {**arguments, "patch_size": patch})
    ]
    if patches:
      remedies.append(f"model.arguments.patch_size={' or '.join(map(str, patches))}")
  if not remedies:
    raise ValueError(reason)
  raise ValueError(
    f"{name} does not take images of {image_size} pixels: set {', or '.join(remedies)}"
  )


def _fits(name: str, image_size: int, arguments: Mapping[str, Any]) -> bool:
  try:
    _build(name, image_size, arguments)
  except (ValueError, ZeroDivisionError):
    return False
  return True


def _build(name: str, image_size: int, arguments: Mapping[str, Any]) -> None:
  """Builds the model without values and, of a classifier, traces its features."""
  model = create_abstract_model(name, **{**arguments, "image_size": image_size})
  if hasattr(model, "features"):
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    nnx.eval_shape(lambda model, images: model.features(images), model, images)
