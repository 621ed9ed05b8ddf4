"""A pod's training step, compiled where there is no pod: does it fit, and how fast can it be?

Google's TPU compiler (the package libtpu) runs on any x86 Linux machine and compiles for a slice
that is only described. What it compiles here is the very function that `run.py` would run there.
"""

import dataclasses
import importlib.metadata
import importlib.util
import os
import re
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jax_me.podcheck.compiled_step import Collective, read_movement
from jax_me.training import settings, sharding
from jax_me.training.chips import GIB, Chip, Topology
from jax_me.training.flops import count_flops
from jax_me.training.program import make_program
from jax_me.training.state import Constants, State, abstract_state

# What XLA keeps for the system on a v5e: of 16 GiB it gives 15.75 to a program.
RESERVED = GIB // 4


class PodCheckError(RuntimeError):
  """The check itself cannot be made."""


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes of one chip's HBM.

  Attributes:
    parameters, optimizer, average, batch: what the step is given; `average` is the moving one.
    arguments: all that it is given, as XLA lays it out.
    results: new arrays beside those that take the place of arguments (donated).
    temporaries: at their peak; None where XLA gave up before it knew.
    program: the code.
  """

  parameters: int
  optimizer: int
  average: int
  batch: int
  arguments: int
  results: int
  temporaries: int
  program: int

  @property
  def total(self) -> int:
    return self.arguments + self.results + self.temporaries + self.program


@dataclasses.dataclass(frozen=True)
class Work:
  """What a step does, as far as the compiled program tells.

  Attributes:
    flops: of products and convolutions, over all chips; what is recomputed counts again.
    compiler_flops: XLA's own count for one chip, with a loop's body counted once.
    hbm_bytes: through the HBM of one chip.
    collectives: exchanges between chips.
    unknown_loops: loops of unknown length, counted once.
  """

  flops: int
  compiler_flops: float
  hbm_bytes: int
  collectives: list[Collective]
  unknown_loops: int


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Seconds that a step takes at the very least, by each of the chip's limits."""

  compute: float
  memory: float
  interconnect: float

  @property
  def bound(self) -> float:
    return max(self.compute, self.memory, self.interconnect)

  @property
  def limit(self) -> str:
    """Which of them it is."""
    return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]


def roofline(work: Work, chip: Chip, chips: int) -> Roofline:
  """Each resource at its peak, and the others hidden behind the slowest."""
  sent = sum(collective.sent for collective in work.collectives)
  return Roofline(
    compute=work.flops / chips / chip.flops,
    memory=work.hbm_bytes / chip.bandwidth,
    interconnect=sent / chip.interconnect,
  )


@dataclasses.dataclass(frozen=True)
class PodCheck:
  """The answer.

  Attributes:
    fits: whether a chip's HBM holds the step.
    needed: bytes that XLA says it needs, where it refused to compile.
    memory, work, roofline: None where XLA refused to compile; memory then lacks what XLA knows.
    seconds: tracing, lowering and compiling took on this machine.
    processor_seconds: the same, of all its cores together, without waiting for other programs.
  """

  topology: Topology
  batch_size: int
  fits: bool
  needed: int
  memory: Memory
  work: Work | None
  roofline: Roofline | None
  seconds: float
  processor_seconds: float

  @property
  def available(self) -> int:
    """Bytes of HBM that a program may use."""
    return self.topology.chip.memory - RESERVED


def check_pod(config: ConfigDict, topology: Topology, *, classes: int) -> PodCheck:
  """Compiles the recipe's training step for a slice and reads what came out.

  Args:
    config: the recipe.
    topology: the slice.
    classes: of the dataset; not used in pre-training.

  Raises:
    PodCheckError: libtpu is missing, or cannot describe the slice.
    ValueError: the recipe, or its batch on so many chips, cannot be.
  """
  settings.check(config)
  mesh = sharding.make_mesh(config.mesh.fsdp, described_devices(topology))
  program, _ = make_program(config, mesh, classes)
  state = _abstract_state(config, program, mesh, classes)
  batch = _abstract_batch(config, mesh)
  started, processor = time.monotonic(), time.process_time()
  traced = program.step.trace(state, batch)  # type: ignore[attr-defined]
  flops = count_flops(traced.jaxpr)
  lowered = traced.lower()
  given = _given(state, batch)
  compiled, needed = None, 0
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    refused = _needed(str(error))
    if refused is None:
      raise
    needed = refused
  answer: dict[str, Any] = dict(
    topology=topology,
    batch_size=config.batch_size,
    seconds=time.monotonic() - started,
    processor_seconds=time.process_time() - processor,
  )
  if compiled is None:
    return PodCheck(
      **answer,
      fits=False,
      needed=needed,
      memory=Memory(**given, arguments=sum(given.values()), results=0, temporaries=0, program=0),
      work=None,
      roofline=None,
    )
  sizes = compiled.memory_analysis()
  memory = Memory(
    **given,
    arguments=sizes.argument_size_in_bytes,
    results=sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
    temporaries=sizes.temp_size_in_bytes,
    program=sizes.generated_code_size_in_bytes,
  )
  movement = read_movement(compiled.as_text(), topology.chips)
  work = Work(
    flops=flops,
    compiler_flops=float(compiled.cost_analysis().get("flops", 0.0)),
    hbm_bytes=movement.hbm_bytes,
    collectives=movement.collectives,
    unknown_loops=movement.unknown_loops,
  )
  return PodCheck(
    **answer,
    fits=memory.total <= topology.chip.memory - RESERVED,
    needed=memory.total,
    memory=memory,
    work=work,
    roofline=roofline(work, topology.chip, topology.chips),
  )


