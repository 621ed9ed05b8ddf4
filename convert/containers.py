"""From what a file holds to the one state dict that is wanted.

T2T-ViT releases hold `state_dict_ema`, its training saves both; MAE and ConvNeXt V2 hold `model`
(and `model_ema`), MAE-SFER's fine-tuning `model_state_dict`; many files are a bare state dict.
Keys may carry the `module.` of DataParallel or the `_orig_mod.` of torch.compile.
"""

import dataclasses
from typing import Any

from convert.errors import ConversionError
from convert.torch_pickle import Namespace, Tensor

EMA_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
RAW_KEYS = ("state_dict", "model", "model_state_dict", "module", "net")
PREFIXES = ("module.", "_orig_mod.")


@dataclasses.dataclass
class Selection:
  """The chosen state dict.

  Attributes:
    tensors: {key without prefixes: Tensor}.
    container: where it lay, such as "state_dict_ema" or "bare state dict".
    weights: "ema" or "raw".
    notes: what was decided, for the report.
    metadata: plain values beside it (epoch, arch, args.model) that help to name the model.
  """

  tensors: dict[str, Any]
  container: str
  weights: str
  notes: list[str]
  metadata: dict[str, Any]


def _is_state_dict(value: Any) -> bool:
  return isinstance(value, dict) and any(isinstance(v, Tensor) for v in value.values())


def _metadata(content: dict) -> dict[str, Any]:
  found = {k: content[k] for k in ("arch", "epoch", "version") if k in content}
  args = content.get("args")
  if isinstance(args, Namespace):
    found["args.model"] = args.get("model")
  texts = {k: v[:100] for k, v in found.items() if isinstance(v, str) and v}
  counts = {k: v for k, v in found.items() if type(v) is int and abs(v) < 2**53}
  return texts | counts


def _strip_prefixes(tensors: dict[str, Any], notes: list[str]) -> dict[str, Any]:
  for prefix in PREFIXES * 2:  # either may be the outer one
    if any(key.startswith(prefix) for key in tensors):
      stripped = {key.removeprefix(prefix): value for key, value in tensors.items()}
      if len(stripped) != len(tensors):
        raise ConversionError(f"keys with and without the prefix {prefix!r} name the same array")
      notes.append(f"prefix {prefix!r} removed from the keys")
      tensors = stripped
  return tensors


def select_state_dict(content: Any, *, prefer: str = "ema") -> Selection:
  """Finds the weights in an unpickled checkpoint.

  Args:
    content: what the file holds (convert.torch_pickle's plain data).
    prefer: "ema" or "raw": which to take when the file has both.

  Raises:
    ConversionError: there is no state dict, or it holds something other than arrays.
  """
  if prefer not in ("ema", "raw"):
    raise ConversionError(f"weights must be 'ema' or 'raw', got {prefer!r}")
  if not isinstance(content, dict):
    raise ConversionError(
      f"the file holds a {type(content).__name__}, not weights",
      remedy="save model.state_dict() with torch.save",
    )
  held = [k for k in EMA_KEYS + RAW_KEYS if _is_state_dict(content.get(k))]
  notes: list[str] = []
  if held:
    ema = [k for k in held if k in EMA_KEYS]
    raw = [k for k in held if k in RAW_KEYS]
    order = ema + raw if prefer == "ema" else raw + ema
    container = order[0]
    chosen = content[container]
    if len(held) > 1:
      notes.append(f"the file holds {', '.join(held)}: {container} was taken")
  elif _is_state_dict(content):
    container, chosen = "bare state dict", content
  else:
    shown = ", ".join(str(k)[:40] for k in list(content)[:8]) or "nothing"
    raise ConversionError(
      f"the file has no state dict (it holds: {shown})",
      remedy=f"weights are looked for under {', '.join(EMA_KEYS + RAW_KEYS)} or at the top",
    )
  strange = [k for k, v in chosen.items() if not isinstance(k, str) or not isinstance(v, Tensor)]
  if strange:
    raise ConversionError(
      f"the state dict ({container}) holds values that are not arrays",
      problems=[f"{str(k)[:100]}: {type(chosen[k]).__name__}" for k in strange],
    )
  return Selection(
    tensors=_strip_prefixes(chosen, notes),
    container=container,
    weights="ema" if container in EMA_KEYS else "raw",
    notes=notes,
    metadata=_metadata(content),
  )
