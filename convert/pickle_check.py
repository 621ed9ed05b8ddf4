"""Check of a checkpoint's pickle before torch reads it; nothing in the pickle is built or executed.

`torch.load(weights_only=True)` executes nothing either, but it trusts the sizes that a file states:
a deeply nested key crashes it, `bytearray(2**32)` takes 4 GB, a storage that is left out is
uninitialised memory. The check walks the opcodes, bounds the work, and refuses every name that a
checkpoint of weights does not need. It returns the sizes of the storages, to be compared with the
file.
"""

import argparse
import contextlib
import itertools
import pickletools
from collections.abc import Callable, Iterator
from typing import IO, Any

from .errors import ConversionError

# One opcode or one copied element costs one; ViT-huge with its optimizer state needs about 50,000.
MAX_WORK = 1_000_000

_ITEM_SIZES = {
  "torch.FloatStorage": 4,
  "torch.DoubleStorage": 8,
  "torch.HalfStorage": 2,
  "torch.BFloat16Storage": 2,
  "torch.ByteStorage": 1,
  "torch.CharStorage": 1,
  "torch.ShortStorage": 2,
  "torch.IntStorage": 4,
  "torch.LongStorage": 8,
  "torch.BoolStorage": 1,
}
_DTYPES = ("float16", "float32", "float64", "bfloat16", "uint8", "int8", "int16", "int32", "int64")
# Calls that hash the elements of their argument, or the first of each pair.
_HASHING = ("collections.OrderedDict", "collections.Counter", "builtins.set")
# What torch builds: containers, tensors, and plain values beside them.
_BUILT = {
  *_HASHING,
  *_ITEM_SIZES,
  *(f"torch.{name}" for name in (*_DTYPES, "bool", "Size", "device")),
  "torch._utils._rebuild_tensor",
  "torch._utils._rebuild_tensor_v2",
  "torch._utils._rebuild_parameter",
  "torch._utils._rebuild_parameter_with_state",
  "_codecs.encode",  # the bytes of a number, in the pickles of Python 3
}


class IgnoredValue:
  """Stand-in for a value beside the weights that the conversion does not use."""

  def __init__(self, *args: Any):
    pass

  def __setstate__(self, state: Any) -> None:
    pass


def _plain_dict(*args: Any) -> dict:
  """Stand-in for collections.defaultdict, whose factory is not needed."""
  return {}


_NUMPY = ("float16", "float32", "float64", "int32", "int64", "uint8", "bool_", "bool", "str_")
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
# Harmless values of training scripts. The real classes are not used: numpy moves its private
# modules between versions, and the path of another operating system cannot be built.
_IGNORED = (
  *(f"numpy.{name}" for name in ("dtype", "ndarray", *_NUMPY)),
  *(
    f"numpy.{core}.multiarray.{name}"
    for core in ("core", "_core")
    for name in ("scalar", "_reconstruct")
  ),
  *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS),
  *(f"builtins.{name}" for name in ("dict", "list", "int", "float")),  # of a defaultdict
)
# For `torch.serialization.safe_globals`: what stands for a name, and the name.
SAFE_GLOBALS: list[tuple[Callable, str]] = [
  (argparse.Namespace, "argparse.Namespace"),
  (_plain_dict, "collections.defaultdict"),
  *((IgnoredValue, name) for name in _IGNORED),
]
_ALLOWED = _BUILT.union(name for _, name in SAFE_GLOBALS)


class _Name(str):
  """A name of the table, on the stack; never the object itself."""


_OBJECT = object()  # what a call returns
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}
_EMPTY = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def check_pickle(stream: IO[bytes]) -> tuple[Any, dict[str | int, int]]:
  """Walks one pickle, from the stream's position to the byte after its end.

  Args:
    stream: of the pickle, in memory or mapped: reads may not exceed what is there.

  Returns:
    The outline of the value (constants, tuples, lists and dicts), and {key: bytes} of its storages.

  Raises:
    ConversionError: the pickle is damaged, too large, names something that a checkpoint of weights
      does not need, or uses an operation that torch does not read without executing code.
  """
  walk = _Walk(stream)
  with _damage_reported(stream):
    return walk.run(), walk.storages


def begins_with(stream: IO[bytes], constant: int) -> bool:
  """Whether the pickle at the stream's position is this number; the position stays.

  Raises:
    ConversionError: the stream ends within the number.
  """
  position = stream.tell()
  with _damage_reported(stream):
    # The number comes after the protocol and, since protocol 4, the length of a frame.
    first = [argument for _, argument, _ in itertools.islice(pickletools.genops(stream), 3)]
  stream.seek(position)
  return constant in first


@contextlib.contextmanager
def _damage_reported(stream: IO[bytes]) -> Iterator[None]:
  try:
    yield
  except ConversionError:
    raise
  except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
    reason = "the pickle is damaged" if stream.read(1) else "the file ends too early"
    raise ConversionError(
      f"{reason} ({str(error)[:200]})",
      remedy="the download is incomplete or damaged: fetch the file again",
    ) from error


