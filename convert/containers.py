"""Selection of the state dict in a checkpoint's content, and checks of its arrays.

T2T-ViT releases have `state_dict_ema`, its training saves both kinds; MAE and ConvNeXt V2 have
`model` (and `model_ema`), MAE-SFER's fine-tuning `model_state_dict`; many files are a bare state
dict. Keys may have the prefix `module.` of DataParallel or `_orig_mod.` of torch.compile.
"""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import ConversionError

EMA_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
RAW_KEYS = ("state_dict", "model", "model_state_dict", "module", "net")
PREFIXES = ("module.", "_orig_mod.")


@dataclasses.dataclass
class Selection:
  """The selected state dict.

  Attributes:
    tensors: {key without prefixes: tensor of torch or array}.
    container: its key in the file, such as "state_dict_ema", or "bare state dict".
    weights: "ema" or "raw".
    notes: decisions made, for the report.
    metadata: other values in the file (epoch, arch, args.model) that help to identify the model.
  """

  tensors: dict[str, Any]
  container: str
  weights: str
  notes: list[str]
  metadata: dict[str, Any]


def _is_tensor(value: Any) -> bool:
  """Whether the value is an array of torch (which need not be installed) or of numpy."""
  return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_state_dict(value: Any) -> bool:
  return isinstance(value, dict) and any(map(_is_tensor, value.values()))


def _metadata(content: dict) -> dict[str, Any]:
  found = {k: content[k] for k in ("arch", "epoch", "version") if k in content}
  args = content.get("args")
  if isinstance(args, argparse.Namespace):
    found["args.model"] = vars(args).get("model")
  texts = {k: v[:100] for k, v in found.items() if isinstance(v, str) and v}
  counts = {k: v for k, v in found.items() if type(v) is int and abs(v) < 2**53}
  return texts | counts


def _strip_prefixes(tensors: dict[str, Any], notes: list[str]) -> dict[str, Any]:
  for prefix in PREFIXES * 2:  # twice, as either may be the outer one
    if any(key.startswith(prefix) for key in tensors):
      stripped = {key.removeprefix(prefix): value for key, value in tensors.items()}
      if len(stripped) != len(tensors):
        raise ConversionError(f"keys with and without the prefix {prefix!r} name the same array")
      notes.append(f"prefix {prefix!r} removed from the keys")
      tensors = stripped
  return tensors


def select_state_dict(content: object, *, prefer: str = "ema") -> Selection:
  """Finds the weights in an unpickled checkpoint.

  Args:
    content: unpickled content of the file.
    prefer: "ema" or "raw", used when the file has both.

  Raises:
    ConversionError: there is no state dict, or it contains values other than arrays.
  """
  if prefer not in ("ema", "raw"):
    raise ConversionError(f"weights must be 'ema' or 'raw', got {prefer!r}")
  if not isinstance(content, dict):
    raise ConversionError(
      f"the file contains a {type(content).__name__}, not weights",
      remedy="save model.state_dict() with torch.save",
    )
  found = [k for k in EMA_KEYS + RAW_KEYS if _is_state_dict(content.get(k))]
  notes: list[str] = []
  if found:
    ema = [k for k in found if k in EMA_KEYS]
    raw = [k for k in found if k in RAW_KEYS]
    order = ema + raw if prefer == "ema" else raw + ema
    container = order[0]
    chosen = content[container]
    if len(found) > 1:
      notes.append(f"the file contains {', '.join(found)}: {container} was used")
  elif _is_state_dict(content):
    container, chosen = "bare state dict", content
  else:
    keys = ", ".join(str(k)[:40] for k in list(content)[:8]) or "nothing"
    raise ConversionError(
      f"the file has no state dict (it contains: {keys})",
      remedy=f"weights are expected under {', '.join(EMA_KEYS + RAW_KEYS)} or at the top level",
    )
  others = [k for k, v in chosen.items() if not isinstance(k, str) or not _is_tensor(v)]
  if others:
    raise ConversionError(
      f"the state dict ({container}) contains values that are not arrays",
      problems=[f"{str(k)[:100]}: {type(chosen[k]).__name__}" for k in others],
    )
  return Selection(
    tensors=_strip_prefixes(chosen, notes),
    container=container,
    weights="ema" if container in EMA_KEYS else "raw",
    notes=notes,
    metadata=_metadata(content),
  )


def check_arrays(arrays: Mapping[str, np.ndarray]) -> list[str]:
  """Lists the arrays that cannot be weights: not floating point, or not finite."""
  problems = []
  for key, array in arrays.items():
    if array.dtype.kind != "f":
      problems.append(f"{key}: {array.dtype} instead of a floating-point type")
    elif not (finite := np.isfinite(array)).all():
      count = array.size - int(finite.sum())
      problems.append(f"{key}: {count} of {array.size} values are not finite (NaN or inf)")
  return problems
