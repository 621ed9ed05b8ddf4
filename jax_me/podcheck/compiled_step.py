"""What a compiled step moves: bytes through HBM and bytes between chips, by its own text.

`cost_analysis` of a compiled program takes a loop's body once and counts arrays in the chip's own
memory like those in HBM; here bodies count as often as they run, and only HBM counts.
"""

import dataclasses
import re
from collections.abc import Iterator

from jax_me.podcheck.hlo import Computation, Instruction, Module, Shape, parse_module

COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
  "collective-broadcast",
  "ragged-all-to-all",
)
# Renaming, bookkeeping, and the ends of what a `-start` began.
_FREE = {
  "parameter",
  "constant",
  "tuple",
  "get-tuple-element",
  "bitcast",
  "after-all",
  "opt-barrier",
  "partition-id",
  "replica-id",
  "add-dependency",
  "domain",
}
_FREE_TARGETS = ("AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound", "Sharding")
_WINDOWS = ("dynamic-slice", "slice", "gather")  # read a part of their first operand


@dataclasses.dataclass(frozen=True)
class Collective:
  """One kind of exchange over groups of one size, over a whole step.

  Attributes:
    kind: "all-reduce", ...
    group: chips that exchange with each other.
    count: how often a step runs one.
    bytes: of the whole arrays, not of a chip's share of them.
  """

  kind: str
  group: int
  count: int
  bytes: int

  @property
  def sent(self) -> float:
    """Bytes that each chip must send at least, by the best algorithm on a ring or torus."""
    share = (self.group - 1) / self.group
    if self.kind == "all-reduce":
      return 2 * share * self.bytes
    if self.kind in ("all-gather", "reduce-scatter"):
      return share * self.bytes
    if self.kind in ("all-to-all", "ragged-all-to-all"):
      return share * self.bytes
    return float(self.bytes)


@dataclasses.dataclass
class Movement:
  """What one chip moves in a step.

  Attributes:
    hbm_bytes: read from and written to HBM.
    collectives: exchanges between chips, largest first.
    unknown_loops: loops whose number of rounds is not in the program; they count once.
  """

  hbm_bytes: int
  collectives: list[Collective]
  unknown_loops: int


def read_movement(text: str, chips: int) -> Movement:
  """Reads the text of a compiled step (`compiled.as_text()`).

  Args:
    text: HLO after optimisation and partitioning: what one chip runs.
    chips: of the whole program.

  Raises:
    ValueError: the text is no compiled program.
  """
  return _Reader(parse_module(text), chips).read()


class _Reader:
  def __init__(self, module: Module, chips: int):
    self._module = module
    self._chips = chips
    self._exchanges: dict[str, tuple[str, int, int, int]] = {}
    self._unknown = 0

  def read(self) -> Movement:
    moved = self._computation(self._module.entry, 1)
    sums: dict[tuple[str, int], list[int]] = {}
    for kind, group, count, size in self._exchanges.values():
      total = sums.setdefault((kind, group), [0, 0])
      total[0] += count
      total[1] += count * size
    found = [Collective(kind, group, *total) for (kind, group), total in sums.items()]
    found.sort(key=lambda collective: -collective.bytes)
    return Movement(moved, found, self._unknown)

  def _computation(self, name: str, times: int) -> int:
    computation = self._module.computations[name]
    return sum(self._moved(i, computation, times) for i in computation.instructions.values())

  def _moved(self, instruction: Instruction, computation: Computation, times: int) -> int:
    """Bytes through HBM of an instruction that runs so many times; notes exchanges."""
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith("-done"):
      return 0
    if opcode == "while":
      body = instruction.called("body")
      rounds = _rounds(instruction, self._module)
      self._unknown += rounds is None
      return self._computation(body, times * (rounds or 1)) if body else 0
    if opcode == "conditional":
      return max((self._computation(b, times) for b in instruction.branches), default=0)
    if opcode in ("call", "async-start"):
      called = instruction.called("to_apply") or instruction.called("calls")
      return self._computation(called, times) if called else 0
    if opcode.removesuffix("-start") in COLLECTIVES:
      self._note(instruction, computation, times)
    if opcode == "fusion":
      called = instruction.called("calls")
      inner = self._module.computations[called] if called else None
      if inner is not None:
        for part in inner.instructions.values():
          if part.opcode.removesuffix("-start") in COLLECTIVES:
            self._note(part, inner, times, scattered=called is not None and "scatter" in called)
        return times * _fusion_bytes(instruction, computation, inner)
    return times * _plain_bytes(instruction, computation)

  def _note(
    self, part: Instruction, computation: Computation, times: int, scattered: bool = False
  ) -> None:
    """Adds an exchange; several instructions with one channel are stages of the same one."""
    kind = part.opcode.removesuffix("-start")
    group = _group(part.attributes) or self._chips
    size = sum(shape.bytes for shape in _operand_shapes(part, computation))
    if kind == "all-gather":
      size *= group
    if kind == "all-reduce" and scattered:
      kind = "reduce-scatter"  # TPU's form of it: an all-reduce fused with a slice.
    channel = re.search(r"channel_id=(\d+)", part.attributes)
    key = channel.group(1) if channel else f"{id(computation)}/{part.name}"
    self._exchanges.setdefault(key, (kind, group, times, size))