class _Walk:
  """The run of a pickle on constants and outlines of containers, without the objects it names."""

  def __init__(self, stream: IO[bytes]):
    self.operations: Iterator[tuple[Any, Any, Any]] = pickletools.genops(stream)
    self.storages: dict[str | int, int] = {}
    self.protocol = 2
    self.work = 0

  def run(self) -> Any:
    stack: list[Any] = []  # since the last mark
    below: list[list[Any]] = []  # the stacks below the marks
    memo: dict[int, Any] = {}
    for opcode, argument, _ in self.operations:
      self._spend(1)
      match opcode.name:
        case name if name in _LITERALS:
          stack.append(argument)
        case name if name in _CONSTANTS:
          stack.append(_CONSTANTS[name])
        case name if name in _EMPTY:
          stack.append(_EMPTY[name]())
        case name if name in _TUPLES:
          stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        case "MARK":
          below.append(stack)
          stack = []
        case "TUPLE":
          items, stack = stack, below.pop()
          stack.append(tuple(items))
        case "APPENDS":
          items, stack = stack, below.pop()
          stack[-1].extend(items)
        case "SETITEMS":
          items, stack = stack, below.pop()
          _set_items(stack[-1], items)
        case "APPEND":
          item = stack.pop()
          stack[-1].append(item)
        case "SETITEM":
          value, key = stack.pop(), stack.pop()
          _set_items(stack[-1], [key, value])
        case "BINPUT" | "LONG_BINPUT":
          memo[argument] = stack[-1]
        case "BINGET" | "LONG_BINGET":
          stack.append(memo[argument])
        case "GLOBAL":
          stack.append(self._name(argument))
        case "REDUCE" | "NEWOBJ":
          args, function = stack.pop(), stack.pop()
          stack.append(self._call(function, args))
        case "BUILD":
          state = stack.pop()
          self._spend_on(state if isinstance(state, tuple) else (state,))
        case "BINPERSID":
          self._add_storage(stack.pop())
          stack.append(_OBJECT)
        case "PROTO":
          self.protocol = argument
        case "STOP":
          return stack.pop()
        case name:
          raise _unreadable(name, self.protocol)
    raise AssertionError("genops ends with STOP")

  def _spend(self, work: int) -> None:
    self.work += work
    if self.work > MAX_WORK:
      raise ConversionError("the pickle is far larger than any checkpoint's")

  def _spend_on(self, copied: tuple) -> None:
    """Values that a call copies cost their length, however often the pickle repeats them."""
    self._spend(len(copied) + sum(len(value) for value in copied if hasattr(value, "__len__")))

  def _name(self, argument: str) -> _Name:
    name = argument.replace(" ", ".", 1)
    if name.startswith("__builtin__."):  # of Python 2, which protocol 2 names
      name = name.replace("__builtin__", "builtins")
    if name in _ALLOWED:
      return _Name(name)
    rest = itertools.islice(self.operations, MAX_WORK)
    names = [argument, *(text for opcode, text, _ in rest if opcode.name == "GLOBAL")]
    if any(text.startswith("torch.nn.modules.") for text in names):
      raise ConversionError(
        "the file holds a whole model, whose code would have to be executed; nothing in the file "
        "was executed",
        remedy="where its code is installed, and if you trust the file, save its weights:\n"
        "  model = torch.load(FILE, map_location='cpu', weights_only=False)\n"
        "  torch.save(model.state_dict(), NEW_FILE)",
      )
    raise ConversionError(
      f"the file asks to run {name[:200]}, which is not among the few things a checkpoint of "
      "weights needs; nothing in the file was executed",
      remedy="if you trust where the file comes from, load it with the project that wrote it and "
      "save only model.state_dict()",
    )

  def _call(self, function: Any, args: Any) -> Any:
    if type(function) is not _Name or type(args) is not tuple:
      raise ConversionError("the pickle calls something that cannot be called")
    self._spend_on(args)
    if function == "collections.defaultdict":
      return {}
    if function not in _HASHING:
      return _OBJECT
    elements = list(args[0]) if args else []
    if function == "collections.OrderedDict" and not isinstance(args and args[0], dict):
      elements = [key for key, _ in elements]
    return dict.fromkeys(map(_checked_key, elements))

  def _add_storage(self, identity: Any) -> None:
    """("storage", type, key, device, elements), with a view's place in files before torch 0.4."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
      raise ConversionError("a storage is described in an unknown way")
    _, kind, key, _, count = identity[:5]
    item_size = _ITEM_SIZES.get(kind) if type(kind) is _Name else None
    if item_size is None or type(count) is not int or count < 0 or type(key) not in (str, int):
      raise ConversionError("a storage has an unknown type, key or size")
    size = count * item_size
    if self.storages.setdefault(key, size) != size:
      raise ConversionError(f"storage {str(key)[:100]!r} is described in two ways")


def _set_items(target: Any, items: list[Any]) -> None:
  for key, value in zip(items[::2], items[1::2], strict=True):
    target[_checked_key(key)] = value


def _checked_key(key: Any) -> Any:
  """Keys and elements of sets are plain: hashing a nested one can take forever or crash."""
  if key is not None and type(key) not in (str, int, float, bool):
    raise ConversionError("a dict or set has a key that is neither text nor a number")
  return key


def _unreadable(operation: str, protocol: int) -> ConversionError:
  if protocol <= 2:
    return ConversionError(f"pickle operation {operation} is not one that torch.save writes")
  return ConversionError(
    f"the file was saved with pickle protocol {protocol} (operation {operation}), which "
    "torch does not read without executing code; nothing in the file was executed",
    remedy="if you trust the file, save it again with torch's own protocol:\n"
    "  content = torch.load(FILE, map_location='cpu', weights_only=False)\n"
    "  torch.save(content, NEW_FILE)",
  )
