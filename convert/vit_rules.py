"""Name rules of ViT classifiers and masked autoencoders (facebookresearch/mae, MAE-SFER)."""

from .rules import CONV2D, LINEAR, Rule, RuleTable, layer, norm


def transformer_block(prefix: str) -> list[Rule]:
  """Rules of a pre-norm block with timm's names, as in ViT, MAE and T2T-ViT."""
  return [
    *norm(f"{prefix}.norm1"),
    *layer(f"{prefix}.attn.qkv", LINEAR),
    *layer(f"{prefix}.attn.proj", LINEAR),
    *norm(f"{prefix}.norm2"),
    *layer(f"{prefix}.mlp.fc1", LINEAR),
    *layer(f"{prefix}.mlp.fc2", LINEAR),
  ]


_ENCODER = [
  Rule("cls_token", "cls_token"),
  Rule("pos_embed", "pos_embed"),
  *layer("patch_embed.proj", CONV2D),
  *transformer_block("blocks.{0}"),
  *norm("norm"),
]

VIT_RULES = RuleTable([*_ENCODER, *norm("fc_norm"), *layer("head", LINEAR)])

MAE_RULES = RuleTable(
  [
    *_ENCODER,
    Rule("mask_token", "mask_token"),
    Rule("decoder_pos_embed", "decoder_pos_embed"),
    *layer("decoder_embed", LINEAR),
    *transformer_block("decoder_blocks.{0}"),
    *norm("decoder_norm"),
    *layer("decoder_pred", LINEAR),
  ]
)
