"""Restricted pickle reader for the data that torch.save writes; executes nothing.

The standard unpickler calls whatever the file names. Here no name in the file is imported or
called: names are looked up in the table below, each of which stands for a handler in this module,
and any other name is an error. Work and memory are bounded by the size of the file. The pickle is
read without torch, so that neither its import time nor its C++ reader is between us and the file.
"""

import dataclasses
import struct
from collections.abc import Callable
from typing import Any

from .errors import ConversionError

# One opcode or one copied element costs one; ViT-huge with its optimizer state needs about 50,000.
MAX_WORK = 1_000_000
MAX_DIMENSIONS = 8

_DTYPES = {
  "FloatStorage": "float32",
  "DoubleStorage": "float64",
  "HalfStorage": "float16",
  "BFloat16Storage": "bfloat16",
  "ByteStorage": "uint8",
  "CharStorage": "int8",
  "ShortStorage": "int16",
  "IntStorage": "int32",
  "LongStorage": "int64",
  "BoolStorage": "bool",
}
ITEM_SIZE = {
  "float32": 4,
  "float64": 8,
  "float16": 2,
  "bfloat16": 2,
  "uint8": 1,
  "int8": 1,
  "int16": 2,
  "int32": 4,
  "int64": 8,
  "bool": 1,
}


