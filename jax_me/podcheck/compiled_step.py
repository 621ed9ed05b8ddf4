"""HBM traffic and communication between chips of a compiled step, from its HLO text.

`cost_analysis` of a compiled program counts a loop body once and counts arrays in on-chip memory
like arrays in HBM. Here a loop body counts once per iteration, and only HBM counts.
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
# Instructions that move no data. Neither do `-done` instructions: `-start` is counted.
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
_SLICES = ("dynamic-slice", "slice", "gather")  # read a part of their first operand


@dataclasses.dataclass(frozen=True)
class Collective:
  """All collectives of one kind and group size in a step.

  Attributes:
    kind: "all-reduce", ...
    group: number of chips in a replica group.
    count: number of executions per step.
    bytes: total size of the full (unsharded) arrays.
  """

  kind: str
  group: int
  count: int
  bytes: int

  @property
  def sent(self) -> float:
    """Bytes sent per chip by the optimal algorithm on a ring or torus."""
    share = (self.group - 1) / self.group
    if self.kind == "all-reduce":
      return 2 * share * self.bytes
    if self.kind in ("all-gather", "reduce-scatter"):
      return share * self.bytes
    if self.kind in ("all-to-all", "ragged-all-to-all"):
      return share * self.bytes
    return float(self.bytes)


@dataclasses.dataclass
class StepTraffic:
  """Data movement of one chip in a step.

  Attributes:
    hbm_bytes: bytes read from and written to HBM.
    collectives: communication between chips, largest first.
    unknown_loops: loops with an unknown trip count; their bodies count once.
  """

  hbm_bytes: int
  collectives: list[Collective]
  unknown_loops: int


def count_traffic(text: str, chips: int) -> StepTraffic:
  """Counts the traffic of a compiled step.

  Args:
    text: `compiled.as_text()`, the optimised and partitioned HLO of one chip.
    chips: number of chips of the whole program.

  Raises:
    ValueError: the text is not a compiled program.
  """
  return _TrafficCounter(parse_module(text), chips).count()


class _TrafficCounter:
  def __init__(self, module: Module, chips: int):
    self._module = module
    self._chips = chips
    self._collectives: dict[str, tuple[str, int, int, int]] = {}
    self._unknown_loops = 0

  def count(self) -> StepTraffic:
    hbm_bytes = self._computation_bytes(self._module.entry, 1)
    sums: dict[tuple[str, int], list[int]] = {}
    for kind, group, count, size in self._collectives.values():
      total = sums.setdefault((kind, group), [0, 0])
      total[0] += count
      total[1] += count * size
    collectives = [Collective(kind, group, *total) for (kind, group), total in sums.items()]
    collectives.sort(key=lambda collective: -collective.bytes)
    return StepTraffic(hbm_bytes, collectives, self._unknown_loops)

  def _computation_bytes(self, name: str, times: int) -> int:
    computation = self._module.computations[name]
    return sum(
      self._instruction_bytes(i, computation, times) for i in computation.instructions.values()
    )

  def _instruction_bytes(
    self, instruction: Instruction, computation: Computation, times: int
  ) -> int:
    """HBM bytes of an instruction that runs `times` times; records collectives."""
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith("-done"):
      return 0
    if opcode == "while":
      body = instruction.called("body")
      trip_count = _trip_count(instruction, self._module)
      self._unknown_loops += trip_count is None
      return self._computation_bytes(body, times * (trip_count or 1)) if body else 0
    if opcode == "conditional":
      return max((self._computation_bytes(b, times) for b in instruction.branches), default=0)
    if opcode in ("call", "async-start"):
      called = instruction.called("to_apply") or instruction.called("calls")
      return self._computation_bytes(called, times) if called else 0
    if opcode.removesuffix("-start") in COLLECTIVES:
      self._record(instruction, computation, times)
    if opcode == "fusion":
      called = instruction.called("calls")
      inner = self._module.computations[called] if called else None
      if inner is not None:
        for part in inner.instructions.values():
          if part.opcode.removesuffix("-start") in COLLECTIVES:
            self._record(part, inner, times, fusion=called)
        return times * _fusion_bytes(instruction, computation, inner)
    return times * _plain_bytes(instruction, computation)

  def _record(
    self, part: Instruction, computation: Computation, times: int, fusion: str | None = None
  ) -> None:
    """Records a collective; fused ones that share a channel are stages of one collective."""
    kind = part.opcode.removesuffix("-start")
    group = _group_size(part.attributes) or self._chips
    size = sum(shape.bytes for shape in _operand_shapes(part, computation))
    if kind == "all-gather":
      size *= group
    if kind == "all-reduce" and fusion is not None and "scatter" in fusion:
      kind = "reduce-scatter"  # On TPU: an all-reduce fused with a slice.
    channel = re.search(r"channel_id=(\d+)", part.attributes) if fusion is not None else None
    key = channel.group(1) if channel else f"{id(computation)}/{part.name}"
    self._collectives.setdefault(key, (kind, group, times, size))


def _trip_count(loop: Instruction, module: Module) -> int | None:
  """Trip count of a loop: annotated by the compiler, or the constant in its condition."""
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


def _group_size(attributes: str) -> int | None:
  """Size of a replica group, from any of XLA's notations; None means all chips."""
  order = r"(?:, device_ids=\(\[[\d,]*\](?:T\([\d,]*\))?\))?"
  mesh = re.search(rf"replica_groups=mesh\[([^\]]*)\]{order}\s*\{{([^}}]*)\}}", attributes)
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


