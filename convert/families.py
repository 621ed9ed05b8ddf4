"""Conversion settings of each model family: table of name rules, head, position tables.

The tables hold the names of the original projects: facebookresearch/mae and MAE-SFER (ViT, MAE),
yitu-opensource/T2T-ViT, facebookresearch/ConvNeXt-V2.
"""

import dataclasses
from collections.abc import Collection

from jax_me.models.weight_mapping import WeightMapping, find_mapping

from .detection import FCMAE_DENSE, FCMAE_SPARSE, HEADLESS, MAE_ENCODER, Detection
from .rules import (
  CHANNEL_TOKEN,
  CONV1D,
  CONV2D,
  GRN_ROW,
  LINEAR,
  ROW,
  SPARSE_CONV2D,
  SPARSE_DEPTHWISE,
  Rule,
  RuleTable,
  layer,
  norm,
)


def _transformer_block(prefix: str) -> list[Rule]:
  """A pre-norm block with timm's names, as in ViT, MAE and T2T-ViT."""
  return [
    *norm(f"{prefix}.norm1"),
    *layer(f"{prefix}.attn.qkv", LINEAR),
    *layer(f"{prefix}.attn.proj", LINEAR),
    *norm(f"{prefix}.norm2"),
    *layer(f"{prefix}.mlp.fc1", LINEAR),
    *layer(f"{prefix}.mlp.fc2", LINEAR),
  ]


_VIT_ENCODER = [
  Rule("cls_token", "cls_token"),
  Rule("pos_embed", "pos_embed"),
  *layer("patch_embed.proj", CONV2D),
  *_transformer_block("blocks.{0}"),
  *norm("norm"),
]
VIT_RULES = RuleTable(
  [
    *_VIT_ENCODER,
    *norm("fc_norm"),
    *layer("pre_logits.fc", LINEAR, ours="pre_logits"),
    *layer("head", LINEAR),
  ]
)
MAE_RULES = RuleTable(
  [
    *_VIT_ENCODER,
    Rule("mask_token", "mask_token"),
    Rule("decoder_pos_embed", "decoder_pos_embed"),
    *layer("decoder_embed", LINEAR),
    *_transformer_block("decoder_blocks.{0}"),
    *norm("decoder_norm"),
    *layer("decoder_pred", LINEAR),
  ]
)

_BLOCK = "blocks.{0}"
_T2T_BACKBONE = [
  Rule("cls_token", "cls_token"),
  Rule("pos_embed", "pos_embed"),
  *layer("tokens_to_token.project", LINEAR),
  *_transformer_block(_BLOCK),
  # Squeeze-excitation, dense and ghost backbones.
  *layer(f"{_BLOCK}.attn.se_layer.fc.0", LINEAR, ours=f"{_BLOCK}.attn.se_layer.fc1", bias=False),
  *layer(f"{_BLOCK}.attn.se_layer.fc.2", LINEAR, ours=f"{_BLOCK}.attn.se_layer.fc2", bias=False),
  *layer(f"{_BLOCK}.dense_linear", LINEAR),
  *layer(f"{_BLOCK}.linear", LINEAR),
  *(rule for part in "qkv" for rule in layer(f"{_BLOCK}.attn.{part}", LINEAR)),
  *(
    rule
    for part in ("attn.cheap_operation_q", "attn.cheap_operation_k", "attn.cheap_operation_v")
    + ("mlp.cheap_operation2", "mlp.cheap_operation3")
    for rule in layer(f"{_BLOCK}.{part}", CONV1D, bias=False)
  ),
  *norm("norm"),
  *layer("head", LINEAR),
  *layer("aux_head", LINEAR),
]
_TOKENS = "tokens_to_token.attention{0}"
_TOKEN_NORMS = [*norm(f"{_TOKENS}.norm1"), *norm(f"{_TOKENS}.norm2")]
T2T_PERFORMER_RULES = RuleTable(
  [
    *_T2T_BACKBONE,
    *_TOKEN_NORMS,
    Rule(f"{_TOKENS}.w", f"{_TOKENS}.w"),
    *layer(f"{_TOKENS}.kqv", LINEAR),
    *layer(f"{_TOKENS}.proj", LINEAR),
    *layer(f"{_TOKENS}.mlp.0", LINEAR, ours=f"{_TOKENS}.mlp.fc1"),
    *layer(f"{_TOKENS}.mlp.2", LINEAR, ours=f"{_TOKENS}.mlp.fc2"),
  ]
)
T2T_TRANSFORMER_RULES = RuleTable(
  [
    *_T2T_BACKBONE,
    *_TOKEN_NORMS,
    *layer(f"{_TOKENS}.attn.qkv", LINEAR, bias=False),
    *layer(f"{_TOKENS}.attn.proj", LINEAR),
    *layer(f"{_TOKENS}.mlp.fc1", LINEAR),
    *layer(f"{_TOKENS}.mlp.fc2", LINEAR),
  ]
)


def _convnext_block(prefix: str) -> list[Rule]:
  return [
    *layer(f"{prefix}.dwconv", CONV2D),
    *norm(f"{prefix}.norm"),
    *layer(f"{prefix}.pwconv1", LINEAR),
    Rule(f"{prefix}.grn.gamma", f"{prefix}.grn.gamma"),
    Rule(f"{prefix}.grn.beta", f"{prefix}.grn.beta"),
    *layer(f"{prefix}.pwconv2", LINEAR),
  ]


