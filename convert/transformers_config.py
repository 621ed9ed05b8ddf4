"""Settings in the JSON files of transformers, as constructor keywords of jax_me's models."""

import math
from typing import Any

from .errors import ConversionError
from .hub_model import (
  Config,
  HubModel,
  Preprocessing,
  channel_values,
  ratio_of,
  require,
  side_of,
  unique_labels,
)

# {(model_type, architecture): (family, whether it has a head)}.
_ARCHITECTURES = {
  ("vit", "ViTForImageClassification"): ("vit", True),
  ("vit", "ViTModel"): ("vit", False),
  ("vit_mae", "ViTMAEForPreTraining"): ("mae", False),
  ("vit_mae", "ViTMAEModel"): ("vit", False),
  ("convnextv2", "ConvNextV2ForImageClassification"): ("convnextv2", True),
  ("convnextv2", "ConvNextV2Model"): ("convnextv2", False),
}
# Defaults of the library's configuration classes: files of older versions lack some settings.
_VIT_DEFAULTS = {
  "hidden_size": 768,
  "num_hidden_layers": 12,
  "num_attention_heads": 12,
  "intermediate_size": 3072,
  "layer_norm_eps": 1e-12,
  "image_size": 224,
  "patch_size": 16,
  "qkv_bias": True,
  "decoder_hidden_size": 512,
  "decoder_num_hidden_layers": 8,
  "decoder_num_attention_heads": 16,
  "decoder_intermediate_size": 2048,
  "norm_pix_loss": False,
}
_CONVNEXT_DEFAULTS = {
  "hidden_sizes": [96, 192, 384, 768],
  "depths": [3, 3, 9, 3],
  "layer_norm_eps": 1e-12,
  "image_size": 224,
}
_INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # of Pillow


def transformers_model(config: Config, processor: Config | None) -> HubModel:
  """The model that the JSON files of a folder of transformers describe.

  Args:
    config: content of config.json.
    processor: content of preprocessor_config.json, if there is one.

  Raises:
    ConversionError: jax_me does not have the model.
  """
  model_type, architectures = config["model_type"], config.get("architectures") or ["none"]
  known = _ARCHITECTURES.get((model_type, architectures[0]))
  if known is None or "auto_map" in config:
    supported = ", ".join(name for _, name in _ARCHITECTURES)
    custom = " with code of its own (auto_map)" if "auto_map" in config else ""
    raise ConversionError(
      f"config.json describes {str(architectures[0])[:100]} (model_type "
      f"{str(model_type)[:100]!r}){custom}, which jax_me does not have",
      remedy=f"of transformers, these convert: {supported}",
    )
  family, has_head = known
  require(config, "hidden_act", ["gelu"], "config.json")
  require(config, "num_channels", [3], "config.json")
  if family == "convnextv2":
    require(config, "patch_size", [4], "config.json")
    require(config, "num_stages", [4], "config.json")
    arguments = _convnext_arguments({**_CONVNEXT_DEFAULTS, **config})
  else:
    arguments = _vit_arguments({**_VIT_DEFAULTS, **config}, family)
    if model_type == "vit":
      arguments["global_pool"] = False
  notes: list[str] = []
  warnings: list[str] = []
  labels = None
  if has_head:
    names = config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(2)}
    labels = unique_labels([names[str(number)] for number in range(len(names))], notes)
    arguments["num_classes"] = len(labels)
    if config.get("problem_type") not in (None, "single_label_classification"):
      warnings.append(
        f"the head was trained for {config['problem_type']!r}: the softmax of `predict` is wrong"
      )
  preprocessing = None
  if processor is not None:
    preprocessing = _processor(processor)
    if family == "convnextv2":
      arguments["image_size"] = preprocessing.image_size
    elif preprocessing.image_size != arguments["image_size"]:
      raise ConversionError(
        f"preprocessor_config.json makes images of {preprocessing.image_size} pixels, but "
        f"config.json's model takes {arguments['image_size']}",
        remedy="correct the size in preprocessor_config.json, or remove that file",
      )
  return HubModel(
    "transformers",
    architectures[0],
    family,
    arguments,
    labels=labels,
    preprocessing=preprocessing,
    notes=notes,
    warnings=warnings,
  )