def _hbm_bytes(shapes: Iterator[Shape] | tuple[Shape, ...]) -> int:
  return sum(shape.bytes for shape in shapes if shape.in_hbm)


def _plain_bytes(instruction: Instruction, computation: Computation) -> int:
  """HBM bytes of the operands and results of an instruction outside a fusion."""
  opcode = instruction.opcode
  if opcode == "custom-call" and any(t in instruction.attributes for t in _FREE_TARGETS):
    return 0
  operands = list(_operand_shapes(instruction, computation))
  if opcode in ("copy-start", "slice-start", "dynamic-slice-start"):
    # (destination, source, context), and (source, destination, context): both copy one array.
    copied = instruction.shapes[0 if opcode == "copy-start" else 1]
    return copied.bytes * (copied.in_hbm + operands[0].in_hbm)
  if opcode in _SLICES:
    return _hbm_bytes(instruction.shapes) + (
      instruction.shapes[0].bytes if operands[0].in_hbm else 0
    )
  if opcode == "dynamic-update-slice":
    return _hbm_bytes((operands[1],)) + (operands[1].bytes if operands[0].in_hbm else 0)
  return _hbm_bytes(tuple(operands)) + _hbm_bytes(instruction.shapes)


def _fusion_bytes(fusion: Instruction, outer: Computation, inner: Computation) -> int:
  """HBM bytes of a fusion; for an operand that is only sliced, the slices count."""
  total = 0
  for name, parameter in zip(fusion.operands, inner.parameters, strict=False):
    operand = outer.instructions.get(name)
    if operand is not None and any(shape.in_hbm for shape in operand.shapes):
      total += min(_hbm_bytes(operand.shapes), _read_bytes(parameter, inner))
  results = _written_bytes(inner.instructions[inner.root], inner)
  if len(results) != len(fusion.shapes):
    return total + _hbm_bytes(fusion.shapes)
  return total + sum(
    size for size, shape in zip(results, fusion.shapes, strict=True) if shape.in_hbm
  )


def _read_bytes(name: str, inner: Computation) -> int:
  """Bytes that a fused computation reads of one of its inputs."""
  total = 0
  for user in inner.users[name]:
    first = user.operands[0] == name
    if first and user.opcode in _SLICES:
      total += user.shapes[0].bytes
    elif first and user.opcode == "dynamic-update-slice":
      continue  # Written in place.
    elif user.opcode == "bitcast":
      total += _read_bytes(user.name, inner)
    else:
      return sum(shape.bytes for shape in inner.instructions[name].shapes)
  return total


def _written_bytes(root: Instruction, inner: Computation) -> list[int]:
  """Bytes written per result of a fused computation; for an in-place update, only the update."""
  if root.opcode == "tuple":
    return [
      size for name in root.operands for size in _written_bytes(inner.instructions[name], inner)
    ]
  source = root
  while source.opcode == "bitcast":
    source = inner.instructions[source.operands[0]]
  if source.opcode == "dynamic-update-slice":
    return [inner.instructions[source.operands[1]].shapes[0].bytes]
  return [shape.bytes for shape in root.shapes]