def _sparse_encoder(ours: str) -> list[Rule]:
  """The encoder as FCMAE's training saves it, with the kernels of a sparse convolution library.

  `ours` is the prefix of our dense arrays.
  """
  rules = [
    *layer("encoder.downsample_layers.0.0", CONV2D, ours=f"{ours}downsample_layers.0.0"),
    *norm("encoder.downsample_layers.0.1", ours=f"{ours}downsample_layers.0.1"),
  ]
  for i in (1, 2, 3):
    torch, path = f"encoder.downsample_layers.{i}", f"{ours}downsample_layers.{i}"
    rules += [
      *norm(f"{torch}.0.ln", ours=f"{path}.0"),
      Rule(f"{torch}.1.kernel", f"{path}.1.kernel", SPARSE_CONV2D),
      Rule(f"{torch}.1.bias", f"{path}.1.bias", ROW),
    ]
  torch, path = "encoder.stages.{0}.{1}", ours + "stages.{0}.{1}"
  return rules + [
    Rule(f"{torch}.dwconv.kernel", f"{path}.dwconv.kernel", SPARSE_DEPTHWISE),
    Rule(f"{torch}.dwconv.bias", f"{path}.dwconv.bias", ROW),
    *norm(f"{torch}.norm.ln", ours=f"{path}.norm"),
    *layer(f"{torch}.pwconv1.linear", LINEAR, ours=f"{path}.pwconv1"),
    Rule(f"{torch}.grn.gamma", f"{path}.grn.gamma", GRN_ROW),
    Rule(f"{torch}.grn.beta", f"{path}.grn.beta", GRN_ROW),
    *layer(f"{torch}.pwconv2.linear", LINEAR, ours=f"{path}.pwconv2"),
  ]


# The released FCMAE files are dense and have these names too, without the last norm and the head.
CONVNEXT_RULES = RuleTable(
  [
    *layer("downsample_layers.0.0", CONV2D),
    *norm("downsample_layers.0.1"),
    *(rule for i in (1, 2, 3) for rule in norm(f"downsample_layers.{i}.0")),
    *(rule for i in (1, 2, 3) for rule in layer(f"downsample_layers.{i}.1", CONV2D)),
    *_convnext_block("stages.{0}.{1}"),
    *norm("norm"),
    *layer("head", LINEAR),
  ]
)
FCMAE_RULES = RuleTable(
  [
    *_sparse_encoder("encoder."),
    *layer("proj", CONV2D),
    Rule("mask_token", "mask_token", CHANNEL_TOKEN),
    *_convnext_block("decoder.{0}"),
    *layer("pred", CONV2D),
  ]
)
# From a sparse encoder to the classifier, as in fine-tuning.
FCMAE_TO_CONVNEXT_RULES = RuleTable([*_sparse_encoder(""), *norm("norm"), *layer("head", LINEAR)])


@dataclasses.dataclass(frozen=True)
class Family:
  """Conversion settings of one model family.

  Attributes:
    rules: table of names.
    container: key of the state dict in checkpoints of the original project.
    head: key prefixes of the parameters that `num_classes` replaces.
    positions: keys of the tables that `image_size` resizes.
    inferred: constructor keywords that are taken from the file unless given.
  """

  rules: RuleTable
  container: str
  head: tuple[str, ...] = ()
  positions: tuple[str, ...] = ()
  inferred: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
  "t2t_vit": Family(
    T2T_PERFORMER_RULES,
    "state_dict",
    head=("head.", "aux_head."),
    positions=("pos_embed",),
    inferred=("num_classes", "image_size", "token_labeling"),
  ),
  "vit": Family(
    VIT_RULES,
    "model",
    head=("head.",),
    positions=("pos_embed",),
    inferred=("num_classes", "image_size", "global_pool", "qkv_bias", "representation_size"),
  ),
  "mae": Family(
    MAE_RULES, "model", positions=("pos_embed", "decoder_pos_embed"), inferred=("image_size",)
  ),
  "convnextv2": Family(CONVNEXT_RULES, "model", head=("head.",), inferred=("num_classes",)),
  "fcmae": Family(FCMAE_RULES, "model"),
}


def mapping_to(detected: Detection, family: str) -> WeightMapping | None:
  """Mapping from a file to a model of a family; None when they are incompatible."""
  encoders = {MAE_ENCODER: "mae", FCMAE_DENSE: "fcmae"}
  origin = encoders.get(detected.content, detected.family)
  if detected.content in encoders and family == origin:
    return None  # An encoder alone is not a masked autoencoder.
  if detected.content == HEADLESS and origin == family:
    return WeightMapping(fresh=((("head.",), "the file has no classifier head"),))
  if origin == family == "vit":
    return WeightMapping()  # global_pool is inferred from the file: the same norm on both sides.
  return find_mapping(origin, family)


def rules_for(family: str, names: Collection[str], content: str = "") -> RuleTable:
  """Table of names between a file and a model.

  Args:
    family: of the model.
    names: the model's parameter paths, or the keys of its original.
    content: content of the file, see `Detection`.

  Returns:
    The rules.
  """
  if content == FCMAE_SPARSE and family == "convnextv2":
    return FCMAE_TO_CONVNEXT_RULES
  # The MLPs of the two kinds of token module have different names in torch but not here. Only a
  # performer has random features `w`.
  if family == "t2t_vit" and "tokens_to_token.attention1.w" not in names:
    return T2T_TRANSFORMER_RULES
  return FAMILIES[family].rules
