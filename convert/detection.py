"""Says what a state dict is: family, variant, and what it holds."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convert.errors import ConversionError

# What a file can hold. The wording is the users': they ask which of MAE's files they have.
CLASSIFIER = "classifier with its head (trained or fine-tuned)"
MAE_FULL = "full MAE with decoder (pre-training or 'visualize' file)"
MAE_ENCODER = "MAE encoder only (pre-training result without decoder or head)"
FCMAE_SPARSE = "full FCMAE with decoder, sparse kernels (pre-training save)"
FCMAE_DENSE = "FCMAE encoder only, dense kernels (released form, no decoder or head)"
PRE_TRAINED = (MAE_FULL, MAE_ENCODER, FCMAE_SPARSE, FCMAE_DENSE)

FAMILY_NAMES = {
  "t2t_vit": "T2T-ViT",
  "vit": "ViT",
  "mae": "MAE",
  "convnextv2": "ConvNeXt V2",
  "fcmae": "FCMAE",
}

# Files of other projects, told by a key of theirs.
_STRANGERS = (
  (r"layer1\.0\.conv1\.weight", "a ResNet"),
  (r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table", "a Swin Transformer"),
  (r"(vit|vit_mae)?\.?encoder\.layer\.0\.attention\..*", "a ViT of the transformers library"),
  (r"(convnextv2\.)?encoder\.stages\.0\.layers\.0\..*", "a ConvNeXt of the transformers library"),
  (r"stages\.0\.blocks\.0\.conv_dw\.weight", "a ConvNeXt of timm"),
  (r"features\.0\.0\.weight", "a torchvision network"),
  (r"(visual|text_model|vision_model)\..*", "a CLIP-like model"),
)


@dataclasses.dataclass(frozen=True)
class Detection:
  """What a state dict seems to be.

  Attributes:
    family: "t2t_vit", "vit", "mae", "convnextv2" or "fcmae"; of an encoder alone the classifier's,
      which is what it can become.
    content: what it holds, one of this module's phrases.
    arguments: constructor keywords that the arrays' shapes show.
    names: models of that family which fit; several when only the number of heads differs, the
      most usual first; none when no named model has these sizes.
  """

  family: str
  content: str
  arguments: dict[str, Any]
  names: tuple[str, ...]

  def __str__(self) -> str:
    known = self.arguments
    if self.names:
      what = " or ".join(self.names)
      known = {k: v for k, v in known.items() if k not in _STRUCTURE}
    else:
      what = f"{FAMILY_NAMES[self.family]} of unnamed sizes"
    shown = ", ".join(f"{k}={v}" for k, v in known.items())
    return f"{what}: {self.content}" + (f" ({shown})" if shown else "")

  def only_name(self) -> str:
    """The model to build when none was named.

    Raises:
      ConversionError: several models fit, or none.
    """
    if len(self.names) == 1:
      return self.names[0]
    if self.names:
      raise ConversionError(
        f"the file fits {len(self.names)} models which differ in nothing a file shows: "
        f"{', '.join(self.names)}",
        remedy="say which one it is with --model (the name)",
      )
    raise ConversionError(
      f"the file is {self}; no named model has these sizes",
      remedy="give the nearest model's name and its sizes, for instance --model NAME --depth 2; "
      "the number of heads cannot be seen in a file",
    )

  def other_sizes(self, sizes: Mapping[str, Any]) -> str:
    """How to name the file's sizes where they differ from a model's; "" when none do."""
    differ = [
      f"--{k} {','.join(map(str, v)) if isinstance(v, list) else v}"
      for k, v in self.arguments.items()
      if k in _STRUCTURE and _comparable(sizes.get(k)) != _comparable(v)
    ]
    if not differ:
      return ""
    named = f"name {' or '.join(self.names)}, or " if self.names else ""
    return f"{named}give the sizes that the file shows: {' '.join(differ)}"


class _Shapes:
  """Shapes by key, with errors that say which key a family cannot do without."""

  def __init__(self, arrays: Mapping[str, np.ndarray], family: str):
    self.arrays, self.family = arrays, family

  def of(self, key: str, rank: int) -> tuple[int, ...]:
    if key not in self.arrays:
      raise ConversionError(f"the file looks like {FAMILY_NAMES[self.family]} but has no {key}")
    shape = np.shape(self.arrays[key])
    if len(shape) != rank or 0 in shape:
      raise ConversionError(
        f"the file looks like {FAMILY_NAMES[self.family]} but {key} has the shape {shape}"
      )
    return shape

  def count(self, pattern: str) -> int:
    """How many numbers follow each other from 0 in the keys matched by `pattern`."""
    numbers = {int(m.group(1)) for key in self.arrays if (m := re.match(pattern, key))}
    return next(i for i in range(len(numbers) + 1) if i not in numbers)

  def classes(self) -> dict[str, int]:
    return {"num_classes": self.of("head.weight", 2)[0]} if "head.weight" in self.arrays else {}

  def grid(self) -> int:
    """Patches along a side, from the position table; the class token has a row of its own."""
    tokens = self.of("pos_embed", 3)[1] - 1
    side = round(tokens**0.5)
    if side < 1 or side * side != tokens:
      raise ConversionError(f"pos_embed has {tokens + 1} rows, not a square grid and a class token")
    return side

  def mlp_ratio(self) -> float:
    # The second layer: the first one of the ghost backbone is narrower than the hidden width.
    dim, hidden = self.of("blocks.0.mlp.fc2.weight", 2)
    return hidden / dim


def detect(arrays: Mapping[str, np.ndarray]) -> Detection:
  """Says what a state dict seems to be, from its keys and shapes alone.

  Args:
    arrays: {torch key: array in torch's layout}.

  Raises:
    ConversionError: no family of ours, with what it may be instead; or a family of ours that
      lacks the arrays which show its sizes.
  """
  keys = set(arrays)
  for family, is_it, describe in _FAMILIES:
    if is_it(keys):
      return describe(_Shapes(arrays, family))
  seems = next((n for p, n in _STRANGERS if any(re.match(rf"{p}\Z", k) for k in keys)), "")
  shown = ", ".join(k[:60] for k in list(arrays)[:4]) or "no keys at all"
  raise ConversionError(
    "the file is none of T2T-ViT, ViT, MAE, ConvNeXt V2 or FCMAE"
    + (f"; it seems to be {seems}" if seems else "")
    + f" (its keys begin with: {shown})",
    remedy="give a checkpoint of one of these families, as its original project saves it",
  )


def _describe_vit(shapes: _Shapes) -> Detection:
  dim, _, patch, _ = shapes.of("patch_embed.proj.weight", 4)
  arguments: dict[str, Any] = {
    "patch_size": patch,
    "embed_dim": dim,
    "depth": shapes.count(r"blocks\.(\d+)\."),
    "mlp_ratio": shapes.mlp_ratio(),
    "image_size": shapes.grid() * patch,
  }
  if "decoder_pred.weight" in shapes.arrays or "decoder_embed.weight" in shapes.arrays:
    arguments |= {
      "decoder_embed_dim": shapes.of("decoder_embed.weight", 2)[0],
      "decoder_depth": shapes.count(r"decoder_blocks\.(\d+)\."),
    }
    return _named("mae", MAE_FULL, arguments)
  if "head.weight" in shapes.arrays or "head.bias" in shapes.arrays:
    arguments |= shapes.classes() | {"global_pool": "fc_norm.weight" in shapes.arrays}
    return _named("vit", CLASSIFIER, arguments)
  return _named("vit", MAE_ENCODER, arguments)


def _describe_t2t(shapes: _Shapes) -> Detection:
  arguments: dict[str, Any] = {
    "embed_dim": shapes.of("cls_token", 3)[2],
    "mlp_ratio": shapes.mlp_ratio(),
    "image_size": shapes.grid() * 16,
  }
  module = "tokens_to_token.attention1"
  if f"{module}.kqv.weight" in shapes.arrays:
    arguments |= {"tokens_type": "performer", "token_dim": shapes.of(f"{module}.w", 2)[1]}
  else:
    wide = shapes.of(f"{module}.attn.qkv.weight", 2)[0]
    arguments |= {"tokens_type": "transformer", "token_dim": wide // 3}
  backbone = next((name for part, name in _BACKBONES if _has(shapes, part)), "plain")
  arguments["backbone"] = backbone
  if backbone == "dense":
    arguments |= _dense_stages(shapes)
  else:
    arguments["depth"] = shapes.count(r"blocks\.(\d+)\.")
  arguments |= shapes.classes()
  arguments |= {"token_labeling": True} if "aux_head.weight" in shapes.arrays else {}
  return _named("t2t_vit", CLASSIFIER, arguments)


_BACKBONES = ((".se_layer.", "se"), (".cheap_operation", "ghost"), (".dense_linear.", "dense"))


def _has(shapes: _Shapes, part: str) -> bool:
  return any(part in key for key in shapes.arrays)


def _dense_stages(shapes: _Shapes) -> dict[str, Any]:
  """Blocks between the transitions of a dense backbone, and what each block appends."""
  stages = [0]
  for number in range(shapes.count(r"blocks\.(\d+)\.")):
    if f"blocks.{number}.linear.weight" in shapes.arrays:
      stages.append(0)
    else:
      stages[-1] += 1
  growth = shapes.of("blocks.0.dense_linear.weight", 2)[0]
  return {"block_config": stages, "growth_rate": growth}


def _convnext_sizes(shapes: _Shapes, prefix: str, pointwise: str) -> dict[str, Any]:
  depths = [shapes.count(rf"{re.escape(prefix)}stages\.{i}\.(\d+)\.") for i in range(4)]
  dims = [shapes.of(f"{prefix}stages.{i}.0.{pointwise}.weight", 2)[1] for i in range(4)]
  return {"depths": depths, "dims": dims}


def _describe_convnext(shapes: _Shapes) -> Detection:
  if not any(key.endswith("grn.gamma") for key in shapes.arrays):
    raise ConversionError(
      "the file seems to be ConvNeXt V1 (it has no global response normalisation)",
      remedy="take the ConvNeXt V2 checkpoint of the same size",
    )
  arguments = _convnext_sizes(shapes, "", "pwconv1") | shapes.classes()
  classifier = {"head.weight", "head.bias", "norm.weight", "norm.bias"} & set(shapes.arrays)
  return _named("convnextv2", CLASSIFIER if classifier else FCMAE_DENSE, arguments)


def _describe_fcmae(shapes: _Shapes) -> Detection:
  arguments = _convnext_sizes(shapes, "encoder.", "pwconv1.linear")
  return _named("fcmae", FCMAE_SPARSE, arguments)


# Asked in this order; the first that says yes describes the file.
_FAMILIES: tuple[tuple[str, Callable[[set[str]], bool], Callable[[_Shapes], Detection]], ...] = (
  ("t2t_vit", lambda keys: any(k.startswith("tokens_to_token.") for k in keys), _describe_t2t),
  ("fcmae", lambda keys: "encoder.downsample_layers.0.0.weight" in keys, _describe_fcmae),
  ("convnextv2", lambda keys: "downsample_layers.0.0.weight" in keys, _describe_convnext),
  (
    "vit",
    lambda keys: "patch_embed.proj.weight" in keys and "blocks.0.attn.qkv.weight" in keys,
    _describe_vit,
  ),
)


# Keywords that are part of a model's name; the others may differ without changing it.
_STRUCTURE = (
  "patch_size",
  "embed_dim",
  "depth",
  "mlp_ratio",
  "decoder_embed_dim",
  "decoder_depth",
  "tokens_type",
  "token_dim",
  "backbone",
  "block_config",
  "growth_rate",
  "depths",
  "dims",
)


def _named(family: str, content: str, arguments: dict[str, Any]) -> Detection:
  """The detection with every named model of the family that has these sizes."""
  from convert.families import family_of, sizes
  from jax_me.models import MODELS

  shown = {k: _comparable(v) for k, v in arguments.items() if k in _STRUCTURE}
  names = [
    name
    for name in MODELS
    if family_of(name) == family
    and all(_comparable(sizes(name).get(k)) == v for k, v in shown.items())
  ]
  return Detection(family, content, arguments, tuple(names))


def _comparable(value: Any) -> Any:
  if isinstance(value, float):
    return round(value, 3)
  return tuple(value) if isinstance(value, list) else value
