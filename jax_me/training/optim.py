"""Optimisers through optax; the learning rate is applied by the step, which knows the schedule."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from jax_me.training.param_groups import decays, learning_rate_scales, map_paths

OPTIMIZERS = ("adamw", "adam", "sgd")


def make_optimizer(
  params: Mapping[str, Any],
  *,
  name: str = "adamw",
  phase: str = "finetune",
  weight_decay: float = 0.05,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  momentum: float = 0.9,
  clip_norm: float = 0.0,
  layer_decay: float = 1.0,
  layer_decay_type: str = "vit",
) -> optax.GradientTransformation:
  """The direction of the update for a learning rate of 1, still to be scaled by -lr.

  AdamW decouples the decay (arXiv:1711.05101); Adam and SGD add it to the gradient, as torch does.

  Args:
    params: nested params (shapes suffice); their paths decide the groups.
    name: "adamw", "adam" or "sgd".
    phase: "pretrain" or "finetune": which parameters are exempt from decay (`param_groups`).
    weight_decay: lambda; 0 switches it off.
    b1, b2, eps: Adam's.
    momentum: SGD's.
    clip_norm: largest global gradient norm; 0 switches clipping off.
    layer_decay, layer_decay_type: see `learning_rate_scales`.

  Raises:
    ValueError: unknown optimiser name, or a layer decay out of range.
  """
  if name not in OPTIMIZERS:
    raise ValueError(f"optimizer.name must be one of {OPTIMIZERS}, got {name!r}")
  mask = map_paths(lambda path, _: decays(path, phase), params)
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
  return optax.chain(*parts)
