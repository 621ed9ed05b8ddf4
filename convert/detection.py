"""Detection of a state dict's model family, sizes and content, and lookup of named models."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jax_me.models import MODELS, weight_mapping
from jax_me.models.registry import default_arguments

from .errors import ConversionError
from .hub_model import ratio_of

# Contents of a file, in words that distinguish the files that MAE and ConvNeXt V2 published.
CLASSIFIER = "classifier with its head (trained or fine-tuned)"
MAE_FULL = "full MAE with decoder (pre-training or 'visualize' file)"
HEADLESS = "encoder with the norm before the head, without head"
MAE_ENCODER = "MAE encoder only (pre-training result without decoder or head)"
FCMAE_SPARSE = "full FCMAE with decoder, sparse kernels (pre-training save)"
FCMAE_DENSE = "FCMAE encoder only, dense kernels (released form, no decoder or head)"

FAMILY_NAMES = {
  "t2t_vit": "T2T-ViT",
  "vit": "ViT",
  "mae": "MAE",
  "convnextv2": "ConvNeXt V2",
  "fcmae": "FCMAE",
}

# Formats of other projects, recognised by one of their keys.
UNSUPPORTED_FORMATS = (
  (r"layer1\.0\.conv1\.weight", "a ResNet"),
  (r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table", "a Swin Transformer"),
  (
    r"(deit|beit|dinov2\w*|swin\w*|segformer|convnext)\.(embeddings|encoder)\..*",
    "another model of the transformers library",
  ),
  (r"timm_model\..*", "a model of timm, saved by transformers' TimmWrapper"),
  (r"features\.0\.0\.weight", "a torchvision network"),
  (r"(visual|text_model|vision_model)\..*", "a CLIP-like model"),
)

Arguments = dict[str, Any]  # Constructor keywords.


@dataclasses.dataclass(frozen=True)
class Detection:
  """Model family, sizes and content of a state dict.

  Attributes:
    family: "t2t_vit", "vit", "mae", "convnextv2" or "fcmae"; for an encoder alone the family of
      the classifier that it can be converted to.
    content: one of this module's constants, such as CLASSIFIER or MAE_FULL.
    arguments: constructor keywords that follow from the arrays' shapes.
    names: models of that family with these sizes; several when only the number of heads differs,
      the most common first; none when no named model has these sizes.
  """

  family: str
  content: str
  arguments: Arguments
  names: tuple[str, ...]

  def __str__(self) -> str:
    arguments = self.arguments
    if self.names:
      model = " or ".join(self.names)
      arguments = {k: v for k, v in arguments.items() if k not in _SIZES}
    else:
      model = f"{FAMILY_NAMES[self.family]} of unnamed sizes"
    keywords = ", ".join(f"{k}={v}" for k, v in arguments.items())
    return f"{model}: {self.content}" + (f" ({keywords})" if keywords else "")

  def only_name(self) -> str:
    """The name of the model, when it is unambiguous.

    Raises:
      ConversionError: several models match, or none.
    """
    if len(self.names) == 1:
      return self.names[0]
    if self.names:
      raise ConversionError(
        f"the file matches {len(self.names)} models with the same array shapes: "
        f"{', '.join(self.names)}",
        remedy="choose one with --model NAME",
      )
    raise ConversionError(
      f"the file is {self}; no named model has these sizes",
      remedy="give the name of a similar model and the sizes, for instance --model NAME --depth 2; "
      "the number of heads cannot be inferred from a file",
    )

  def sizes(self) -> Arguments:
    """The constructor keywords that a model's name determines."""
    return {k: v for k, v in self.arguments.items() if k in _SIZES}

  def size_flags(self, sizes: Mapping[str, object]) -> str:
    """Advice that lists the flags of the file's sizes that differ from `sizes`; "" when none do."""
    differ = [
      f"--{k} {','.join(map(str, v)) if isinstance(v, list) else v}"
      for k, v in self.arguments.items()
      if k in _SIZES and _comparable(sizes.get(k)) != _comparable(v)
    ]
    if not differ:
      return ""
    name = f"use --model {' or '.join(self.names)}, or " if self.names else ""
    return f"{name}give the sizes of the file: {' '.join(differ)}"


