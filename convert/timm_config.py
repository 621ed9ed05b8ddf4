"""Settings in the config.json of timm, as constructor keywords of jax_me's models."""

import math
import re
from collections.abc import Mapping
from typing import Any

from .conversion import IMAGENET_MEAN, IMAGENET_STD
from .errors import ConversionError
from .hub_model import (
  Config,
  HubModel,
  Preprocessing,
  channel_values,
  require,
  side_of,
  unique_labels,
)

# Architectures with timm's default settings; the number of heads follows from the size.
_TIMM_VIT = re.compile(
  r"vit_(tiny|small|base|large|huge|giant|gigantic)_patch\d+_\d+(_in21k|_sam|_dino)?(_miil(_in21k)?)?"
)
_TIMM_HEADS = {"tiny": 3, "small": 6, "base": 12}  # 16 for the larger ones
_TIMM_CONVNEXT = re.compile(r"convnextv2_\w+")
# Keywords of timm's constructors that change neither the shapes nor the result of the model.
_TIMM_NEUTRAL = {
  *("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate"),
  *("drop_path_rate", "weight_init", "fix_init", "head_init_scale", "dynamic_img_size"),
  *("strict_img_size", "depth", "embed_dim", "mlp_ratio", "qkv_bias", "depths", "dims"),
  *("num_classes", "num_heads", "patch_size", "img_size", "global_pool", "conv_mlp"),
}
_TIMM_VIT_FIXED = {
  "in_chans": (3,),
  "qk_norm": (False,),
  "scale_attn_norm": (False,),
  "scale_mlp_norm": (False,),
  "proj_bias": (True,),
  "init_values": (None,),
  "class_token": (True,),
  "pos_embed": ("learn",),
  "no_embed_class": (False,),
  "reg_tokens": (0,),
  "pre_norm": (False,),
  "final_norm": (True,),
  "pool_include_prefix": (False,),
  "dynamic_img_pad": (False,),
  "embed_norm_layer": (None,),
  "norm_layer": (None, "layernorm"),
  "act_layer": (None, "gelu"),
}
_TIMM_CONVNEXT_FIXED = {
  "in_chans": (3,),
  "global_pool": ("avg",),
  "output_stride": (32,),
  "kernel_sizes": (7, [7, 7, 7, 7]),
  "ls_init_value": (None,),
  "stem_type": ("patch",),
  "patch_size": (4,),
  "head_norm_first": (False,),
  "head_hidden_size": (None,),
  "conv_bias": (True,),
  "use_grn": (True,),
  "norm_layer": (None, "layernorm", "layernorm2d"),
  "norm_eps": (None, 1e-6),
  "act_layer": (None, "gelu"),
}


def timm_model(config: Config) -> HubModel:
  """The model that the config.json of a folder of timm describes.

  Raises:
    ConversionError: jax_me does not have the model.
  """
  architecture = str(config["architecture"])[:100]
  options: Config = config.get("model_args") or {}
  pretrained: Config = config.get("pretrained_cfg") or config
  vit = _TIMM_VIT.fullmatch(architecture)
  if not vit and not _TIMM_CONVNEXT.fullmatch(architecture):
    raise ConversionError(
      f"config.json describes timm's {architecture!r}, which jax_me does not have",
      remedy="of timm, convnextv2_* and vit_{tiny,small,base,large,huge,giant,gigantic}_patch* "
      "without further options in the name convert",
    )
  where = f"config.json ({architecture})"
  fixed = _TIMM_VIT_FIXED if vit else _TIMM_CONVNEXT_FIXED
  unknown = sorted(set(options) - set(fixed) - _TIMM_NEUTRAL - ({"fc_norm"} if vit else set()))
  if unknown:
    raise ConversionError(f"{where} has unknown model_args: {', '.join(unknown)[:200]}")
  for key, allowed in fixed.items():
    require(options, key, allowed, where)
  side = side_of(list(pretrained.get("input_size", (3, 224, 224))[1:]), "input_size")
  if vit and options.get("img_size"):
    side = side_of(options["img_size"], "img_size")
  arguments: dict[str, Any] = {"image_size": side}
  if vit:
    arguments["num_heads"] = int(options.get("num_heads") or _TIMM_HEADS.get(vit[1], 16))
    pool = options.get("global_pool") or config.get("global_pool") or "token"
    require({"global_pool": pool}, "global_pool", ["token", "avg"], where)
    require(options, "fc_norm", [None, pool == "avg"], where)
    arguments["global_pool"] = pool == "avg"
  notes: list[str] = []
  classes = config.get("num_classes", pretrained.get("num_classes"))
  names = config.get("label_names") or pretrained.get("label_names")
  labels = None
  if classes:
    arguments["num_classes"] = int(classes)
  if isinstance(names, Mapping):
    names = [names[str(number)] for number in range(len(names))]
  if names and len(names) == classes:
    labels = unique_labels(names, notes)
  return HubModel(
    "timm",
    architecture,
    "vit" if vit else "convnextv2",
    arguments,
    labels=labels,
    preprocessing=_timm_preprocessing(pretrained, side),
    notes=notes,
  )


def _timm_preprocessing(config: Config, side: int) -> Preprocessing:
  modes = {"center": "shortest_edge", "squash": "stretch", "border": "longest_edge"}
  fraction = float(config.get("crop_pct") or 0.875)
  return Preprocessing(
    image_size=side,
    mean=channel_values(config.get("mean", IMAGENET_MEAN)),
    std=channel_values(config.get("std", IMAGENET_STD)),
    resize=modes[config.get("crop_mode") or "center"],
    resize_to=math.floor(side / fraction),
    crop_fraction=fraction,
    interpolation=str(config.get("interpolation") or "bicubic")[:20],
  )
