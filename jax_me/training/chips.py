"""TPU generations: memory, peak speed and slice sizes from Google's documentation."""

import dataclasses
import math
import re

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """A TPU generation; all values are per chip.

  Attributes:
    name: as in a topology name.
    memory: bytes of HBM.
    flops: peak bfloat16 FLOP/s.
    bandwidth: bytes/s between HBM and the chip.
    interconnect: bytes/s that the chip can send over all its links. The documentation gives the sum
      of both directions; this is one direction.
    axes: number of axes of its torus.
    largest: number of chips of the largest slice.
    source: page with these values.
  """

  name: str
  memory: int
  flops: float
  bandwidth: float
  interconnect: float
  axes: int
  largest: int
  source: str


CHIPS = {
  chip.name: chip
  for chip in (
    # Its page omits the interconnect: six links of 50 GB/s per direction (arXiv:2304.01433).
    Chip("v4", 32 * GIB, 275e12, 1200e9, 300e9, 3, 4096, "https://cloud.google.com/tpu/docs/v4"),
    # 400 GB/s of interconnect in both directions.
    Chip("v5e", 16 * GIB, 197e12, 819e9, 200e9, 2, 256, "https://cloud.google.com/tpu/docs/v5e"),
    # 1200 GB/s of interconnect in both directions.
    Chip("v5p", 95 * GIB, 459e12, 2765e9, 600e9, 3, 8960, "https://cloud.google.com/tpu/docs/v5p"),
    # 800 GB/s of interconnect in both directions.
    Chip("v6e", 32 * GIB, 918e12, 1638e9, 400e9, 2, 256, "https://cloud.google.com/tpu/docs/v6e"),
  )
}


class TopologyError(ValueError):
  """An impossible topology."""


@dataclasses.dataclass(frozen=True)
class Topology:
  """A slice: type of chip, and number of chips along each axis of the torus."""

  chip: Chip
  shape: tuple[int, ...]

  @property
  def chips(self) -> int:
    """Number of chips."""
    return math.prod(self.shape)

  def __str__(self) -> str:
    return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"


def parse_topology(text: str) -> Topology:
  """ "v5e:16x16" -> 256 chips.

  Raises:
    TopologyError: unknown chip or wrong number of axes; the message lists the valid ones.
  """
  match = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", text)
  if match is None:
    raise TopologyError(f"a topology is <chip>:<axes>, for example v5e:16x16, got {text!r}")
  name, axes = match.groups()
  if name not in CHIPS:
    raise TopologyError(f"unknown TPU {name!r}; known: {', '.join(CHIPS)}")
  chip, shape = CHIPS[name], tuple(int(length) for length in axes.split("x"))
  if len(shape) != chip.axes:
    example = "4x4" if chip.axes == 2 else "2x2x1"
    raise TopologyError(f"{name} has {chip.axes} axes, for example {name}:{example}, got {text!r}")
  topology = Topology(chip, shape)
  if not 0 < topology.chips <= chip.largest:
    raise TopologyError(
      f"a slice of {name} has 1 to {chip.largest} chips, {text} has {topology.chips}"
    )
  return topology