@dataclasses.dataclass(frozen=True)
class Storage:
  """A flat array that lies elsewhere in the file."""

  key: str
  dtype: str
  size: int  # elements


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A view of a storage, bounds already checked."""

  storage: Storage
  offset: int  # elements
  shape: tuple[int, ...]
  stride: tuple[int, ...]

  @property
  def size(self) -> int:
    total = 1
    for length in self.shape:
      total *= length
    return total


class Namespace(dict):
  """What an argparse.Namespace held; a plain dict of its attributes."""


@dataclasses.dataclass(frozen=True)
class _Name:
  """A name of the table, on the stack; never the real object."""

  module: str
  name: str


class _Mark:
  pass


_MARK = _Mark()


def _is_count(value: Any) -> bool:
  return type(value) is int and 0 <= value < 2**48


def _check_key(key: Any) -> Any:
  """Dict keys and set elements are plain values: hashing a nested one could exhaust the stack."""
  if key is not None and type(key) not in (str, int, float, bool):
    raise ConversionError("a dict or set has a key that is neither text nor a number")
  return key


def _tensor(args: tuple) -> Tensor:
  """torch._utils._rebuild_tensor[_v2](storage, offset, size, stride, ...)."""
  if len(args) < 4:
    raise ConversionError("a tensor is described by too few values")
  storage, offset, shape, stride = args[:4]
  if not (
    isinstance(storage, Storage)
    and _is_count(offset)
    and isinstance(shape, tuple)
    and isinstance(stride, tuple)
    and len(shape) == len(stride) <= MAX_DIMENSIONS
    and all(map(_is_count, shape + stride))
  ):
    raise ConversionError("a tensor has an impossible storage, offset, shape or stride")
  tensor = Tensor(storage, offset, shape, stride)
  if tensor.size:
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    if last >= storage.size or tensor.size > storage.size:
      raise ConversionError(
        f"a tensor of shape {shape} does not fit its storage of {storage.size} elements",
        remedy="the file is damaged, or holds an expanded tensor: save tensor.contiguous()",
      )
  return tensor


def _parameter(args: tuple) -> Any:
  """torch._utils._rebuild_parameter[_with_state](data, requires_grad, hooks, ...): the data."""
  if not args or not isinstance(args[0], Tensor):
    raise ConversionError("a parameter without a tensor")
  return args[0]


def _size(args: tuple) -> tuple:
  if len(args) != 1 or not isinstance(args[0], (tuple, list)):
    raise ConversionError("a torch.Size of something that is not a sequence")
  return tuple(args[0])


def _mapping(args: tuple) -> dict:
  """OrderedDict() or OrderedDict([(key, value), ...])."""
  if not args:
    return {}
  pairs = list(args[0].items()) if isinstance(args[0], dict) else args[0]
  if len(args) > 1 or not isinstance(pairs, (list, tuple)):
    raise ConversionError("a mapping made of something that is not pairs")
  if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
    raise ConversionError("a mapping made of something that is not pairs")
  return {_check_key(key): value for key, value in pairs}


def _namespace(args: tuple) -> Namespace:
  if args:
    raise ConversionError("an argparse.Namespace with positional values")
  return Namespace()


def _text(args: tuple) -> str:
  return " ".join(a for a in args if isinstance(a, str))


# What the file may name, and the function of this module that stands in for it.
_HANDLERS: dict[tuple[str, str], Callable[[tuple], Any]] = {
  ("collections", "OrderedDict"): _mapping,
  ("collections", "Counter"): _mapping,
  ("argparse", "Namespace"): _namespace,
  ("torch._utils", "_rebuild_tensor"): _tensor,
  ("torch._utils", "_rebuild_tensor_v2"): _tensor,
  ("torch._utils", "_rebuild_parameter"): _parameter,
  ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
  ("torch", "Size"): _size,
  ("torch", "device"): _text,
}
_STORAGES = {("torch", name): dtype for name, dtype in _DTYPES.items()}
_CONSTANTS = {("torch", name) for name in set(_DTYPES.values()) | {"float", "half", "strided"}}


def _refuse(module: str, name: str) -> ConversionError:
  return ConversionError(
    f"the file asks to run {module[:100]}.{name[:100]}, which is not among the few things a "
    "checkpoint of weights needs; nothing in the file was executed",
    remedy="if you trust where the file comes from, load it with the project that wrote it and "
    "save only model.state_dict()",
  )


class PickleReader:
  """Reads one pickle from a `read(count) -> bytes` function (exactly count, or ConversionError)."""

  def __init__(self, read: Callable[[int], bytes], readline: Callable[[], bytes]):
    self._read, self._readline = read, readline
    self._stack: list[Any] = []
    self._memo: dict[int, Any] = {}
    self._work = 0

  def load(self) -> Any:
    """The pickle's value, made of plain Python data, Storage, Tensor and Namespace."""
    try:
      while True:
        self._spend(1)
        code = self._read(1)
        if code == b".":
          return self._stack.pop()
        operation = _OPERATIONS.get(code)
        if operation is None:
          raise ConversionError(f"pickle operation {code!r} is not one that torch.save writes")
        operation(self)
    except (IndexError, KeyError, TypeError, struct.error, UnicodeDecodeError) as error:
      raise ConversionError(f"the pickle is damaged ({type(error).__name__}: {error})") from error

  def _spend(self, work: int) -> None:
    self._work += work
    if self._work > MAX_WORK:
      raise ConversionError("the pickle is far larger than any checkpoint's")

  def _number(self, layout: str) -> Any:
    return struct.unpack(layout, self._read(struct.calcsize(layout)))[0]

  def _push(self, value: Any) -> None:
    self._stack.append(value)

  def _since_mark(self) -> list[Any]:
    stack = self._stack
    for index in range(len(stack) - 1, -1, -1):
      if stack[index] is _MARK:
        items = stack[index + 1 :]
        del stack[index:]
        return items
    raise ConversionError("the pickle is damaged (a mark is missing)")

  def _pop(self, count: int) -> list[Any]:
    if len(self._stack) < count:
      raise ConversionError("the pickle is damaged (the stack is empty)")
    items = self._stack[len(self._stack) - count :]
    del self._stack[len(self._stack) - count :]
    return items

  def _string(self, layout: str) -> str:
    # surrogatepass as Python's own pickle does: names with odd characters stay readable as data.
    return self._read(self._number(layout)).decode("utf-8", "surrogatepass")

  def _bytes(self, layout: str) -> bytes:
    return self._read(self._number(layout))

  def _long(self, layout: str) -> int:
    return int.from_bytes(self._read(self._number(layout)), "little", signed=True)

  def _put(self, index: int) -> None:
    self._memo[index] = self._stack[-1]

  def _set_items(self, pairs: list[Any]) -> None:
    target = self._stack[-1]
    if not isinstance(target, dict) or len(pairs) % 2:
      raise ConversionError("the pickle is damaged (items for something that is not a dict)")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
      target[_check_key(key)] = value

  def _extend(self, items: list[Any]) -> None:
    target = self._stack[-1]
    if not isinstance(target, list):
      raise ConversionError("the pickle is damaged (elements for something that is not a list)")
    target.extend(items)

  def _add(self) -> None:
    items = self._since_mark()
    target = self._stack[-1]
    if not isinstance(target, set):
      raise ConversionError("the pickle is damaged (elements for something that is not a set)")
    target.update(map(_check_key, items))

  def _name(self, module: Any, name: Any) -> None:
    if not isinstance(module, str) or not isinstance(name, str):
      raise ConversionError("the pickle is damaged (a name that is not text)")
    key = (module, name)
    if key in _CONSTANTS:
      self._push(f"{module}.{name}")
    elif key in _HANDLERS or key in _STORAGES:
      self._push(_Name(module, name))
    else:
      raise _refuse(module, name)

  def _global(self) -> None:
    module = self._readline().decode("utf-8")
    self._name(module, self._readline().decode("utf-8"))

  def _call(self) -> None:
    function, args = self._pop(2)
    if not isinstance(function, _Name) or not isinstance(args, tuple):
      raise ConversionError("the pickle calls something that cannot be called")
    handler = _HANDLERS.get((function.module, function.name))
    if handler is None:
      raise _refuse(function.module, function.name)
    if args and isinstance(args[0], (list, tuple, dict)):
      self._spend(len(args[0]))  # copied by the handler
    self._push(handler(args))

  def _build(self) -> None:
    (state,) = self._pop(1)
    target = self._stack[-1]
    if isinstance(target, Namespace) and isinstance(state, dict):
      self._spend(len(state))
      target.update(state)
    elif not isinstance(target, (dict, Tensor)):
      raise ConversionError("the pickle sets the state of something that has none")
    # State of an OrderedDict (`_metadata`) or of a parameter carries no weights.

  def _persistent(self) -> None:
    (identity,) = self._pop(1)
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
      raise ConversionError("a storage is described in an unknown way")
    _, kind, key, _, size = identity[:5]
    dtype = _STORAGES.get((kind.module, kind.name)) if isinstance(kind, _Name) else None
    if dtype is None or not _is_count(size) or not isinstance(key, (str, int)):
      raise ConversionError("a storage has an unknown type, key or size")
    if len(identity) > 5 and identity[5] is not None:
      raise ConversionError(
        "the file was written by a torch older than 0.4",
        remedy="load and save it again with a current torch",
      )
    self._push(Storage(str(key), dtype, size))


