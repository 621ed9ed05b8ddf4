"""Optax optimisers for a learning rate of 1; the training step multiplies by the schedule."""

from collections.abc import Collection

import jax
import jax.numpy as jnp
import optax

from jax_me.models.model_folder import ArrayTree
from jax_me.training.param_groups import (
  decays,
  in_head,
  learning_rate_scales,
  map_paths,
)

OPTIMIZERS = ("adamw", "adam", "sgd")


def make_optimizer(
  params: ArrayTree,
  *,
  name: str = "adamw",
  phase: str = "finetune",
  weight_decay: float = 0.05,
  decay_all: bool = False,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  momentum: float = 0.9,
  clip_norm: float = 0.0,
  layer_decay: float = 1.0,
  layer_decay_type: str = "vit",
  freeze_backbone: bool = False,
  frozen_modules: Collection[str] = (),
) -> optax.GradientTransformation:
  """An optimiser whose updates must be multiplied by -lr.

  AdamW decouples the decay (arXiv:1711.05101); Adam and SGD add it to the gradient, as torch does.

  Args:
    params: nested params or their shapes; the paths determine the parameter groups.
    name: "adamw", "adam" or "sgd".
    phase: "pretrain" or "finetune", selects the parameters without decay (`param_groups`).
    weight_decay: lambda; 0 disables it.
    decay_all: decay all parameters.
    b1, b2, eps: of Adam.
    momentum: of SGD.
    clip_norm: maximum global gradient norm; 0 disables clipping.
    layer_decay, layer_decay_type: see `learning_rate_scales`.
    freeze_backbone: update only the head.
    frozen_modules: first parts of the paths of parameters that are not updated.

  Returns:
    the optimiser.

  Raises:
    ValueError: unknown optimiser name, or a layer decay out of range.
  """
  if name not in OPTIMIZERS:
    raise ValueError(f"optimizer.name must be one of {OPTIMIZERS}, got {name!r}")
  mask = map_paths(lambda path, _: decay_all or decays(path, phase), params)
  decay = optax.add_decayed_weights(weight_decay, mask=mask) if weight_decay else optax.identity()
  adam = optax.scale_by_adam(b1=b1, b2=b2, eps=eps)
  chains = {
    "adamw": (adam, decay),
    "adam": (decay, adam),
    "sgd": (decay, optax.trace(decay=momentum) if momentum else optax.identity()),
  }
  parts = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
  parts += chains[name]
  if layer_decay != 1.0:
    scales = learning_rate_scales(params, layer_decay, layer_decay_type)
    factors = map_paths(lambda path, _: scales[path], params)
    parts.append(
      optax.stateless(lambda updates, _: jax.tree.map(lambda u, f: u * f, updates, factors))
    )
  if freeze_backbone or frozen_modules:

    def is_updated(path: str) -> bool:
      return in_head(path) if freeze_backbone else path.split(".")[0] not in frozen_modules

    def keep(updates: ArrayTree, _: ArrayTree | None) -> ArrayTree:
      return map_paths(lambda path, u: u if is_updated(path) else jnp.zeros_like(u), updates)

    parts.append(optax.stateless(keep))
  return optax.chain(*parts)
