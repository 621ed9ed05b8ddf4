"""What conversion needs to know about each family beside its names: head, tables, relatives."""

import dataclasses
from collections.abc import Callable, Collection

from convert import detection as found
from convert.convnext_rules import CONVNEXT_RULES, FCMAE_RULES, FCMAE_TO_CONVNEXT_RULES
from convert.rules import RuleTable
from convert.t2t_rules import t2t_rules
from convert.vit_rules import MAE_RULES, VIT_RULES
from jax_me.models import weight_mapping


@dataclasses.dataclass(frozen=True)
class Family:
  """One model family.

  Attributes:
    rules: gives the table of names for a collection of names of either side.
    container: where the original project expects the state dict in a file.
    head: key prefixes of what `num_classes` replaces.
    positions: keys of tables that `image_size` resizes.
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


def passage(detected: found.Detection, family: str) -> weight_mapping.Passage | None:
  """What a file gives a model of a family; None when the two do not go together."""
  encoders = {found.MAE_ENCODER: "mae", found.FCMAE_DENSE: "fcmae"}
  origin = encoders.get(detected.content, detected.family)
  if detected.content in encoders and family == origin:
    return None  # an encoder alone does not make a masked autoencoder
  if origin == family == "vit":
    return (
      weight_mapping.Passage()
    )  # the file says where its norm stands: nothing is left to choose
  return weight_mapping.passage(origin, family)


def rules_for(content: str, family: str, paths: Collection[str]) -> RuleTable:
  """The table that reads a file of some content into a model with these paths."""
  if content == found.FCMAE_SPARSE and family == "convnextv2":
    return FCMAE_TO_CONVNEXT_RULES
  return FAMILIES[family].rules(paths)
