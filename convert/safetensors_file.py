"""Reader of safetensors files: a JSON header of names, types, shapes and offsets, then the data."""

import json
from collections.abc import Callable
from typing import Any

from .binary_file import BinaryFile
from .errors import ConversionError
from .torch_pickle import ITEM_SIZE, MAX_DIMENSIONS, Storage, Tensor

MAX_HEADER = 16 * 2**20
_DTYPES = {
  "F32": "float32",
  "F64": "float64",
  "F16": "float16",
  "BF16": "bfloat16",
  "U8": "uint8",
  "I8": "int8",
  "I16": "int16",
  "I32": "int32",
  "I64": "int64",
  "BOOL": "bool",
}


def looks_like_safetensors(head: bytes) -> bool:
  """Eight bytes of header length, then a JSON object; text would give a length beyond 2**40."""
  return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  result = dict(pairs)
  if len(result) != len(pairs):
    raise ConversionError("the safetensors header names an array twice")
  return result


def _tensor(key: str, entry: Any) -> tuple[Tensor, int, int]:
  """One header entry as (tensor, first byte, byte after the last)."""
  fields = entry if isinstance(entry, dict) else {}
  dtype = _DTYPES.get(str(fields.get("dtype")))
  shape: Any = fields.get("shape")
  places: Any = fields.get("data_offsets")
  if dtype is None:
    raise ConversionError(f"{key[:100]!r} has the unknown type {str(fields.get('dtype'))[:20]!r}")
  numbers = [*shape, *places] if isinstance(shape, list) and isinstance(places, list) else [-1]
  if (
    not all(type(n) is int and 0 <= n < 2**48 for n in numbers)
    or len(places) != 2
    or len(shape) > MAX_DIMENSIONS
  ):
    raise ConversionError(f"{key[:100]!r} has an impossible shape or place")
  stride, size = [], 1
  for length in reversed(shape):
    stride.append(size)
    size *= length
  if places[1] - places[0] != size * ITEM_SIZE[dtype]:
    raise ConversionError(f"{key[:100]!r} has a shape that does not agree with its place")
  storage = Storage(key, dtype, size)
  return Tensor(storage, 0, tuple(shape), tuple(reversed(stride))), places[0], places[1]


def read_safetensors(
  file: BinaryFile,
) -> tuple[dict[str, Tensor], Callable[[Storage], bytes]]:
  """The tensors of a safetensors file, and a function that reads a storage's bytes.

  Raises:
    ConversionError: the header is too long, not JSON, or its places are not exactly the file.
  """
  file.stream.seek(0)
  length = int.from_bytes(file.read(8), "little")
  if length > MAX_HEADER:
    raise ConversionError(f"the safetensors header claims {length} bytes, more than {MAX_HEADER}")
  header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_unique)
  header.pop("__metadata__", None)
  tensors: dict[str, Tensor] = {}
  places: dict[str, tuple[int, int]] = {}
  for key, entry in header.items():
    tensors[key], start, end = _tensor(key, entry)
    places[key] = (start, end)
  position = 0
  for start, end in sorted(places.values()):
    if start != position:
      raise ConversionError("the safetensors header leaves a gap or overlaps between arrays")
    position = end
  if 8 + length + position != file.size:
    raise ConversionError(
      f"the safetensors file has {file.size} bytes where {8 + length + position} are announced",
      remedy="the download is incomplete or damaged: fetch the file again",
    )

  def load(storage: Storage) -> bytes:
    start, end = places[storage.key]
    file.stream.seek(8 + length + start)
    return file.read(end - start)

  return tensors, load