# What libtpu would ask a TPU machine for.
_ACCELERATORS = {"v4": "v4-8", "v5e": "v5litepod-4", "v5p": "v5p-8", "v6e": "v6e-4"}


def described_devices(topology: Topology) -> list[jax.Device]:
  """The chips of a slice that need not exist, to compile for.

  Raises:
    PodCheckError: libtpu is missing or refuses the slice.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise PodCheckError(
      f"podcheck compiles with Google's TPU compiler, which is missing: {install_command()}"
    )
  # libtpu looks for the machine that it runs on, which is none.
  os.environ |= {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": _ACCELERATORS[topology.chip.name],
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # It takes no chip: several may check at once.
  }
  options: dict[str, Any] = {}
  if topology.chip.name == "v4":
    options["chip_config_name"] = "megacore"  # One device a chip, as TPU machines have it.
  if topology.chips == 1:
    options["chips_per_host_bounds"] = (1, 1, 1)
  try:
    described = topologies.get_topology_desc(str(topology), "tpu", **options)
  except jax.errors.JaxRuntimeError as error:
    raise PodCheckError(f"libtpu knows no slice {topology}: {error}") from None
  devices = list(described.devices)
  if len(devices) != topology.chips:
    raise PodCheckError(f"libtpu has {len(devices)} devices for the {topology.chips} of {topology}")
  return devices


def install_command() -> str:
  """pip's command for the libtpu that this jax was released with."""
  wanted = [line for line in importlib.metadata.requires("jax") or [] if line.startswith("libtpu")]
  version = wanted[0].partition(";")[0].strip() if wanted else "libtpu"
  return f'pip install "{version}"'


def _abstract_state(config: ConfigDict, program: Any, mesh: Mesh, classes: int) -> State:
  """The state's shapes and shardings, with constants like those of a run."""
  weights = (1.0,) * classes if config.class_weights else ()
  constants = Constants(
    seed=0,
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
    peak=1.0,
    minimum=0.0,
    warmup_steps=1,
    total_steps=1,
    milestones=(1,) * len(config.optimizer.milestones),
    class_weights=weights,
  )
  state = abstract_state(program.build, mesh)
  whole = sharding.replicated(mesh)
  state["constants"] = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole),
    jax.eval_shape(constants.arrays),
  )
  return state


def _abstract_batch(config: ConfigDict, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
  """A batch as `jax_me.data.pipeline.train_batches` makes it."""
  rows = config.batch_size
  side = config.data.read_size or config.model.image_size
  spread = sharding.batch_sharding(mesh)
  shapes = {
    "image": ((rows, side, side, 3), jnp.uint8),
    "label": ((rows,), jnp.int32),
    "mask": ((rows,), jnp.bool_),
    "index": ((rows,), jnp.int32),
  }
  return {
    key: jax.ShapeDtypeStruct(shape, dtype, sharding=spread)
    for key, (shape, dtype) in shapes.items()
  }


def _given(state: State, batch: dict[str, jax.ShapeDtypeStruct]) -> dict[str, int]:
  """Bytes of each part of the step's arguments on one chip."""
  return {
    "parameters": _chip_bytes((state["params"], state["model_state"])),
    "optimizer": _chip_bytes(state["opt_state"]),
    "average": _chip_bytes(state.get("ema", ())),
    "batch": _chip_bytes(batch),
  }


def _chip_bytes(tree: Any) -> int:
  return sum(
    int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def _needed(message: str) -> int | None:
  """Bytes that XLA's refusal names first; None when the message is another."""
  if "RESOURCE_EXHAUSTED" not in message and "out of memory" not in message.lower():
    return None
  amounts = re.findall(r"(\d+(?:\.\d+)?)([KMGT])i?B?\b", message)
  if not amounts:
    return None
  number, unit = amounts[0]
  return int(float(number) * 1024 ** (1 + "KMGT".index(unit)))