class _Shapes:
  """Sizes of the arrays of a state dict; None where the array is missing or has another rank.

  Matching reports such an array.
  """

  def __init__(self, arrays: Mapping[str, np.ndarray]):
    self.arrays = arrays

  def size(self, key: str, rank: int, axis: int) -> int | None:
    shape = np.shape(self.arrays[key]) if key in self.arrays else ()
    return shape[axis] if len(shape) == rank and 0 not in shape else None

  def any(self, pattern: str) -> bool:
    """Whether the regular expression matches the start of some key."""
    return any(re.match(pattern, key) for key in self.arrays)

  def count(self, pattern: str) -> int:
    """Number of consecutive indices from 0 in the group of `pattern`, over all keys."""
    numbers = {int(m.group(1)) for key in self.arrays if (m := re.match(pattern, key))}
    return next(i for i in range(len(numbers) + 1) if i not in numbers)

  def classes(self) -> int | None:
    if "head.weight" in self.arrays:
      return self.size("head.weight", 2, 0)
    return self.size("head.bias", 1, 0)

  def image_size(self, patch_size: int | None) -> int | None:
    """From the patches in the position table, whose first row is the class token's."""
    tokens = (self.size("pos_embed", 3, 1) or 0) - 1
    side = round(max(tokens, 0) ** 0.5)
    return side * patch_size if patch_size and side and side * side == tokens else None

  def mlp_ratio(self) -> float | None:
    # From the second layer: the first one of the ghost backbone is narrower than the hidden width.
    dim = self.size("blocks.0.mlp.fc2.weight", 2, 0)
    hidden = self.size("blocks.0.mlp.fc2.weight", 2, 1)
    return ratio_of(hidden, dim) if dim and hidden else None

  def convnext(self, prefix: str, pointwise: str) -> Arguments:
    """Blocks and channels of the four stages."""
    stages = re.escape(f"{prefix}stages.")
    dims = [self.size(f"{prefix}stages.{i}.0.{pointwise}.weight", 2, 1) for i in range(4)]
    return {
      "depths": [self.count(rf"{stages}{i}\.(\d+)\.") for i in range(4)],
      "dims": None if None in dims else dims,
    }


def detect(arrays: Mapping[str, np.ndarray]) -> Detection:
  """Detects family, sizes and content of a state dict from its keys and shapes.

  Args:
    arrays: {torch key: array in torch's layout}.

  Raises:
    ConversionError: unsupported family; the message names the format if it is recognised.
  """
  shapes = _Shapes(arrays)
  for pattern, describe in _FAMILIES:
    if shapes.any(pattern):
      return describe(shapes)
  formats = (name for pattern, name in UNSUPPORTED_FORMATS if shapes.any(rf"{pattern}\Z"))
  other = next(formats, "")
  keys = ", ".join(k[:60] for k in list(arrays)[:4]) or "no keys at all"
  raise ConversionError(
    "the file is none of T2T-ViT, ViT, MAE, ConvNeXt V2 or FCMAE"
    + (f"; it seems to be {other}" if other else "")
    + f" (its first keys: {keys})",
    remedy="give a checkpoint of one of these families, as saved by its original project",
  )


def _describe_vit(shapes: _Shapes) -> Detection:
  patch_size = shapes.size("patch_embed.proj.weight", 4, 2)
  arguments: Arguments = {
    "patch_size": patch_size,
    "embed_dim": shapes.size("patch_embed.proj.weight", 4, 0),
    "depth": shapes.count(r"blocks\.(\d+)\."),
    "mlp_ratio": shapes.mlp_ratio(),
    "image_size": shapes.image_size(patch_size),
  }
  if shapes.any(r"decoder_|mask_token"):
    arguments["decoder_embed_dim"] = shapes.size("decoder_embed.weight", 2, 0)
    arguments["decoder_depth"] = shapes.count(r"decoder_blocks\.(\d+)\.")
    return _detection("mae", MAE_FULL, arguments)
  if not shapes.any(r"blocks\.\d+\.attn\.qkv\.bias"):
    arguments["qkv_bias"] = False
  if not shapes.any(r"head\.|fc_norm\."):
    return _detection("vit", MAE_ENCODER, arguments)
  arguments["num_classes"] = shapes.classes()
  arguments["representation_size"] = shapes.size("pre_logits.fc.weight", 2, 0)
  if shapes.any(r"(fc_)?norm\."):
    arguments["global_pool"] = shapes.any(r"fc_norm\.")
  return _detection("vit", CLASSIFIER if shapes.any(r"head\.") else HEADLESS, arguments)


def _describe_t2t(shapes: _Shapes) -> Detection:
  module = "tokens_to_token.attention1"
  performer = shapes.any(r"tokens_to_token\.attention\d\.(w\Z|kqv\.)")
  backbones = (("se_layer", "se"), ("cheap_operation", "ghost"), ("dense_linear", "dense"))
  backbone = next((name for part, name in backbones if shapes.any(rf"blocks\..*{part}")), "plain")
  arguments: Arguments = {
    "embed_dim": shapes.size("cls_token", 3, 2),
    "mlp_ratio": shapes.mlp_ratio(),
    "image_size": shapes.image_size(16),
    "tokens_type": "performer" if performer else "transformer",
    "token_dim": shapes.size(f"{module}.{'' if performer else 'attn.'}proj.weight", 2, 0),
    "num_classes": shapes.classes(),
    "backbone": backbone,
  }
  if backbone == "dense":
    arguments["block_config"] = _dense_stages(shapes)
    arguments["growth_rate"] = shapes.size("blocks.0.dense_linear.weight", 2, 0)
  else:
    arguments["depth"] = shapes.count(r"blocks\.(\d+)\.")
  if shapes.any(r"aux_head\."):
    arguments["token_labeling"] = True
  return _detection("t2t_vit", CLASSIFIER, arguments)


