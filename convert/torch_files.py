"""Checkpoint files as arrays: choice of the state dict, element types, checks of the arrays.

Every problem with a file is raised as a ConversionError that names it.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import hashlib
import io
import math
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ConversionError, UnavailableWeights
from .file_formats import DOWNLOAD_AGAIN, format_of
from .hub_folder import combined_sha256, config_folder, read_hub_model, weight_files
from .hub_model import HubModel
from .weight_names import LocalWeights, fetch_weights, parse_weight_name

if TYPE_CHECKING:
  from jax_me.models.released_weights import ReleasedWeights

EMA_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
RAW_KEYS = ("state_dict", "model", "model_state_dict", "module", "net")
PREFIXES = ("module.", "_orig_mod.")
# Views of one storage are legitimate (tied weights); a thousand of them are an attack on memory.
MAX_GROWTH = 8


@dataclasses.dataclass
class TorchCheckpoint:
  """Content of a checkpoint file.

  Attributes:
    arrays: {key: array in torch's layout}, container unwrapped, prefixes removed.
    file: the file's name (without folders); of a hub folder, the folder's; or the name of weights.
    sha256: of the whole file; of several files, see `combined_sha256`.
    format: "torch zip", "torch legacy" or "safetensors".
    container: where in the file the weights lay.
    weights: "ema" or "raw".
    notes: what was decided or changed while reading.
    metadata: plain values found beside the weights (epoch, arch, args.model); of weights by name
      also their revision.
    hub: the model that config.json beside the weights describes, in a folder of a hub.
    release: entry of the table, for a file given by its name (release://).
  """

  arrays: dict[str, np.ndarray]
  file: str
  sha256: str
  format: str
  container: str
  weights: str
  notes: list[str]
  metadata: dict[str, Any]
  hub: HubModel | None = None
  release: "ReleasedWeights | None" = None


def read_checkpoint(path: str | os.PathLike, *, prefer: str = "ema") -> TorchCheckpoint:
  """Reads a checkpoint file or hub folder, or weights by name, for a conversion with its report.

  Half-precision and double arrays become float32 (noted). Counters of batch normalisation
  (`num_batches_tracked`) are left out (noted). Other integer arrays, and values that are not
  finite, are left to `convert` and `read_torch_checkpoint`, which refuse them.

  T2T-ViT releases have `state_dict_ema`, its training saves both kinds; MAE and ConvNeXt V2 have
  `model` (and `model_ema`), MAE-SFER's fine-tuning `model_state_dict`; many files are a bare state
  dict. Keys may have the prefix `module.` of DataParallel or `_orig_mod.` of torch.compile.

  Args:
    path: torch file (zip or legacy format; needs torch), safetensors file, a folder of timm or
      transformers with its config.json, or a name, see `convert.weight_names`.
    prefer: which weights to take when the file has both averaged and raw ones, "ema" or "raw".

  Raises:
    ConversionError: the file is missing, damaged, of another kind, asks to execute something, or
      has no weights; or torch is needed and missing.
  """
  name = parse_weight_name(path)
  if name is not None:
    return read_local_weights(fetch_weights(name), prefer=prefer)
  path = pathlib.Path(path)
  try:
    if path.is_dir():
      return _read_folder(path, prefer)
    folder = config_folder(path)
    checkpoint = _read_file(path, prefer)
    if folder is not None:
      checkpoint.hub = read_hub_model(folder)
    return checkpoint
  except ConversionError as error:
    raise error.in_file(str(path)) from error.__cause__


def read_local_weights(weights: LocalWeights, *, prefer: str = "ema") -> TorchCheckpoint:
  """Reads weights by name, with their origin.

  Raises:
    ConversionError: as `read_checkpoint`; `UnavailableWeights` when the file was changed after the
      download.
  """
  checkpoint = read_checkpoint(weights.path, prefer=prefer)
  if weights.sha256 and checkpoint.sha256 != weights.sha256:
    raise UnavailableWeights(
      f"{weights.name}: {weights.path} was damaged after the download; delete it, and the same "
      "command downloads it again"
    )
  described = weights.name.release or checkpoint.hub
  licence = described.licence if described else ""
  return dataclasses.replace(
    checkpoint,
    file=str(weights.name),
    release=weights.name.release,
    metadata=checkpoint.metadata | {"revision": weights.revision},
    notes=[f"licence: {licence or 'not stated'}", *checkpoint.notes],
  )


def _read_folder(folder: pathlib.Path, prefer: str) -> TorchCheckpoint:
  """The weights of a hub folder, from one file or from those that its index lists."""
  paths, places = weight_files(folder)
  hub = read_hub_model(folder)  # before the weights, which take longer
  parts = [_read_file(path, prefer) for path in paths]
  checkpoint = dataclasses.replace(parts[0], file=folder.absolute().name, hub=hub)
  if places is None:
    return checkpoint
  for part in parts:
    for key in part.arrays:
      if places.get(key) != part.file:
        place = places.get(key, "no file")
        raise ConversionError(f"{key[:100]} is in {part.file}, but the index places it in {place}")
  arrays = {key: array for part in parts for key, array in part.arrays.items()}
  missing = sorted(set(places) - set(arrays))
  if missing:
    raise ConversionError(
      f"{len(missing)} arrays of the index are in none of the files ({missing[0][:100]}, ...)",
      remedy=DOWNLOAD_AGAIN,
    )
  return dataclasses.replace(
    checkpoint,
    arrays=arrays,
    sha256=combined_sha256({part.file: part.sha256 for part in parts}),
    notes=[*dict.fromkeys(note for part in parts for note in part.notes)],
    metadata={"files": len(parts)},
  )


def _read_file(path: pathlib.Path, prefer: str) -> TorchCheckpoint:
  try:
    stream = path.open("rb")
  except OSError as error:
    raise ConversionError(
      f"cannot be opened ({error.strerror or error})",
      remedy="give the path of one checkpoint file or of a hub folder",
      file=str(path),
    ) from error
  with stream:
    try:
      return _read(path, stream, prefer)
    except ConversionError as error:
      raise error.in_file(str(path)) from error.__cause__
    except Exception as error:  # whatever zipfile, torch and safetensors raise on damaged files
      reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip().split("\n")[0]
      raise ConversionError(
        f"cannot be read ({type(error).__name__}: {reason[:200]})",
        remedy=DOWNLOAD_AGAIN,
        file=str(path),
      ) from error


def read_torch_checkpoint(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays of a checkpoint file: {key: float32 array in torch's layout}.

  The container is unwrapped (averaged weights are preferred), `module.` prefixes are removed and
  nothing in the file is executed. See read_checkpoint for the rest.

  Raises:
    ConversionError: as read_checkpoint, and for arrays that are not finite floating-point numbers.
  """
  arrays = read_checkpoint(path).arrays
  problems = check_arrays(arrays)
  if problems:
    raise ConversionError(
      "the file holds arrays that cannot be weights",
      problems=problems,
      remedy="take a checkpoint from before the training went wrong, or fetch the file again",
      file=str(path),
    )
  return arrays


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


def _read(path: pathlib.Path, stream: io.BufferedReader, prefer: str) -> TorchCheckpoint:
  if prefer not in ("ema", "raw"):
    raise ConversionError(f"weights must be 'ema' or 'raw', got {prefer!r}")
  size = path.stat().st_size
  format_name, read_content = format_of(stream.read(512), size)
  with concurrent.futures.ThreadPoolExecutor(1) as executor:
    sha256 = executor.submit(_sha256, path)  # beside the import of torch
    content = read_content(path, stream)
  if not isinstance(content, dict):
    raise ConversionError(
      f"the file contains a {type(content).__name__}, not weights",
      remedy="save model.state_dict() with torch.save",
    )
  metadata = _metadata(content)
  notes: list[str] = []
  container, tensors = _select_state_dict(content, prefer, notes)
  del content  # the optimizer's state, which may be twice as large as the weights
  tensors = _strip_prefixes(tensors, notes)
  arrays = _as_arrays(tensors, notes, limit=MAX_GROWTH * size)
  return TorchCheckpoint(
    arrays=arrays,
    file=path.name,
    sha256=sha256.result(),
    format=format_name,
    container=container,
    weights="ema" if container in EMA_KEYS else "raw",
    notes=notes,
    metadata=metadata,
  )


def _sha256(path: pathlib.Path) -> str:
  with path.open("rb") as stream:
    return hashlib.file_digest(stream, "sha256").hexdigest()


def _metadata(content: dict) -> dict[str, Any]:
  """Values that help to identify the model."""
  found = {k: content[k] for k in ("arch", "epoch", "version") if k in content}
  args = content.get("args")
  if isinstance(args, argparse.Namespace):
    found["args.model"] = vars(args).get("model")
  texts = {k: v[:100] for k, v in found.items() if isinstance(v, str) and v}
  counts = {k: v for k, v in found.items() if type(v) is int and abs(v) < 2**53}
  return texts | counts


def _is_tensor(value: Any) -> bool:
  """Whether the value is an array of torch (which need not be installed) or of numpy."""
  return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_state_dict(value: Any) -> bool:
  return isinstance(value, dict) and any(map(_is_tensor, value.values()))


def _select_state_dict(content: dict, prefer: str, notes: list[str]) -> tuple[str, dict]:
  """The key of the weights in a checkpoint, or "bare state dict", and the weights."""
  keys = EMA_KEYS + RAW_KEYS if prefer == "ema" else RAW_KEYS + EMA_KEYS
  found = [key for key in keys if _is_state_dict(content.get(key))]
  if found:
    container, chosen = found[0], content[found[0]]
    if len(found) > 1:
      listed = [key for key in EMA_KEYS + RAW_KEYS if key in found]
      notes.append(f"the file contains {', '.join(listed)}: {container} was used")
  elif _is_state_dict(content):
    container, chosen = "bare state dict", content
  else:
    first = ", ".join(str(key)[:40] for key in list(content)[:8]) or "nothing"
    raise ConversionError(
      f"the file has no state dict (it contains: {first})",
      remedy=f"weights are expected under {', '.join(EMA_KEYS + RAW_KEYS)} or at the top level",
    )
  others = [k for k, v in chosen.items() if not isinstance(k, str) or not _is_tensor(v)]
  if others:
    raise ConversionError(
      f"the state dict ({container}) contains values that are not arrays",
      problems=[f"{str(k)[:100]}: {type(chosen[k]).__name__}" for k in others],
    )
  return container, chosen


def _strip_prefixes(tensors: dict[str, Any], notes: list[str]) -> dict[str, Any]:
  for prefix in PREFIXES * 2:  # twice, as either may be the outer one
    if any(key.startswith(prefix) for key in tensors):
      stripped = {key.removeprefix(prefix): value for key, value in tensors.items()}
      if len(stripped) != len(tensors):
        raise ConversionError(f"keys with and without the prefix {prefix!r} name the same array")
      notes.append(f"prefix {prefix!r} removed from the keys")
      tensors = stripped
  return tensors


def _as_arrays(tensors: dict[str, Any], notes: list[str], limit: int) -> dict[str, np.ndarray]:
  """The tensors as arrays of their own memory, floating-point ones as float32."""
  if sum(4 * math.prod(tensor.shape) for tensor in tensors.values()) > limit:
    raise ConversionError("the tensors would need far more memory than the file has bytes")
  counters = [key for key in tensors if key.rpartition(".")[2] == "num_batches_tracked"]
  if counters:
    notes.append(f"{len(counters)} counters of batch normalisation left out")
  arrays: dict[str, np.ndarray] = {}
  changed: collections.Counter[str] = collections.Counter()
  for key, tensor in tensors.items():
    if key in counters:
      continue
    dtype = str(tensor.dtype).removeprefix("torch.")
    floating = dtype.startswith(("float", "bfloat"))
    if isinstance(tensor, np.ndarray):  # of safetensors, in its own memory
      array = tensor
    else:
      array = np.array((tensor.detach().float() if floating else tensor).numpy())
    with np.errstate(over="ignore"):  # a double beyond float32 becomes inf, which is not finite
      arrays[key] = array.astype(np.float32, copy=False) if floating else array
    if floating and dtype != "float32":
      changed[dtype] += 1
  notes += [f"{count} arrays changed from {kind} to float32" for kind, count in changed.items()]
  return arrays
