"""Which parameters decay and how fast each layer learns: the grouping rules of the originals."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

# Weight decay is applied to matrices only. Pre-training (timm's add_weight_decay) skips rank-1
# arrays, which leaves the class and mask tokens and the GRN weights decayed, as they carry leading
# axes of one in the originals; fine-tuning of ViT and ConvNeXt V2 names those as exempt too.
NO_DECAY = {
  "pretrain": frozenset({"bias", "scale"}),
  "finetune": frozenset({"bias", "scale", "gamma", "beta", "cls_token", "pos_embed"}),
}

LAYER_DECAY_TYPES = ("vit", "single", "group", "backbone")


def parameter_paths(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Nested params -> {"blocks.0.attn.qkv.kernel": array}."""
  paths: dict[str, Any] = {}
  for key, value in params.items():
    path = f"{prefix}{key}"
    if isinstance(value, Mapping):
      paths.update(parameter_paths(value, f"{path}."))
    else:
      paths[path] = value
  return paths


def map_paths(function, params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """`function(path, leaf)` over nested params, keeping the nesting."""
  return {
    key: map_paths(function, value, f"{prefix}{key}.")
    if isinstance(value, Mapping)
    else function(f"{prefix}{key}", value)
    for key, value in params.items()
  }


def decays(path: str, phase: str) -> bool:
  """Whether weight decay applies to the parameter at `path`.

  Args:
    path: dotted, as `parameter_paths` gives it.
    phase: "pretrain" or "finetune".
  """
  return path.rsplit(".", 1)[-1] not in NO_DECAY[phase]


def _vit_layer(path: str, blocks: int) -> int:
  """Position table, class token and patch embedding are layer 0 (MAE, util/lr_decay.py)."""
  if path.split(".")[0] in ("cls_token", "pos_embed", "patch_embed", "tokens_to_token"):
    return 0
  block = re.match(r"blocks\.(\d+)\.", path)
  return int(block[1]) + 1 if block else blocks + 1


def _convnext_single_layer(path: str, depths: list[int]) -> int:
  """Each block is a layer; a downsampling belongs to the block after it; the stem is layer 1."""
  match = re.match(r"(downsample_layers|stages)\.(\d+)\.(\d+)", path)
  if not match:
    return sum(depths) + 1
  stage, block = int(match[2]), int(match[3]) if match[1] == "stages" else 0
  return sum(depths[:stage]) + block + 1


def _convnext_group_layer(path: str) -> int:
  """Twelve groups: stages 1 and 2 whole, three blocks of stage 3 each, stage 4 with its entry."""
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
  params: Mapping[str, Any], layer_decay: float, layer_decay_type: str
) -> dict[str, float]:
  """Layer-wise learning-rate decay: a factor for every parameter.

  Args:
    params: nested params of a classifier.
    layer_decay: factor from one layer to the one before it, in (0, 1]; 1 switches it off.
    layer_decay_type: "vit" (also T2T-ViT), or for ConvNeXt V2 "single" (a layer a block) or
      "group" (12 groups), as in the original's --layer_decay_type; "backbone" gives all but the
      head one factor, as T2T-ViT's transfer_learning.py does.

  Returns:
    {path: factor}; the head has 1.

  Raises:
    ValueError: factor or type out of range.
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
