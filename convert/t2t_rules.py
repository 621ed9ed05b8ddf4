"""Names of T2T-ViT in all its variants (yitu-opensource/T2T-ViT)."""

from convert.rules import RuleTable

T2T_RULES = RuleTable([])
