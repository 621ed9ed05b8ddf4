"""What conversion needs to know about each family beside its names: head, tables, relatives."""

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any

from convert import detection as found
from convert.convnext_rules import CONVNEXT_RULES, FCMAE_RULES, FCMAE_TO_CONVNEXT_RULES
from convert.errors import ConversionError
from convert.rules import RuleTable
from convert.t2t_rules import T2T_RULES
from convert.vit_rules import MAE_RULES, VIT_RULES
from jax_me.models import transfer


@dataclasses.dataclass(frozen=True)
class Family:
  """One model family.

  Attributes:
    rules: names on both sides.
    container: where the original project expects the state dict in a file.
    head: key prefixes of what `num_classes` replaces.
    positions: keys of tables that `image_size` resizes.
    inferred: constructor keywords that are taken from the file unless given.
  """

  rules: RuleTable
  container: str
  head: tuple[str, ...] = ()
  positions: tuple[str, ...] = ()
  inferred: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
  "t2t_vit": Family(
    T2T_RULES,
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
    inferred=("num_classes", "image_size", "global_pool"),
  ),
  "mae": Family(
    MAE_RULES, "model", positions=("pos_embed", "decoder_pos_embed"), inferred=("image_size",)
  ),
  "convnextv2": Family(CONVNEXT_RULES, "model", head=("head.",), inferred=("num_classes",)),
  "fcmae": Family(FCMAE_RULES, "model"),
}


@dataclasses.dataclass(frozen=True)
class Reading:
  """How a file of some content becomes a model of some family.

  Attributes:
    rules: torch key -> our path.
    dropped: (key prefixes, reason): what of the file is left out on purpose.
    fresh: (key prefixes, reason): what the file does not have and starts from its initial values.
  """

  rules: RuleTable
  dropped: transfer.Reasons = ()
  fresh: transfer.Reasons = ()


def reading(content: str, family: str) -> Reading | None:
  """How to read a file's content as a family; None when that makes no sense."""
  origin = {
    found.MAE_FULL: "mae",
    found.MAE_ENCODER: "mae",
    found.FCMAE_SPARSE: "fcmae",
    found.FCMAE_DENSE: "fcmae",
  }.get(content, family)
  encoder_only = content in (found.MAE_ENCODER, found.FCMAE_DENSE)
  way = transfer.passage(origin, family)
  if way is None or (encoder_only and family == origin):
    return None
  if content == found.CLASSIFIER and family not in ("vit", "convnextv2", "t2t_vit"):
    return None
  if content == found.CLASSIFIER and family == "vit":
    way = transfer.Passage()  # a file says where its norm stands: nothing is left to choose
  sparse = content == found.FCMAE_SPARSE and family == "convnextv2"
  rules = FCMAE_TO_CONVNEXT_RULES if sparse else FAMILIES[family].rules
  return Reading(rules, way.dropped, way.fresh)


def family_of(name: str) -> str:
  """The family of a model's name.

  Raises:
    ConversionError: no such model.
  """
  from jax_me.models import MODELS

  if name not in MODELS:
    near = difflib.get_close_matches(name, MODELS, n=3)
    raise ConversionError(
      f"unknown model {name!r}", remedy=f"choose one of {', '.join(near or sorted(MODELS))}"
    )
  return transfer.family_of(name)


@functools.cache
def sizes(name: str) -> dict[str, Any]:
  """Every constructor keyword of a named model with the value it takes by itself."""
  from jax_me.models import MODELS

  constructor: Callable = MODELS[name]
  given: dict[str, Any] = {}
  while isinstance(constructor, functools.partial):
    given = constructor.keywords | given
    constructor = constructor.func
  target = constructor.__init__ if inspect.isclass(constructor) else constructor
  parameters = inspect.signature(target).parameters.values()
  defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
  return defaults | given