def _proto(reader: PickleReader) -> None:
  version = reader._number("<B")
  if not 2 <= version <= 5:
    raise ConversionError(f"pickle protocol {version} is not one that torch.save writes")


_OPERATIONS: dict[bytes, Callable[[PickleReader], Any]] = {
  b"\x80": _proto,
  b"\x95": lambda r: r._number("<Q"),  # frame length: a hint only
  b"(": lambda r: r._push(_MARK),
  b"0": lambda r: r._pop(1),
  b"1": lambda r: r._since_mark(),
  b"2": lambda r: r._push(r._stack[-1]),
  b"N": lambda r: r._push(None),
  b"\x88": lambda r: r._push(True),
  b"\x89": lambda r: r._push(False),
  b"J": lambda r: r._push(r._number("<i")),
  b"K": lambda r: r._push(r._number("<B")),
  b"M": lambda r: r._push(r._number("<H")),
  b"\x8a": lambda r: r._push(r._long("<B")),
  b"\x8b": lambda r: r._push(r._long("<I")),
  b"G": lambda r: r._push(r._number(">d")),
  b"X": lambda r: r._push(r._string("<I")),
  b"\x8c": lambda r: r._push(r._string("<B")),
  b"\x8d": lambda r: r._push(r._string("<Q")),
  b"T": lambda r: r._push(r._string("<I")),
  b"U": lambda r: r._push(r._string("<B")),
  b"B": lambda r: r._push(r._bytes("<I")),
  b"C": lambda r: r._push(r._bytes("<B")),
  b"\x8e": lambda r: r._push(r._bytes("<Q")),
  b"}": lambda r: r._push({}),
  b"]": lambda r: r._push([]),
  b")": lambda r: r._push(()),
  b"\x8f": lambda r: r._push(set()),
  b"t": lambda r: r._push(tuple(r._since_mark())),
  b"\x85": lambda r: r._push(tuple(r._pop(1))),
  b"\x86": lambda r: r._push(tuple(r._pop(2))),
  b"\x87": lambda r: r._push(tuple(r._pop(3))),
  b"\x91": lambda r: r._push(frozenset(map(_check_key, r._since_mark()))),
  b"a": lambda r: r._extend(r._pop(1)),
  b"e": lambda r: r._extend(r._since_mark()),
  b"s": lambda r: r._set_items(r._pop(2)),
  b"u": lambda r: r._set_items(r._since_mark()),
  b"\x90": lambda r: r._add(),
  b"q": lambda r: r._put(r._number("<B")),
  b"r": lambda r: r._put(r._number("<I")),
  b"\x94": lambda r: r._put(len(r._memo)),
  b"h": lambda r: r._push(r._memo[r._number("<B")]),
  b"j": lambda r: r._push(r._memo[r._number("<I")]),
  b"c": PickleReader._global,
  b"\x93": lambda r: r._name(*r._pop(2)),
  b"R": PickleReader._call,
  b"\x81": PickleReader._call,  # new object: cls.__new__(cls, *args); same table, same rule
  b"b": PickleReader._build,
  b"Q": PickleReader._persistent,
}