def _convnext_arguments(config: Config) -> dict[str, Any]:
  return {
    "depths": [int(depth) for depth in config["depths"]],
    "dims": [int(dim) for dim in config["hidden_sizes"]],
    "image_size": side_of(config["image_size"], "image_size"),
    "final_norm_epsilon": _epsilon(config),  # of the last norm alone
  }


def _vit_arguments(config: Config, family: str) -> dict[str, Any]:
  dim, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
  require(config, "head_dim", [None, dim // heads], "config.json")
  arguments = {
    "patch_size": side_of(config["patch_size"], "patch_size"),
    "embed_dim": dim,
    "depth": int(config["num_hidden_layers"]),
    "num_heads": heads,
    "mlp_ratio": ratio_of(int(config["intermediate_size"]), dim),
    "image_size": side_of(config["image_size"], "image_size"),
    "norm_epsilon": _epsilon(config),
  }
  if family == "vit":
    return arguments | {"qkv_bias": bool(config["qkv_bias"])}
  width = int(config["decoder_hidden_size"])
  require(config, "qkv_bias", [True], "config.json")
  if ratio_of(int(config["decoder_intermediate_size"]), width) != arguments["mlp_ratio"]:
    raise ConversionError(
      "config.json gives encoder and decoder different MLP ratios (intermediate_size over "
      "hidden_size, decoder_intermediate_size over decoder_hidden_size); jax_me's MAE has one"
    )
  return arguments | {
    "decoder_embed_dim": width,
    "decoder_depth": int(config["decoder_num_hidden_layers"]),
    "decoder_num_heads": int(config["decoder_num_attention_heads"]),
    "norm_pix_loss": bool(config["norm_pix_loss"]),
  }


def _epsilon(config: Config) -> float:
  epsilon = float(config["layer_norm_eps"])
  if not 0 < epsilon < 1:
    raise ConversionError(f"config.json sets layer_norm_eps = {epsilon}")
  return epsilon


def _processor(config: Config) -> Preprocessing:
  """Content of preprocessor_config.json, of this and older versions."""
  kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
  require(config, "do_flip_channel_order", [False, None], "preprocessor_config.json")
  convnext = kind.startswith("ConvNext")
  size = config.get("size", {"shortest_edge": 384} if convnext else 224)
  resize, fraction = "stretch", 1.0
  if isinstance(size, int):  # older versions
    size = {"shortest_edge": size} if convnext else {"height": size, "width": size}
  if "shortest_edge" in size:
    resize_to = side = side_of(size["shortest_edge"], "size")
    if convnext and side < 384:  # larger images are stretched and not cropped
      resize, fraction = "shortest_edge", float(config.get("crop_pct") or 224 / 256)
      resize_to = int(side / fraction)
    elif not convnext:
      resize = "shortest_edge"
  else:
    resize_to = side = side_of([size["height"], size["width"]], "size")
  if config.get("do_center_crop"):
    crop = config["crop_size"]
    side = side_of(crop if isinstance(crop, int) else list(crop.values()), "crop_size")
    fraction = side / resize_to
  elif resize == "shortest_edge" and not convnext:
    raise ConversionError(
      "preprocessor_config.json keeps the aspect ratio and does not crop; jax_me's models take "
      "square images"
    )
  if not config.get("do_resize", True):
    resize, resize_to = "none", side
  # The library computes (pixel * factor - mean) / std, jax_me (pixel / 255 - mean) / std.
  factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
  scale = 1.0 if math.isclose(factor, 1 / 255, rel_tol=1e-9) else 1 / (255 * factor)
  if config.get("do_normalize", True):
    mean, std = config.get("image_mean", 0.5), config.get("image_std", 0.5)
  else:
    mean, std = 0.0, 1.0
  return Preprocessing(
    image_size=side,
    mean=[value * scale for value in channel_values(mean)],
    std=[value * scale for value in channel_values(std)],
    resize=resize,
    resize_to=resize_to,
    crop_fraction=fraction,
    interpolation=_INTERPOLATIONS[int(config.get("resample", 3 if convnext else 2))],
    crop_rounding="down",
  )
