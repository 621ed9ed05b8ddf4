"""Reader of torch checkpoints (zip and legacy format) and safetensors files, without torch.

Nothing in a file is executed: the pickle inside is read by `torch_pickle`, which builds data only.
Every problem with a file is raised as a ConversionError that names it.
"""

import collections
import dataclasses
import io
import pathlib
import struct
import zipfile
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .binary_file import BinaryFile
from .containers import check_arrays, select_state_dict
from .errors import ConversionError
from .safetensors_file import looks_like_safetensors, read_safetensors
from .torch_pickle import ITEM_SIZE, PickleReader, Storage, Tensor

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
# Views of one storage are legitimate (tied weights); a thousand of them are an attack on memory.
MAX_GROWTH = 8

_DOWNLOAD_AGAIN = "the download is incomplete or damaged: fetch the file again"
# What Python's zip and JSON readers raise on damaged input, beside OSError.
_DAMAGE = (
  zipfile.BadZipFile,
  ArithmeticError,
  EOFError,
  LookupError,
  MemoryError,
  RuntimeError,
  TypeError,
  ValueError,
  struct.error,
)
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
  """What a checkpoint file held.

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
    path: torch file (zip or legacy format) or safetensors file.
    prefer: which weights to take when the file has both averaged and raw ones, "ema" or "raw".

  Raises:
    ConversionError: the file is missing, damaged, of another kind, asks to execute something, or
      has no weights.
  """
  path = pathlib.Path(path)
  try:
    with path.open("rb") as stream:
      return _read(BinaryFile(path, stream), prefer)
  except ConversionError as error:
    raise error.in_file(str(path)) from error.__cause__
  except OSError as error:
    raise ConversionError(
      f"cannot be opened ({error.strerror or error})",
      remedy="give the path of one checkpoint file",
      file=str(path),
    ) from error
  except _DAMAGE as error:
    raise ConversionError(
      f"cannot be read ({type(error).__name__}: {str(error)[:200]})",
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


def _read(file: BinaryFile, prefer: str) -> TorchCheckpoint:
  head = file.head(512)
  read_format = _format_of(head, file.size)
  kind, content, load = read_format(file)
  selection = select_state_dict(content, prefer=prefer)
  notes = list(selection.notes)
  arrays = _materialise(selection.tensors, load, notes, limit=MAX_GROWTH * file.size)
  return TorchCheckpoint(
    arrays=arrays,
    file=file.path.name,
    sha256=file.sha256(),
    format=kind,
    container=selection.container,
    weights=selection.weights,
    notes=notes,
    metadata=selection.metadata,
  )


_Order = Literal["<", ">"]
# What a format's reader returns: its name, the unpickled content, and how to get a storage.
_Content = tuple[str, Any, Callable[[Storage], np.ndarray]]


def _format_of(head: bytes, size: int) -> Callable[[BinaryFile], _Content]:
  if not head:
    raise ConversionError("the file is empty", remedy=_DOWNLOAD_AGAIN)
  for start, name, remedy in _OTHER_FILES:
    if head.lstrip()[:64].lower().startswith(start.lower()):
      raise ConversionError(f"the file is {name}, not a checkpoint", remedy=remedy)
  if head.startswith(b"PK\x03\x04"):
    return _read_zip
  if looks_like_safetensors(head):
    return _read_safetensors
  if head.startswith(b"\x80"):
    return _read_legacy
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


def _read_safetensors(file: BinaryFile) -> _Content:
  content, load = read_safetensors(file)
  return "safetensors", content, lambda storage: _as_array(load(storage), storage)


def _as_array(data: bytes, storage: Storage, order: _Order = "<") -> np.ndarray:
  """A storage's bytes as a flat array; bfloat16 arrives as float32."""
  if storage.dtype == "bfloat16":
    bits = np.frombuffer(data, f"{order}u2")
    return (bits.astype(np.uint32) << 16).view(np.float32)
  return np.frombuffer(data, np.dtype(storage.dtype).newbyteorder(order))


def _read_zip(file: BinaryFile) -> _Content:
  """torch.save since 1.6: data.pkl, and every storage uncompressed under data/."""
  archive = zipfile.ZipFile(file.stream)
  entries: dict[str, zipfile.ZipInfo] = {}
  for entry in archive.infolist():
    if entry.filename in entries:
      raise ConversionError(
        f"the archive holds {entry.filename[:100]!r} twice", remedy=_DOWNLOAD_AGAIN
      )
    entries[entry.filename] = entry
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

  def read(name: str) -> bytes:
    entry = entries.get(folder + name)
    if entry is None:
      raise ConversionError(f"the archive lacks {name[:100]!r}", remedy=_DOWNLOAD_AGAIN)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > file.size:
      raise ConversionError(f"{name[:100]!r} is compressed or larger than the file itself")
    return archive.read(entry)  # verifies the checksum

  order: _Order = ">" if f"{folder}byteorder" in entries and read("byteorder") == b"big" else "<"

  def load(storage: Storage) -> np.ndarray:
    data = read(f"data/{storage.key}")
    if len(data) != storage.size * ITEM_SIZE[storage.dtype]:
      raise ConversionError(
        f"storage {storage.key[:100]!r} has {len(data)} bytes where "
        f"{storage.size * ITEM_SIZE[storage.dtype]} are announced",
        remedy=_DOWNLOAD_AGAIN,
      )
    return _as_array(data, storage, order)

  stream = io.BytesIO(read("data.pkl"))
  source = BinaryFile(file.path, stream, size=stream.getbuffer().nbytes)
  return "torch zip", PickleReader(source.read, source.readline).load(), load


def _read_legacy(file: BinaryFile) -> _Content:
  """torch.save until 1.5: five pickles, then each storage as a count and its elements."""
  file.stream.seek(0)
  magic = PickleReader(file.read, file.readline).load()
  if magic != LEGACY_MAGIC:
    raise ConversionError(
      "the file is a plain Python pickle, not a torch checkpoint",
      remedy="load it with the project that wrote it and torch.save its state_dict()",
    )
  protocol, system, content, keys = (
    PickleReader(file.read, file.readline).load() for _ in range(4)
  )
  if protocol != LEGACY_PROTOCOL or not isinstance(system, dict) or not isinstance(keys, list):
    raise ConversionError("the legacy torch file has an unknown layout", remedy=_DOWNLOAD_AGAIN)
  order: _Order = "<" if system.get("little_endian") is True else ">"
  sizes = _storages_in(content)
  places: dict[str, int] = {}
  for key in keys:
    storage = sizes.get(str(key)) if isinstance(key, (str, int)) else None
    if storage is None or storage.key in places:
      raise ConversionError(
        "the list of storages does not agree with the tensors", remedy=_DOWNLOAD_AGAIN
      )
    count = int.from_bytes(file.read(8), "little" if order == "<" else "big")
    if count != storage.size:
      raise ConversionError(
        f"storage {storage.key[:100]!r} has {count} elements where {storage.size} are announced",
        remedy=_DOWNLOAD_AGAIN,
      )
    places[storage.key] = file.stream.tell()
    file.skip(count * ITEM_SIZE[storage.dtype])
  missing = sorted(set(sizes) - set(places))
  if missing:
    raise ConversionError(
      f"{len(missing)} storages are missing from the file", remedy=_DOWNLOAD_AGAIN
    )

  def load(storage: Storage) -> np.ndarray:
    file.stream.seek(places[storage.key])
    return _as_array(file.read(storage.size * ITEM_SIZE[storage.dtype]), storage, order)

  return "torch legacy", content, load


def _storages_in(content: Any) -> dict[str, Storage]:
  """Every storage that a checkpoint's tensors name, wherever they are (optimizer state too)."""
  found: dict[str, Storage] = {}
  seen: set[int] = set()
  waiting = [content]
  while waiting:  # not recursive: a hostile file may nest deeper than the stack
    value = waiting.pop()
    if isinstance(value, Tensor):
      value = value.storage
    if isinstance(value, Storage):
      if found.setdefault(value.key, value) != value:
        raise ConversionError(f"storage {value.key[:100]!r} is described in two ways")
    elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
      seen.add(id(value))
      waiting.extend(value.values() if isinstance(value, dict) else value)
  return found


def _materialise(
  tensors: dict[str, Tensor],
  load: Callable[[Storage], np.ndarray],
  notes: list[str],
  limit: int,
) -> dict[str, np.ndarray]:
  """The tensors as arrays of their own memory, floating-point ones as float32."""
  if sum(4 * tensor.size for tensor in tensors.values()) > limit:
    raise ConversionError("the tensors would need far more memory than the file has bytes")
  counters = [k for k in tensors if k.rpartition(".")[2] == "num_batches_tracked"]
  if counters:
    notes.append(f"{len(counters)} counters of batch normalisation left out")
  arrays: dict[str, np.ndarray] = {}
  changed: dict[str, int] = {}
  loaded: dict[Storage, np.ndarray] = {}
  uses = collections.Counter(tensor.storage for tensor in tensors.values())
  for key, tensor in tensors.items():
    if key in counters:
      continue
    kind = tensor.storage.dtype
    if tensor.storage not in loaded:
      loaded[tensor.storage] = load(tensor.storage)
    flat = loaded[tensor.storage]
    view = np.lib.stride_tricks.as_strided(
      flat[tensor.offset :],
      tensor.shape,
      [step * flat.itemsize for step in tensor.stride],
      writeable=False,
    )
    floating = flat.dtype.kind == "f"
    with np.errstate(over="ignore"):  # a double beyond float32 becomes inf, which is not finite
      arrays[key] = np.array(view, np.float32 if floating else flat.dtype.newbyteorder("="))
    uses[tensor.storage] -= 1
    if not uses[tensor.storage]:  # a large file is not held in memory twice
      del loaded[tensor.storage]
    if floating and kind != "float32":
      changed[kind] = changed.get(kind, 0) + 1
  notes += [f"{count} arrays changed from {kind} to float32" for kind, count in changed.items()]
  return arrays