def _rounds(loop: Instruction, module: Module) -> int | None:
  """How often a loop runs: known by the compiler, or the constant that its counter is held to."""
  known = re.search(r'known_trip_count"?[:=]\{"?n"?[:=]"?(\d+)', loop.attributes)
  if known:
    return int(known.group(1))
  name = loop.called("condition")
  condition = module.computations.get(name) if name else None
  if condition is None:
    return None
  test = condition.instructions[condition.root]
  if test.opcode == "fusion":
    inner = module.computations.get(test.called("calls") or "")
    if inner is None or inner.instructions[inner.root].opcode != "compare":
      return None
    test_direction = inner.instructions[inner.root].attributes
  else:
    test_direction = test.attributes
  if "direction=LT" not in test_direction:
    return None
  limits = [i.literal for i in condition.instructions.values() if i.opcode == "constant"]
  return int(limits[0]) if len(limits) == 1 and limits[0].isdigit() else None


def _group(attributes: str) -> int | None:
  """Chips in a group, from any of the ways in which XLA writes them; None = all of them."""
  mesh = re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", attributes)
  if mesh:
    lengths = {name: int(n) for name, n in re.findall(r"'([^']+)'=(\d+)", mesh.group(1))}
    size = 1
    for name, part in re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh.group(2)):
      size *= int(part) if part else lengths[name]
    return size
  iota = re.search(r"replica_groups=\[(\d+),(\d+)\]<=", attributes)
  if iota:
    return int(iota.group(2))
  listed = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
  if listed:
    return listed.group(1).count(",") + 1
  return None


def _operand_shapes(instruction: Instruction, computation: Computation) -> Iterator[Shape]:
  for name in instruction.operands:
    operand = computation.instructions.get(name)
    if operand is not None:
      yield from operand.shapes


def _hbm(shapes: Iterator[Shape] | tuple[Shape, ...]) -> int:
  return sum(shape.bytes for shape in shapes if shape.in_hbm)


def _plain_bytes(instruction: Instruction, computation: Computation) -> int:
  """Operands read and results written, of an instruction outside fusions."""
  opcode = instruction.opcode
  if opcode == "custom-call" and any(t in instruction.attributes for t in _FREE_TARGETS):
    return 0
  operands = list(_operand_shapes(instruction, computation))
  if opcode in ("copy-start", "slice-start", "dynamic-slice-start"):
    # (destination, source, context), and (source, destination, context): both move one piece.
    piece = instruction.shapes[0 if opcode == "copy-start" else 1]
    return piece.bytes * (piece.in_hbm + operands[0].in_hbm)
  if opcode in _WINDOWS:
    return _hbm(instruction.shapes) + (instruction.shapes[0].bytes if operands[0].in_hbm else 0)
  if opcode == "dynamic-update-slice":
    return _hbm((operands[1],)) + (operands[1].bytes if operands[0].in_hbm else 0)
  return _hbm(tuple(operands)) + _hbm(instruction.shapes)


def _fusion_bytes(fusion: Instruction, outer: Computation, inner: Computation) -> int:
  """What a fusion reads and writes: of an operand that it only cuts from, the pieces."""
  total = 0
  for name, parameter in zip(fusion.operands, inner.parameters, strict=False):
    operand = outer.instructions.get(name)
    if operand is not None and any(shape.in_hbm for shape in operand.shapes):
      total += min(_hbm(operand.shapes), _read_bytes(parameter, inner))
  results = _results(inner.instructions[inner.root], inner)
  if len(results) != len(fusion.shapes):
    return total + _hbm(fusion.shapes)
  return total + sum(
    size for size, shape in zip(results, fusion.shapes, strict=True) if shape.in_hbm
  )


def _read_bytes(name: str, inner: Computation) -> int:
  """Bytes that a fused computation reads of one of its inputs."""
  total = 0
  for user in inner.users[name]:
    first = user.operands[0] == name
    if first and user.opcode in _WINDOWS:
      total += user.shapes[0].bytes
    elif first and user.opcode == "dynamic-update-slice":
      continue  # Written in place.
    elif user.opcode == "bitcast":
      total += _read_bytes(user.name, inner)
    else:
      return sum(shape.bytes for shape in inner.instructions[name].shapes)
  return total


def _results(root: Instruction, inner: Computation) -> list[int]:
  """Bytes that each result of a fused computation writes; an update in place only its piece."""
  if root.opcode == "tuple":
    return [size for name in root.operands for size in _results(inner.instructions[name], inner)]
  source = root
  while source.opcode == "bitcast":
    source = inner.instructions[source.operands[0]]
  if source.opcode == "dynamic-update-slice":
    return [inner.instructions[source.operands[1]].shapes[0].bytes]
  return [shape.bytes for shape in root.shapes]
