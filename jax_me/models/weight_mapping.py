"""Initialization of a model from the weights of another: mappings between model families."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_me.models.positions import resize_positions

ArrayTree = Mapping[str, Any]  # Nested dict of arrays with string keys.

# Prefixes of model names and their family; longer prefixes come first.
_FAMILIES = (
  ("fcmae_", "fcmae"),
  ("mae_", "mae"),
  ("t2t_", "t2t_vit"),
  ("convnextv2_", "convnextv2"),
  ("vit_", "vit"),
  ("shallow_", "shallow"),
)
# (prefixes of parameter paths, reason) for each group of parameters.
Reasons = tuple[tuple[tuple[str, ...], str], ...]


class TransferError(ValueError):
  """Weights that cannot initialise the requested model."""


@dataclasses.dataclass(frozen=True)
class WeightMapping:
  """Mapping of weights from one model family to another.

  Attributes:
    prefix: prefix of the source's paths; a target's path follows it.
    dropped: parameters of the source that the target does not use.
    fresh: parameters of the target that the source does not have.
  """

  prefix: str = ""
  dropped: Reasons = ()
  fresh: Reasons = ()


_NO_HEAD = (("head.",), "pre-training has no classifier head")
_OTHER_NORM = (
  ("norm.", "fc_norm."),
  "class-token models and globally pooled models have different final norms",
)
_MAPPINGS: dict[tuple[str, str], WeightMapping] = {
  # As in the original's fine-tuning: with global pooling the encoder's last norm is not used.
  ("mae", "vit"): WeightMapping(
    dropped=(
      (("decoder_", "mask_token"), "a classifier does not use MAE's decoder"),
      (("norm.",), "with global pooling fc_norm replaces the encoder's last norm"),
    ),
    fresh=(
      _NO_HEAD,
      (("fc_norm.",), "only fine-tuned models have the norm after global pooling"),
    ),
  ),
  ("fcmae", "convnextv2"): WeightMapping(
    prefix="encoder.",
    dropped=(
      (("mask_token", "proj.", "decoder.", "pred."), "a classifier does not use FCMAE's decoder"),
    ),
    fresh=(
      _NO_HEAD,
      (("norm.",), "FCMAE's encoder has no last norm; only fine-tuned models have it"),
    ),
  ),
  ("vit", "vit"): WeightMapping(
    dropped=(_OTHER_NORM, (("pre_logits.",), "the model has no layer before the head")),
    fresh=(_OTHER_NORM, (("pre_logits.",), "the source has no layer before the head")),
  ),
  ("t2t_vit", "t2t_vit"): WeightMapping(
    dropped=((("aux_head.",), "only token_labeling=True uses the auxiliary head"),),
  ),
}


def family_of(name: str) -> str:
  """Family of a model's name: "t2t_vit", "vit", "mae", "convnextv2", "fcmae" or "shallow".

  Raises:
    TransferError: the name has the prefix of no family.
  """
  for prefix, family in _FAMILIES:
    if name.startswith(prefix):
      return family
  raise TransferError(f"{name!r} belongs to no model family of jax_me")


def find_mapping(source: str, target: str) -> WeightMapping | None:
  """The mapping between two families; None when they are incompatible."""
  return _MAPPINGS.get((source, target), WeightMapping() if source == target else None)


class Transfer(NamedTuple):
  """Result of `initialise_from`.

  Attributes:
    params: nested dict like the target's, with the source's values where they are used.
    model_state: the same for fixed tables.
    report: JSON values: "source", "target", and lists "taken", "resized", "dropped", "fresh" of
      {"path", "shape"} with "from" (the source's shape, of resized arrays) or "reason".
  """

  params: dict[str, Any]
  model_state: dict[str, Any]
  report: dict[str, Any]


def initialise_from(
  params: ArrayTree,
  source_params: ArrayTree,
  *,
  source_name: str,
  target_name: str,
  model_state: ArrayTree | None = None,
  source_model_state: ArrayTree | None = None,
  labels: Sequence[str] | None = None,
  source_labels: Sequence[str] | None = None,
) -> Transfer:
  """Initialises a model from the weights of another, pre-trained or fine-tuned.

  MAE initialises ViT, FCMAE initialises ConvNeXt V2, and every family initialises itself. The head
  is fresh when its shape or the label names differ; position tables are resized as torch does when
  the image sizes differ. A position table may be trained in one model and fixed in the other.

  Args:
    params: nested dict of the freshly initialised target model (as `split_model` returns it).
    source_params: nested dict of the source's weights.
    source_name, target_name: keys of `jax_me.models.MODELS`.
    model_state, source_model_state: nested dicts of the fixed tables.
    labels, source_labels: class names; None (unknown) counts as equal.

  Returns:
    The target's arrays with the source's values, and the report.

  Raises:
    TransferError: incompatible families, or arrays that are missing, left over or of the wrong
      shape; all of them are listed.
  """
  mapping = find_mapping(family_of(source_name), family_of(target_name))
  if mapping is None:
    raise TransferError(
      f"{target_name} cannot be initialised from {source_name}: another family. MAE initialises "
      "ViT, FCMAE initialises ConvNeXt V2, and every family initialises itself"
    )
  targets = _flatten(params) | _flatten(model_state or {})
  sources = _flatten(source_params) | _flatten(source_model_state or {})
  new_labels = labels is not None and source_labels is not None and [*labels] != [*source_labels]
  values: dict[str, Any] = {}
  problems: list[str] = []
  report: dict[str, Any] = {"source": source_name, "target": target_name}
  report |= {"taken": [], "resized": [], "dropped": [], "fresh": []}
  handled: set[str] = set()

  def add(kind: str, path: str, array: Any, **more: Any) -> None:
    report[kind].append({"path": path, "shape": [*array.shape], **more})

  for path, target in targets.items():
    origin = mapping.prefix + path
    source = sources.get(origin)
    handled.add(origin)
    head = path.startswith(("head.", "aux_head."))
    if source is None:
      reason = reason_for(path, mapping.fresh) or ("the source has no such head" if head else "")
      if reason:
        add("fresh", path, target, reason=reason)
      else:
        problems.append(f"{path} {[*target.shape]}: missing in {source_name}")
    elif head and (new_labels or source.shape != target.shape):
      other_shape = source.shape != target.shape
      reason = "different number of classes" if other_shape else "different label names"
      add("fresh", path, target, reason=reason)
      add("dropped", origin, source, reason=reason)
    elif source.shape == target.shape:
      values[path] = jnp.asarray(source, target.dtype)
      add("taken", path, target)
    elif path.endswith("pos_embed") and can_resize(source.shape, target.shape):
      grid = round((target.shape[1] - 1) ** 0.5)
      values[path] = jnp.asarray(resize_positions(np.asarray(source), grid), target.dtype)
      add("resized", path, target, **{"from": [*source.shape]})
    else:
      problems.append(f"{path}: {[*source.shape]} in {source_name}, needed {[*target.shape]}")
  for origin, source in sources.items():
    if origin in handled:
      continue
    head = origin.startswith(("head.", "aux_head."))
    reason = reason_for(origin, mapping.dropped) or ("the model has no such head" if head else "")
    if reason:
      add("dropped", origin, source, reason=reason)
    else:
      problems.append(f"{origin} {[*source.shape]}: {target_name} has no such array")
  if problems:
    raise TransferError(
      f"{target_name} cannot be initialised from {source_name}, {len(problems)} arrays do not "
      "match:\n  "
      + "\n  ".join(problems[:40])
      + ("\n  ..." if len(problems) > 40 else "")
      + "\nUse the same model size, patch size and depth on both sides"
    )
  return Transfer(
    params=_replace(params, values),
    model_state=_replace(model_state or {}, values),
    report=report,
  )


def reason_for(path: str, reasons: Reasons) -> str:
  """Reason of the first group with a prefix of the path; "" when there is none."""
  return next((reason for prefixes, reason in reasons if path.startswith(prefixes)), "")


def can_resize(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
  """Whether both are position tables [1, 1 + grid**2, D] that differ only in their grid."""
  square = len(shape) == 3 and shape[1] > 1 and round((shape[1] - 1) ** 0.5) ** 2 == shape[1] - 1
  return square and len(target) == 3 and (shape[0], shape[2]) == (target[0], target[2])


def _flatten(tree: ArrayTree) -> dict[str, Any]:
  """Nested dict -> {"blocks.0.attn.qkv.kernel": array}."""
  leaves = jax.tree_util.tree_flatten_with_path(dict(tree))[0]
  return {".".join(str(part.key) for part in path): leaf for path, leaf in leaves}


def _replace(tree: ArrayTree, values: Mapping[str, Any]) -> dict[str, Any]:
  """The tree with the leaves at the paths of `values` replaced."""

  def pick(path, leaf):
    return values.get(".".join(str(part.key) for part in path), leaf)

  return jax.tree_util.tree_map_with_path(pick, dict(tree))
