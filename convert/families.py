"""Conversion settings of each model family: name rules, head, position tables, weight mapping."""

import dataclasses
from collections.abc import Callable, Collection

from jax_me.models.weight_mapping import WeightMapping, find_mapping

from .convnext_rules import CONVNEXT_RULES, FCMAE_RULES, FCMAE_TO_CONVNEXT_RULES
from .detection import FCMAE_DENSE, FCMAE_SPARSE, MAE_ENCODER, Detection
from .rules import RuleTable
from .t2t_rules import t2t_rules
from .vit_rules import MAE_RULES, VIT_RULES


@dataclasses.dataclass(frozen=True)
class Family:
  """Conversion settings of one model family.

  Attributes:
    rules: returns the table of names for a collection of torch keys or of our paths.
    container: key of the state dict in checkpoints of the original project.
    head: key prefixes of the parameters that `num_classes` replaces.
    positions: keys of the tables that `image_size` resizes.
    inferred: constructor keywords that are taken from the file unless given.
  """

  rules: Callable[[Collection[str]], RuleTable]
  container: str
  head: tuple[str, ...] = ()
  positions: tuple[str, ...] = ()
  inferred: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
  "t2t_vit": Family(
    t2t_rules,
    "state_dict",
    head=("head.", "aux_head."),
    positions=("pos_embed",),
    inferred=("num_classes", "image_size", "token_labeling"),
  ),
  "vit": Family(
    lambda names: VIT_RULES,
    "model",
    head=("head.",),
    positions=("pos_embed",),
    inferred=("num_classes", "image_size", "global_pool"),
  ),
  "mae": Family(
    lambda names: MAE_RULES,
    "model",
    positions=("pos_embed", "decoder_pos_embed"),
    inferred=("image_size",),
  ),
  "convnextv2": Family(
    lambda names: CONVNEXT_RULES, "model", head=("head.",), inferred=("num_classes",)
  ),
  "fcmae": Family(lambda names: FCMAE_RULES, "model"),
}


def mapping_to(detected: Detection, family: str) -> WeightMapping | None:
  """Mapping from a file to a model of a family; None when they are incompatible."""
  encoders = {MAE_ENCODER: "mae", FCMAE_DENSE: "fcmae"}
  origin = encoders.get(detected.content, detected.family)
  if detected.content in encoders and family == origin:
    return None  # An encoder alone is not a masked autoencoder.
  if origin == family == "vit":
    return WeightMapping()  # global_pool is inferred from the file: the same norm on both sides.
  return find_mapping(origin, family)


def rules_for(content: str, family: str, paths: Collection[str]) -> RuleTable:
  """Table of names from a file to a model.

  Args:
    content: content of the file, see `Detection`.
    family: of the model.
    paths: the model's parameter paths.

  Returns:
    The rules.
  """
  if content == FCMAE_SPARSE and family == "convnextv2":
    return FCMAE_TO_CONVNEXT_RULES
  return FAMILIES[family].rules(paths)
