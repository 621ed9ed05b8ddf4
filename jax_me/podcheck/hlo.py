"""Parser for the HLO text of a compiled program."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+)[ (].*\{\s*$")
_NAME = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = ")
_SHAPE = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?|token|opaque)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_OPERAND = re.compile(r"%([\w.\-]+)")
_COMMENT = re.compile(r"/\*.*?\*/")


@dataclasses.dataclass(frozen=True)
class Shape:
  """Size of one array, and whether it is in HBM or in on-chip memory."""

  bytes: int
  in_hbm: bool


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line: `name = shapes opcode(operands), attributes`; tuples of shapes are flattened."""

  name: str
  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  literal: str
  attributes: str

  def called(self, attribute: str) -> str | None:
    """Name of the computation in an attribute such as `body` or `calls`."""
    found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.attributes)
    return found.group(1) if found else None

  @functools.cached_property
  def branches(self) -> list[str]:
    """Names of the branch computations of a conditional."""
    listed = re.search(r"branch_computations=\{([^}]*)\}", self.attributes)
    if listed:
      return [name.strip().lstrip("%") for name in listed.group(1).split(",")]
    sides = (self.called("true_computation"), self.called("false_computation"))
    return [side for side in sides if side]


@dataclasses.dataclass(frozen=True)
class Computation:
  """Instructions by name, in program order; `root` is the name of the result."""

  instructions: Mapping[str, Instruction]
  root: str

  @functools.cached_property
  def parameters(self) -> list[str]:
    """Names of the parameters, ordered by number."""
    numbered = [i for i in self.instructions.values() if i.opcode == "parameter"]
    return [i.name for i in sorted(numbered, key=lambda i: int(i.literal))]

  @functools.cached_property
  def users(self) -> dict[str, list[Instruction]]:
    """Instructions that use each result as an operand."""
    found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
    for instruction in self.instructions.values():
      for operand in dict.fromkeys(instruction.operands):
        found.setdefault(operand, []).append(instruction)
    return found


@dataclasses.dataclass(frozen=True)
class Module:
  """Computations by name, and the name of the entry computation."""

  computations: Mapping[str, Computation]
  entry: str


def parse_module(text: str) -> Module:
  """Parses `compiled.as_text()`.

  Raises:
    ValueError: the text is not a compiled program.
  """
  computations: dict[str, Computation] = {}
  entry, name, root = "", "", ""
  lines: dict[str, Instruction] = {}
  for line in text.splitlines():
    if line.startswith("}"):
      computations[name] = Computation(lines, root)
      name = ""
    elif name:
      found = _NAME.match(line)
      if found:
        instruction = _instruction(found.group(2), line[found.end() :])
        lines[instruction.name] = instruction
        root = instruction.name if found.group(1) or not root else root
    elif not line.startswith((" ", "HloModule")):
      header = _HEADER.match(line)
      if header:
        name, root, lines = header.group(2), "", {}
        entry = name if header.group(1) else entry
  if not entry:
    raise ValueError("not a compiled program: the text has no ENTRY computation")
  return Module(computations, entry)


def _instruction(name: str, rest: str) -> Instruction:
  """Parses an instruction; `rest` is the text after the equals sign."""
  rest = _COMMENT.sub("", rest)
  end = _closing(rest) + 1 if rest.startswith("(") else rest.index(" ")
  shapes, rest = rest[:end], rest[end:].lstrip()
  opcode, _, rest = rest.partition("(")
  end = _closing("(" + rest) - 1
  inside = rest[:end]
  return Instruction(
    name=name,
    opcode=opcode.strip(),
    shapes=_shapes(shapes),
    operands=tuple(_OPERAND.findall(inside)),
    literal=inside,
    attributes=rest[end + 1 :],
  )


def _closing(text: str) -> int:
  """Position of the parenthesis that closes the one at the start."""
  depth = 0
  for position, character in enumerate(text):
    depth += (character == "(") - (character == ")")
    if depth == 0:
      return position
  raise ValueError(f"unbalanced parentheses in a compiled program: {text[:80]}")


def _shapes(text: str) -> tuple[Shape, ...]:
  found = []
  for kind, dimensions, layout in _SHAPE.findall(text):
    lengths = [int(length.lstrip("<=")) for length in dimensions.split(",") if length]
    # S(1) and higher are on-chip memories; no annotation means HBM.
    in_hbm = not re.search(r"S\([1-9]\d*\)", layout)
    found.append(Shape(math.ceil(_bits(kind) * math.prod(lengths) / 8), in_hbm))
  return tuple(found)


def _bits(kind: str) -> int:
  """Bits per element of a type: bf16 has 16, f8e4m3fn 8, c64 64."""
  if kind in _BITS:
    return _BITS[kind]
  number = re.search(r"\d+", kind)
  return int(number.group()) if number else 0
