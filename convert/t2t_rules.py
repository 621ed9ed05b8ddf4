"""Name rules of T2T-ViT in all its variants (yitu-opensource/T2T-ViT)."""

from collections.abc import Collection

from .rules import CONV1D, LINEAR, Rule, RuleTable, layer, norm
from .vit_rules import transformer_block


def _token_module(prefix: str, performer: bool) -> list[Rule]:
  rules = [*norm(f"{prefix}.norm1"), *norm(f"{prefix}.norm2")]
  if performer:
    return rules + [
      Rule(f"{prefix}.w", f"{prefix}.w"),
      *layer(f"{prefix}.kqv", LINEAR),
      *layer(f"{prefix}.proj", LINEAR),
      *layer(f"{prefix}.mlp.0", LINEAR, ours=f"{prefix}.mlp.fc1"),
      *layer(f"{prefix}.mlp.2", LINEAR, ours=f"{prefix}.mlp.fc2"),
    ]
  return rules + [
    *layer(f"{prefix}.attn.qkv", LINEAR, bias=False),
    *layer(f"{prefix}.attn.proj", LINEAR),
    *layer(f"{prefix}.mlp.fc1", LINEAR),
    *layer(f"{prefix}.mlp.fc2", LINEAR),
  ]


_BLOCK = "blocks.{0}"
_SHARED_RULES = [
  Rule("cls_token", "cls_token"),
  Rule("pos_embed", "pos_embed"),
  *layer("tokens_to_token.project", LINEAR),
  *transformer_block(_BLOCK),
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


def _table(performer: bool) -> RuleTable:
  modules = (_token_module(f"tokens_to_token.attention{n}", performer) for n in (1, 2))
  return RuleTable([*_SHARED_RULES, *(rule for module in modules for rule in module)])


_PERFORMER, _TRANSFORMER = _table(True), _table(False)


def t2t_rules(names: Collection[str]) -> RuleTable:
  """The table for a model or file with these names.

  The MLPs of the two kinds of token module have different names in torch but not here. Only a
  performer has random features `w`.
  """
  return _PERFORMER if "tokens_to_token.attention1.w" in names else _TRANSFORMER
