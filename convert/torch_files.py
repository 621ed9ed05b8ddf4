"""Reader of torch checkpoints (zip and legacy format) and safetensors files.

Nothing in a file is executed. Every problem with a file is raised as a ConversionError that names
it. safetensors files are read without torch.
"""

import collections
import dataclasses
import hashlib
import io
import math
import mmap
import pathlib
import types
import warnings
import zipfile
from collections.abc import Callable
from typing import IO, Any, cast

import numpy as np

from .containers import check_arrays, select_state_dict
from .errors import ConversionError
from .pickle_check import SAFE_GLOBALS, begins_with, check_pickle

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# Views of one storage are legitimate (tied weights); a thousand of them are an attack on memory.
MAX_GROWTH = 8

_DOWNLOAD_AGAIN = "the download is incomplete or damaged: fetch the file again"
# Starts of files that users mistake for checkpoints, and what to tell them.
_OTHER_FILES = (
  (b"version https://git-lfs", "a Git LFS pointer", "fetch the real file with `git lfs pull`"),
  (b"<!DOCTYPE", "a web page", "the download link gave a page: download the file in a browser"),
  (b"<html", "a web page", "the download link gave a page: download the file in a browser"),
  (b"\x89HDF", "an HDF5 file", "convert it in the project that wrote it to a torch state dict"),
  (b"\x1f\x8b", "gzip-compressed", "unpack it first with gunzip"),
  (b"PK\x05\x06", "an empty zip archive", _DOWNLOAD_AGAIN),
)


@dataclasses.dataclass
class TorchCheckpoint:
  """Content of a checkpoint file.

  Attributes:
    arrays: {key: array in torch's layout}, container unwrapped, prefixes removed.
    file: the file's name (without folders).
    sha256: of the whole file.
    format: "torch zip", "torch legacy" or "safetensors".
    container: where in the file the weights lay.
    weights: "ema" or "raw".
    notes: what was decided or changed while reading.
    metadata: plain values found beside the weights (epoch, arch, args.model).
  """

  arrays: dict[str, np.ndarray]
  file: str
  sha256: str
  format: str
  container: str
  weights: str
  notes: list[str]
  metadata: dict[str, Any]