def _dense_stages(shapes: _Shapes) -> list[int]:
  """Number of blocks of each stage of a dense backbone; stages are separated by transitions."""
  stages = [0]
  for number in range(shapes.count(r"blocks\.(\d+)\.")):
    if f"blocks.{number}.linear.weight" in shapes.arrays:
      stages.append(0)
    else:
      stages[-1] += 1
  return stages


def _describe_convnext(shapes: _Shapes) -> Detection:
  if not shapes.any(r".*\.grn\."):
    raise ConversionError(
      "the file seems to be ConvNeXt V1 (it has no global response normalisation)",
      remedy="use the ConvNeXt V2 checkpoint of the same size",
    )
  arguments = shapes.convnext("", "pwconv1")
  if not shapes.any(r"(head|norm)\."):
    return _detection("convnextv2", FCMAE_DENSE, arguments)
  if not shapes.any(r"head\."):
    return _detection("convnextv2", HEADLESS, arguments)
  return _detection("convnextv2", CLASSIFIER, arguments | {"num_classes": shapes.classes()})


def _describe_fcmae(shapes: _Shapes) -> Detection:
  arguments = shapes.convnext("encoder.", "pwconv1.linear")
  arguments["decoder_embed_dim"] = shapes.size("proj.weight", 4, 0)
  arguments["decoder_depth"] = shapes.count(r"decoder\.(\d+)\.")
  return _detection("fcmae", FCMAE_SPARSE, arguments)


# Pattern of a key and the function that describes the file; the first match is used.
_FAMILIES: tuple[tuple[str, Callable[[_Shapes], Detection]], ...] = (
  (r"tokens_to_token\.", _describe_t2t),
  (r"encoder\.downsample_layers\.", _describe_fcmae),
  (r"downsample_layers\.", _describe_convnext),
  (r"blocks\.\d+\.attn\.qkv\.", _describe_vit),
)


# Keywords that a model's name determines; the others may differ under the same name.
_SIZES = {
  *("patch_size", "embed_dim", "depth", "mlp_ratio"),
  *("decoder_embed_dim", "decoder_depth"),
  *("tokens_type", "token_dim", "backbone", "block_config", "growth_rate"),
  *("depths", "dims"),
}


def _detection(family: str, content: str, arguments: Arguments) -> Detection:
  """The detection with every named model of the family that has these sizes."""
  arguments = {k: v for k, v in arguments.items() if v is not None}
  sizes = {k: _comparable(v) for k, v in arguments.items() if k in _SIZES}
  names = [
    name
    for name in MODELS
    if family_of(name) == family
    and all(_comparable(default_arguments(name).get(k)) == v for k, v in sizes.items())
  ]
  return Detection(family, content, arguments, tuple(names))


def _comparable(value: Any) -> Any:
  if isinstance(value, float):
    return round(value, 3)
  return tuple(value) if isinstance(value, list) else value


def family_of(name: str) -> str:
  """Family of a named model.

  Raises:
    ConversionError: no such model.
  """
  if name not in MODELS:
    similar = difflib.get_close_matches(name, MODELS, n=3)
    raise ConversionError(
      f"unknown model {name!r}", remedy=f"choose one of {', '.join(similar or sorted(MODELS))}"
    )
  return weight_mapping.family_of(name)


def closest_name(family: str, arguments: Mapping[str, Any]) -> str:
  """The named model of a family that has most of these constructor keywords by default."""
  return max(
    (name for name in MODELS if family_of(name) == family),
    key=lambda name: len(arguments) - len(changed_arguments(name, arguments)),
  )


def changed_sizes(first: Arguments, second: Arguments) -> list[str]:
  """The keywords that are in both with different values; all floats here are MLP ratios."""
  return [k for k in first if k in second and _comparable(first[k]) != _comparable(second[k])]


def changed_arguments(name: str, arguments: Mapping[str, Any]) -> Arguments:
  """The constructor keywords that differ from those of a named model."""

  def fixed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

  defaults = default_arguments(name)
  return {k: v for k, v in arguments.items() if k not in defaults or fixed(v) != fixed(defaults[k])}
