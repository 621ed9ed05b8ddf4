"""Parameter groups of weight decay and layer-wise learning-rate decay, as in the originals."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
from flax.traverse_util import flatten_dict

from jax_me.models.model_folder import ArrayTree

# Pre-training (timm's add_weight_decay) excludes rank-1 arrays from weight decay. Class and mask
# tokens and GRN weights have leading axes of one in the originals, so they decay; the fine-tuning
# code of ViT and ConvNeXt V2 excludes them by name.
NO_DECAY = {
  "pretrain": frozenset({"bias", "scale"}),
  "finetune": frozenset({"bias", "scale", "gamma", "beta", "cls_token", "pos_embed"}),
}

# `freeze` -> modules that are not updated; "backbone" is treated apart.
FROZEN_MODULES = {"": (), "backbone": (), "token_and_norm": ("cls_token", "norm")}

LAYER_DECAY_TYPES = ("vit", "single", "group", "backbone")


def parameter_paths(params: ArrayTree) -> dict[str, jax.Array]:
  """Nested params -> {"blocks.0.attn.qkv.kernel": array}."""
  return flatten_dict(params, sep=".")


def map_paths(function: Callable[[str, Any], object], params: ArrayTree) -> ArrayTree:
  """Nested params with (dotted path, array) replaced by the result of a function."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: function(jax.tree_util.keystr(path, simple=True, separator="."), leaf),
    params,
  )


def decays(path: str, phase: str) -> bool:
  """Whether weight decay applies to the parameter at `path`.

  Args:
    path: dotted path, see `parameter_paths`.
    phase: "pretrain" or "finetune".
  """
  return path.rsplit(".", 1)[-1] not in NO_DECAY[phase]


def in_head(path: str) -> bool:
  """Whether the parameter at a dotted path belongs to the classification head."""
  return path.split(".")[0] in ("head", "aux_head")


def _vit_layer(path: str, blocks: int) -> int:
  """Position table, class token and patch embedding are layer 0 (MAE, util/lr_decay.py)."""
  if path.split(".")[0] in ("cls_token", "pos_embed", "patch_embed", "tokens_to_token"):
    return 0
  block = re.match(r"blocks\.(\d+)\.", path)
  return int(block[1]) + 1 if block else blocks + 1


def _convnext_single_layer(path: str, depths: list[int]) -> int:
  """One layer per block; a downsampling belongs to the following block; the stem is layer 1."""
  match = re.match(r"(downsample_layers|stages)\.(\d+)\.(\d+)", path)
  if not match:
    return sum(depths) + 1
  stage, block = int(match[2]), int(match[3]) if match[1] == "stages" else 0
  return sum(depths[:stage]) + block + 1


def _convnext_group_layer(path: str) -> int:
  """12 groups: stages 1 and 2, every three blocks of stage 3, stage 4 with its downsampling."""
  match = re.match(r"(downsample_layers|stages)\.(\d+)\.(\d+)", path)
  if not match:
    return 13
  stage, block = int(match[2]), int(match[3])
  if match[1] == "downsample_layers":
    return (0, 2, 3, 12)[stage]
  return (1, 2, 3 + block // 3, 12)[stage]


def _count(paths: Iterable[str], pattern: str) -> int:
  found = [int(m[1]) for m in (re.match(pattern, path) for path in paths) if m]
  return max(found) + 1 if found else 0


def learning_rate_scales(
  params: ArrayTree, layer_decay: float, layer_decay_type: str
) -> dict[str, float]:
  """Layer-wise learning-rate decay: a factor for each parameter.

  Args:
    params: nested params of a classifier.
    layer_decay: factor from one layer to the one before it, in (0, 1]; 1 disables it.
    layer_decay_type: "vit" (also T2T-ViT), or for ConvNeXt V2 "single" (one layer per block) or
      "group" (12 groups), as in the original's --layer_decay_type; "backbone" applies one factor to
      all but the head, as T2T-ViT's transfer_learning.py does.

  Returns:
    {path: factor}; 1 for the head.

  Raises:
    ValueError: factor out of range, or unknown type.
  """
  if not 0.0 < layer_decay <= 1.0:
    raise ValueError(f"optimizer.layer_decay must be in (0, 1], got {layer_decay}")
  if layer_decay_type not in LAYER_DECAY_TYPES:
    raise ValueError(
      f"optimizer.layer_decay_type must be one of {LAYER_DECAY_TYPES}, got {layer_decay_type!r}"
    )
  paths = list(parameter_paths(params))
  if layer_decay == 1.0:
    return dict.fromkeys(paths, 1.0)
  if layer_decay_type == "backbone":
    return {p: 1.0 if p.startswith("head.") else layer_decay for p in paths}
  if layer_decay_type == "vit":
    blocks = _count(paths, r"blocks\.(\d+)\.")
    return {p: layer_decay ** (blocks + 1 - _vit_layer(p, blocks)) for p in paths}
  if layer_decay_type == "single":
    depths = [_count(paths, rf"stages\.{stage}\.(\d+)\.") for stage in range(4)]
    last = sum(depths) + 1
    return {p: layer_decay ** (last - _convnext_single_layer(p, depths)) for p in paths}
  return {p: layer_decay ** (13 - _convnext_group_layer(p)) for p in paths}