def read_checkpoint(path: str | pathlib.Path, *, prefer: str = "ema") -> TorchCheckpoint:
  """Reads a checkpoint file with everything the load report says about it.

  Half-precision and double arrays become float32 (noted). Counters of batch normalisation
  (`num_batches_tracked`) are left out (noted). Other integer arrays, and values that are not
  finite, are left to `convert` and `read_torch_checkpoint`, which refuse them.

  Args:
    path: torch file (zip or legacy format; needs torch) or safetensors file.
    prefer: which weights to take when the file has both averaged and raw ones, "ema" or "raw".

  Raises:
    ConversionError: the file is missing, damaged, of another kind, asks to execute something, or
      has no weights; or torch is needed and missing.
  """
  path = pathlib.Path(path)
  try:
    with path.open("rb") as stream:
      return _read(path, stream, prefer)
  except ConversionError as error:
    raise error.in_file(str(path)) from error.__cause__
  except OSError as error:
    raise ConversionError(
      f"cannot be opened ({error.strerror or error})",
      remedy="give the path of one checkpoint file",
      file=str(path),
    ) from error
  except Exception as error:  # whatever zipfile, torch and safetensors raise on damaged files
    reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip().split("\n")[0]
    raise ConversionError(
      f"cannot be read ({type(error).__name__}: {reason[:200]})",
      remedy=_DOWNLOAD_AGAIN,
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


def _read(path: pathlib.Path, stream: io.BufferedReader, prefer: str) -> TorchCheckpoint:
  size = path.stat().st_size
  name, read_format = _format_of(stream.read(512), size)
  selection = select_state_dict(read_format(path, stream), prefer=prefer)
  notes = list(selection.notes)
  arrays = _as_arrays(selection.tensors, notes, limit=MAX_GROWTH * size)
  stream.seek(0)
  return TorchCheckpoint(
    arrays=arrays,
    file=path.name,
    sha256=hashlib.file_digest(stream, "sha256").hexdigest(),
    format=name,
    container=selection.container,
    weights=selection.weights,
    notes=notes,
    metadata=selection.metadata,
  )


_Reader = Callable[[pathlib.Path, io.BufferedReader], Any]


def _format_of(head: bytes, size: int) -> tuple[str, _Reader]:
  """Name and reader of the file's format, from its first bytes; the file's name does not count."""
  if not head:
    raise ConversionError("the file is empty", remedy=_DOWNLOAD_AGAIN)
  for start, name, remedy in _OTHER_FILES:
    if head.lstrip()[:64].lower().startswith(start.lower()):
      raise ConversionError(f"the file is {name}, not a checkpoint", remedy=remedy)
  if head.startswith(b"PK\x03\x04"):
    return "torch zip", _read_zip
  # The length of the header, then a JSON object; text would give a length beyond 2**40.
  if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40:
    return "safetensors", _read_safetensors
  if head.startswith(b"\x80"):
    return "torch legacy", _read_legacy
  if head[257:262] == b"ustar":
    raise ConversionError(
      "the file is a tar archive, not a checkpoint",
      remedy="unpack it; names such as x.pth.tar are torch files only by habit",
    )
  raise ConversionError(
    "the file is neither a torch checkpoint nor safetensors "
    f"(it starts with {head[:16]!r} and has {size} bytes)",
    remedy=_DOWNLOAD_AGAIN,
  )


def _read_safetensors(path: pathlib.Path, stream: io.BufferedReader) -> dict[str, np.ndarray]:
  import ml_dtypes  # noqa: F401  registers the dtype "bfloat16" in numpy
  from safetensors import safe_open

  with safe_open(path, framework="numpy") as file:
    return {key: file.get_tensor(key) for key in file.offset_keys()}


def _read_zip(path: pathlib.Path, stream: io.BufferedReader) -> Any:
  """torch.save since 1.6: data.pkl, and every storage uncompressed under data/.

  torch checks neither checksums nor, in a mapped file, that a storage ends with its entry.
  """
  archive = zipfile.ZipFile(stream)
  entries = {entry.filename: entry for entry in archive.infolist()}
  if len({name.lower() for name in entries}) != len(archive.infolist()):
    raise ConversionError("the archive holds an entry twice", remedy=_DOWNLOAD_AGAIN)
  pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
  if len(pickles) != 1:
    raise ConversionError(
      "the zip archive is not a torch checkpoint (it has no data.pkl)",
      remedy="give the file that torch.save wrote, not an archive around it",
    )
  folder = pickles[0].removesuffix("data.pkl")
  if f"{folder}constants.pkl" in entries:
    raise ConversionError(
      "the file is a TorchScript program, not a checkpoint",
      remedy="load it with torch.jit.load and save its state_dict()",
    )
  for name, entry in entries.items():
    if entry.compress_type != zipfile.ZIP_STORED:
      raise ConversionError(
        f"{name[:100]!r} is compressed",
        remedy="give the file that torch.save wrote, not one that was packed again",
      )
  if sum(entry.file_size for entry in entries.values()) > path.stat().st_size:
    raise ConversionError("the archive's entries are larger than the file", remedy=_DOWNLOAD_AGAIN)
  damaged = archive.testzip()
  if damaged is not None:
    raise ConversionError(f"{damaged[:100]!r} has a wrong checksum", remedy=_DOWNLOAD_AGAIN)
  _, storages = check_pickle(io.BytesIO(archive.read(pickles[0])))
  for key, size in storages.items():
    stored = entries.get(f"{folder}data/{key}")
    if stored is None or stored.file_size != size:
      raise ConversionError(
        f"storage {str(key)[:100]!r} has {stored.file_size if stored else 'no'} bytes where {size} are "
        "announced",
        remedy=_DOWNLOAD_AGAIN,
      )
  # torch takes a path that ends with .safetensors for such a file, whatever it holds.
  by_path = path.suffix != ".safetensors"
  stream.seek(0)
  return _load(path if by_path else stream, mapped=by_path)


def _read_legacy(path: pathlib.Path, stream: io.BufferedReader) -> Any:
  """torch.save until 1.5: five pickles, then each storage as a count and its elements.

  There are no checksums. A storage that the file leaves out would be uninitialised memory.
  """
  with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    file = cast(IO[bytes], mapped)
    if not begins_with(file, LEGACY_MAGIC):
      raise ConversionError(
        "the file is a plain Python pickle, not a torch checkpoint; nothing in the file was "
        "executed",
        remedy="load it with the project that wrote it and torch.save its state_dict()",
      )
    check_pickle(file)  # that number
    check_pickle(file)  # version of the format
    check_pickle(file)  # sizes of integers
    _, storages = check_pickle(file)
    keys, _ = check_pickle(file)
    plain = isinstance(keys, list) and all(type(key) in (str, int) for key in keys)
    if not plain or len(keys) != len(storages) or set(keys) != set(storages):
      raise ConversionError(
        "the list of storages does not agree with the tensors", remedy=_DOWNLOAD_AGAIN
      )
    end = file.tell() + sum(8 + size for size in storages.values())
    if end > len(mapped):
      raise ConversionError(
        f"the file ends too early: it has {len(mapped)} bytes where {end} are announced",
        remedy=_DOWNLOAD_AGAIN,
      )
  stream.seek(0)
  return _load(stream, mapped=False)


def import_torch() -> types.ModuleType:
  """The module torch.

  Raises:
    ConversionError: torch is not installed.
  """
  try:
    import torch
  except ImportError as error:
    raise ConversionError('torch is not installed: pip install "jax_me[convert]"') from error
  return torch


def _load(source: pathlib.Path | io.BufferedReader, *, mapped: bool) -> Any:
  torch = import_torch()
  with torch.serialization.safe_globals(SAFE_GLOBALS), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of pickle protocol 3, which is read
    return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)


def _as_arrays(tensors: dict[str, Any], notes: list[str], limit: int) -> dict[str, np.ndarray]:
  """The tensors as arrays of their own memory, floating-point ones as float32.

  Empties `tensors`, so that a large file is not held in memory twice.
  """
  if sum(4 * math.prod(tensor.shape) for tensor in tensors.values()) > limit:
    raise ConversionError("the tensors would need far more memory than the file has bytes")
  counters = [key for key in tensors if key.rpartition(".")[2] == "num_batches_tracked"]
  if counters:
    notes.append(f"{len(counters)} counters of batch normalisation left out")
  arrays: dict[str, np.ndarray] = {}
  changed: collections.Counter[str] = collections.Counter()
  for key in list(tensors):
    tensor = tensors.pop(key)
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
