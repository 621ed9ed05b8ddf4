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


class _Unknown(Exception):
  """The array that would show a size is missing or misshapen; matching will list it."""


def _known(**arguments: Callable[[], Any]) -> dict[str, Any]:
  """The arguments that the file does show."""
  known = {}
  for name, look in arguments.items():
    try:
      known[name] = look()
    except _Unknown:
      continue
  return known


class _Shapes:
  """Looks sizes up in a state dict."""

  def __init__(self, arrays: Mapping[str, np.ndarray]):
    self.arrays = arrays

  def of(self, key: str, rank: int) -> tuple[int, ...]:
    shape = np.shape(self.arrays[key]) if key in self.arrays else ()
    if len(shape) != rank or 0 in shape:
      raise _Unknown
    return shape

  def any(self, pattern: str) -> bool:
    """Whether some key begins like the regular expression."""
    return any(re.match(pattern, key) for key in self.arrays)

  def count(self, pattern: str) -> int:
    """How many numbers follow each other from 0 in the keys that begin like `pattern`."""
    numbers = {int(m.group(1)) for key in self.arrays if (m := re.match(pattern, key))}
    return next(i for i in range(len(numbers) + 1) if i not in numbers)

  def classes(self) -> int:
    if "head.weight" in self.arrays:
      return self.of("head.weight", 2)[0]
    return self.of("head.bias", 1)[0]

  def grid(self) -> int:
    """Patches along a side, from the position table; the class token has a row of its own."""
    tokens = self.of("pos_embed", 3)[1] - 1
    side = round(max(tokens, 0) ** 0.5)
    if side < 1 or side * side != tokens:
      raise _Unknown
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
    ConversionError: no family of ours, with what it may be instead.
  """
  shapes = _Shapes(arrays)
  for sign, describe in _FAMILIES:
    if shapes.any(sign):
      return describe(shapes)
  seems = next((name for sign, name in _STRANGERS if shapes.any(rf"{sign}\Z")), "")
  shown = ", ".join(k[:60] for k in list(arrays)[:4]) or "no keys at all"
  raise ConversionError(
    "the file is none of T2T-ViT, ViT, MAE, ConvNeXt V2 or FCMAE"
    + (f"; it seems to be {seems}" if seems else "")
    + f" (its keys begin with: {shown})",
    remedy="give a checkpoint of one of these families, as its original project saves it",
  )


def _describe_vit(shapes: _Shapes) -> Detection:
  arguments = _known(
    patch_size=lambda: shapes.of("patch_embed.proj.weight", 4)[2],
    embed_dim=lambda: shapes.of("patch_embed.proj.weight", 4)[0],
    depth=lambda: shapes.count(r"blocks\.(\d+)\."),
    mlp_ratio=shapes.mlp_ratio,
    image_size=lambda: shapes.grid() * shapes.of("patch_embed.proj.weight", 4)[2],
  )
  if shapes.any(r"decoder_|mask_token"):
    arguments |= _known(
      decoder_embed_dim=lambda: shapes.of("decoder_embed.weight", 2)[0],
      decoder_depth=lambda: shapes.count(r"decoder_blocks\.(\d+)\."),
    )
    return _named("mae", MAE_FULL, arguments)
  if not shapes.any(r"head\.|fc_norm\."):
    return _named("vit", MAE_ENCODER, arguments)
  arguments |= _known(num_classes=shapes.classes)
  if shapes.any(r"(fc_)?norm\."):
    arguments["global_pool"] = shapes.any(r"fc_norm\.")
  return _named("vit", CLASSIFIER, arguments)


def _describe_t2t(shapes: _Shapes) -> Detection:
  module = "tokens_to_token.attention1"
  performer = shapes.any(r"tokens_to_token\.attention\d\.(w\Z|kqv\.)")
  arguments = _known(
    embed_dim=lambda: shapes.of("cls_token", 3)[2],
    mlp_ratio=shapes.mlp_ratio,
    image_size=lambda: shapes.grid() * 16,
    tokens_type=lambda: "performer" if performer else "transformer",
    token_dim=lambda: (
      shapes.of(f"{module}.proj.weight", 2)[0]
      if performer
      else shapes.of(f"{module}.attn.proj.weight", 2)[0]
    ),
    num_classes=shapes.classes,
  )
  backbones = (("se_layer", "se"), ("cheap_operation", "ghost"), ("dense_linear", "dense"))
  backbone = next((name for part, name in backbones if shapes.any(rf"blocks\..*{part}")), "plain")
  arguments["backbone"] = backbone
  if backbone == "dense":
    arguments |= _known(
      block_config=lambda: _dense_stages(shapes),
      growth_rate=lambda: shapes.of("blocks.0.dense_linear.weight", 2)[0],
    )
  else:
    arguments["depth"] = shapes.count(r"blocks\.(\d+)\.")
  arguments |= {"token_labeling": True} if shapes.any(r"aux_head\.") else {}
  return _named("t2t_vit", CLASSIFIER, arguments)


def _dense_stages(shapes: _Shapes) -> list[int]:
  """How many blocks stand between the transitions of a dense backbone."""
  stages = [0]
  for number in range(shapes.count(r"blocks\.(\d+)\.")):
    if f"blocks.{number}.linear.weight" in shapes.arrays:
      stages.append(0)
    else:
      stages[-1] += 1
  return stages


def _convnext_sizes(shapes: _Shapes, prefix: str, pointwise: str) -> dict[str, Any]:
  return _known(
    depths=lambda: [shapes.count(rf"{re.escape(prefix)}stages\.{i}\.(\d+)\.") for i in range(4)],
    dims=lambda: [shapes.of(f"{prefix}stages.{i}.0.{pointwise}.weight", 2)[1] for i in range(4)],
  )


def _describe_convnext(shapes: _Shapes) -> Detection:
  if not shapes.any(r".*\.grn\."):
    raise ConversionError(
      "the file seems to be ConvNeXt V1 (it has no global response normalisation)",
      remedy="take the ConvNeXt V2 checkpoint of the same size",
    )
  arguments = _convnext_sizes(shapes, "", "pwconv1")
  if not shapes.any(r"(head|norm)\."):
    return _named("convnextv2", FCMAE_DENSE, arguments)
  return _named("convnextv2", CLASSIFIER, arguments | _known(num_classes=shapes.classes))


def _describe_fcmae(shapes: _Shapes) -> Detection:
  sizes = _convnext_sizes(shapes, "encoder.", "pwconv1.linear") | _known(
    decoder_embed_dim=lambda: shapes.of("proj.weight", 4)[0],
    decoder_depth=lambda: shapes.count(r"decoder\.(\d+)\."),
  )
  return _named("fcmae", FCMAE_SPARSE, sizes)


# How some key begins, asked in this order, and who describes the file.
_FAMILIES: tuple[tuple[str, Callable[[_Shapes], Detection]], ...] = (
  (r"tokens_to_token\.", _describe_t2t),
  (r"encoder\.downsample_layers\.", _describe_fcmae),
  (r"downsample_layers\.", _describe_convnext),
  (r"blocks\.\d+\.attn\.qkv\.", _describe_vit),
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
  from convert.named_models import family_of, sizes
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
