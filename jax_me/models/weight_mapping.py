"""Starting one model from another's weights: which parts pass, which are left, which are fresh."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_me.models.positions import resize_positions

# Families by how their models' names begin; the longer beginnings come first.
_FAMILIES = (
  ("fcmae_", "fcmae"),
  ("mae_", "mae"),
  ("t2t_", "t2t_vit"),
  ("convnextv2_", "convnextv2"),
  ("vit_", "vit"),
)
# Names of parts, and why: what they begin with.
Reasons = tuple[tuple[tuple[str, ...], str], ...]


class TransferError(ValueError):
  """Weights that cannot start the wanted model."""


@dataclasses.dataclass(frozen=True)
class Passage:
  """How weights of one family pass into another.

  Attributes:
    prefix: what stands before the source's names of the parts that pass.
    dropped: parts of the source that are left out.
    fresh: parts of the target that the source does not have.
  """

  prefix: str = ""
  dropped: Reasons = ()
  fresh: Reasons = ()


_NO_HEAD = (("head.",), "pre-training has no classifier head")
_PASSAGES: dict[tuple[str, str], Passage] = {
  # As the original's fine-tuning does: with global pooling the encoder's last norm stays behind.
  ("mae", "vit"): Passage(
    dropped=(
      (("decoder_", "mask_token"), "MAE's decoder has no part in a classifier"),
      (("norm.",), "with global pooling fc_norm takes the place of the encoder's last norm"),
    ),
    fresh=(
      _NO_HEAD,
      (("fc_norm.",), "the norm after global pooling exists in fine-tuned models only"),
    ),
  ),
  ("fcmae", "convnextv2"): Passage(
    prefix="encoder.",
    dropped=(
      (("mask_token", "proj.", "decoder.", "pred."), "FCMAE's decoder has no part in a classifier"),
    ),
    fresh=(
      _NO_HEAD,
      (("norm.",), "FCMAE's encoder has no last norm: it exists in fine-tuned models only"),
    ),
  ),
  ("vit", "vit"): Passage(
    dropped=(
      (("norm.", "fc_norm."), "class-token and globally pooled models norm in different places"),
    ),
    fresh=(
      (("norm.", "fc_norm."), "class-token and globally pooled models norm in different places"),
    ),
  ),
  ("t2t_vit", "t2t_vit"): Passage(
    dropped=((("aux_head.",), "only token_labeling=True uses the auxiliary head"),),
  ),
}


def family_of(name: str) -> str:
  """ "t2t_vit", "vit", "mae", "convnextv2" or "fcmae", from a model's name.

  Raises:
    TransferError: a name that begins like none of ours.
  """
  for prefix, family in _FAMILIES:
    if name.startswith(prefix):
      return family
  raise TransferError(f"{name!r} belongs to no model family of ours")


def passage(source: str, target: str) -> Passage | None:
  """How weights pass between two families; None when they do not."""
  return _PASSAGES.get((source, target), Passage() if source == target else None)


class Transfer(NamedTuple):
  """The outcome of `initialise_from`.

  Attributes:
    params: nested dict like the target's, with the source's values where they pass.
    model_state: likewise for fixed tables.
    report: JSON values: "source", "target", and lists "taken", "resized", "dropped", "fresh" of
      {"path", "shape"}, with "from" (the source's shape) or "reason" where there is something to
      say.
  """

  params: dict[str, Any]
  model_state: dict[str, Any]
  report: dict[str, Any]


def initialise_from(
  params: Mapping[str, Any],
  source_params: Mapping[str, Any],
  *,
  source_name: str,
  target_name: str,
  model_state: Mapping[str, Any] | None = None,
  source_model_state: Mapping[str, Any] | None = None,
  labels: Sequence[str] | None = None,
  source_labels: Sequence[str] | None = None,
) -> Transfer:
  """Starts a model from the weights of another, pre-trained or fine-tuned.

  MAE passes its encoder to ViT, FCMAE to ConvNeXt V2, and every family to itself. The head is
  fresh when its shape or the label names differ; position tables are resized as torch does when
  the image sizes differ. Position tables may be trained on one side and fixed on the other.

  Args:
    params: nested dict of the model to start (as `split_model` gives it), freshly initialised.
    source_params: nested dict of the weights to start from.
    source_name, target_name: keys of `jax_me.models.MODELS`.
    model_state, source_model_state: the fixed tables of both.
    labels, source_labels: class names of both; unknown ones (None) count as equal.

  Raises:
    TransferError: families that do not go together, or parts that are missing, left over or of
      the wrong shape; all of them at once.
  """
  way = passage(family_of(source_name), family_of(target_name))
  if way is None:
    raise TransferError(
      f"{target_name} cannot start from {source_name}: another family. MAE starts ViT, FCMAE "
      "starts ConvNeXt V2, and every family starts itself"
    )
  targets = _flat(params) | _flat(model_state or {})
  sources = _flat(source_params) | _flat(source_model_state or {})
  new_labels = labels is not None and source_labels is not None and [*labels] != [*source_labels]
  values: dict[str, Any] = {}
  problems: list[str] = []
  report: dict[str, Any] = {"source": source_name, "target": target_name}
  report |= {"taken": [], "resized": [], "dropped": [], "fresh": []}
  settled: set[str] = set()

  def note(kind: str, path: str, array: Any, **more: Any) -> None:
    report[kind].append({"path": path, "shape": [*array.shape], **more})

  for path, wanted in targets.items():
    origin = way.prefix + path
    source = sources.get(origin)
    settled.add(origin)
    head = path.startswith(("head.", "aux_head."))
    if source is None:
      reason = _reason(path, way.fresh) or ("the source has no such head" if head else "")
      if reason:
        note("fresh", path, wanted, reason=reason)
      else:
        problems.append(f"{path} {[*wanted.shape]}: missing in {source_name}")
    elif head and (new_labels or source.shape != wanted.shape):
      why = "other classes" if source.shape != wanted.shape else "other label names"
      note("fresh", path, wanted, reason=why)
      note("dropped", origin, source, reason=why)
    elif source.shape == wanted.shape:
      values[path] = jnp.asarray(source, wanted.dtype)
      note("taken", path, wanted)
    elif path.endswith("pos_embed") and _same_width(source.shape, wanted.shape):
      grid = round((wanted.shape[1] - 1) ** 0.5)
      values[path] = jnp.asarray(resize_positions(np.asarray(source), grid), wanted.dtype)
      note("resized", path, wanted, **{"from": [*source.shape]})
    else:
      problems.append(f"{path}: {[*source.shape]} in {source_name}, needed {[*wanted.shape]}")
  for origin, source in sources.items():
    if origin in settled:
      continue
    head = origin.startswith(("head.", "aux_head."))
    reason = _reason(origin, way.dropped) or ("the model has no such head" if head else "")
    if reason:
      note("dropped", origin, source, reason=reason)
    else:
      problems.append(f"{origin} {[*source.shape]}: {target_name} has no place for it")
  if problems:
    raise TransferError(
      f"{target_name} cannot start from {source_name}, {len(problems)} arrays do not fit:\n  "
      + "\n  ".join(problems[:40])
      + ("\n  ..." if len(problems) > 40 else "")
      + "\nUse the same size of model, patch size and depth on both sides"
    )
  return Transfer(
    params=_replaced(params, values),
    model_state=_replaced(model_state or {}, values),
    report=report,
  )


def _reason(path: str, reasons: Reasons) -> str:
  return next((reason for prefixes, reason in reasons if path.startswith(prefixes)), "")


def _same_width(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
  """Position tables [1, 1 + grid**2, D] that differ in their grid only."""
  square = len(shape) == 3 and shape[1] > 1 and round((shape[1] - 1) ** 0.5) ** 2 == shape[1] - 1
  return square and len(wanted) == 3 and (shape[0], shape[2]) == (wanted[0], wanted[2])


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
  """Nested dict -> {"blocks.0.attn.qkv.kernel": array}."""
  leaves = jax.tree_util.tree_flatten_with_path(dict(tree))[0]
  return {".".join(str(part.key) for part in path): leaf for path, leaf in leaves}


def _replaced(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
  def pick(path, leaf):
    return values.get(".".join(str(part.key) for part in path), leaf)

  return jax.tree_util.tree_map_with_path(pick, dict(tree))
