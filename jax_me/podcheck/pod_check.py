"""Check of a training step for a TPU slice without TPUs: memory and a lower bound of the time.

Google's TPU compiler (package libtpu) runs on any x86 Linux machine and compiles for a slice given
by its topology. The compiled function is the one that `run.py` executes on the slice.
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

from jax_me.models.flops import count_flops
from jax_me.podcheck.compiled_step import Collective, count_traffic
from jax_me.training import settings, sharding
from jax_me.training.chips import GIB, Chip, Topology
from jax_me.training.program import make_program
from jax_me.training.state import RunParameters, State

# Reserved for the system: XLA leaves 15.75 of 16 GiB to a program on a v5e.
RESERVED_BYTES = GIB // 4


class PodCheckError(RuntimeError):
  """The check failed: libtpu is missing or does not support the slice."""


@dataclasses.dataclass(frozen=True)
class Memory:
  """HBM usage of one chip in bytes.

  Attributes:
    parameters, optimizer, average, batch: arguments of the step; `average` is the moving average
      of the parameters.
    arguments: all arguments, including the padding of XLA's layouts.
    results: outputs that do not reuse a donated argument.
    temporaries: peak size of temporary arrays.
    program: size of the code.
  """

  parameters: int
  optimizer: int
  average: int
  batch: int
  arguments: int
  results: int = 0
  temporaries: int = 0
  program: int = 0

  @property
  def total(self) -> int:
    return self.arguments + self.results + self.temporaries + self.program


@dataclasses.dataclass(frozen=True)
class Work:
  """Compute, memory traffic and communication of a step, from the compiled program.

  Attributes:
    flops: FLOPs of matrix products and convolutions on all chips, including recomputation.
    compiler_flops: XLA's count for one chip, with each loop body counted once.
    hbm_bytes, collectives, unknown_loops: see `StepTraffic`.
  """

  flops: int
  compiler_flops: float
  hbm_bytes: int
  collectives: list[Collective]
  unknown_loops: int


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Lower bounds of the step time in seconds, per resource of the chip."""

  compute: float
  memory: float
  interconnect: float

  @property
  def bound(self) -> float:
    return max(self.compute, self.memory, self.interconnect)

  @property
  def limit(self) -> str:
    """Name of the limiting resource."""
    return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]


def roofline(work: Work, chip: Chip, chips: int) -> Roofline:
  """Lower bounds of the step time.

  Each resource runs at its peak; work on different resources overlaps completely.

  Args:
    work: work of one step.
    chip: TPU generation.
    chips: number of chips.

  Returns:
    seconds per resource.
  """
  sent = sum(collective.sent for collective in work.collectives)
  return Roofline(
    compute=work.flops / chips / chip.flops,
    memory=work.hbm_bytes / chip.bandwidth,
    interconnect=sent / chip.interconnect,
  )


@dataclasses.dataclass(frozen=True)
class PodCheck:
  """Result of a pod check.

  Attributes:
    topology: the slice.
    batch_size: global batch size.
    needed: required bytes per chip; if XLA ran out of memory, the number in its error message.
    memory: HBM usage; arguments only if XLA ran out of memory.
    work: None if XLA ran out of memory.
    seconds: wall time of tracing, lowering and compiling.
    processor_seconds: CPU time of the same, summed over all cores.
  """

  topology: Topology
  batch_size: int
  needed: int
  memory: Memory
  work: Work | None
  seconds: float
  processor_seconds: float

  @property
  def available(self) -> int:
    """Bytes of HBM available to a program."""
    return self.topology.chip.memory - RESERVED_BYTES

  @property
  def fits(self) -> bool:
    """Whether the step fits into the HBM of a chip."""
    return self.work is not None and self.needed <= self.available

  @property
  def roofline(self) -> Roofline | None:
    """Lower bounds of the step time; None if XLA ran out of memory."""
    chips = self.topology.chips
    return None if self.work is None else roofline(self.work, self.topology.chip, chips)


def check_pod(config: ConfigDict, topology: Topology, *, classes: int) -> PodCheck:
  """Compiles the training step of a config for a slice and analyses the program.

  Args:
    config: training config.
    topology: the slice.
    classes: number of classes of the dataset; not used in pre-training.

  Returns:
    memory, work and lower bounds of the step time.

  Raises:
    PodCheckError: libtpu is missing or does not support the slice.
    ValueError: the config is invalid, or its batch size for this number of chips.
  """
  settings.check(config)
  mesh = sharding.make_mesh(config.mesh.fsdp, topology_devices(topology))
  program, _ = make_program(config, mesh, classes)
  state = _abstract_state(config, program, mesh, classes)
  batch = _abstract_batch(config, mesh)
  arguments = _argument_bytes(state, batch)
  memory = Memory(**arguments, arguments=sum(arguments.values()))
  work = None
  started, processor = time.monotonic(), time.process_time()
  traced = program.step.trace(state, batch)  # type: ignore[attr-defined]
  flops = count_flops(traced.jaxpr)
  try:
    compiled = traced.lower().compile()
  except jax.errors.JaxRuntimeError as error:
    required = required_bytes(str(error))
    if required is None:
      raise
    needed = required
  else:
    sizes = compiled.memory_analysis()
    memory = Memory(
      **arguments,
      arguments=sizes.argument_size_in_bytes,
      results=sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
      temporaries=sizes.temp_size_in_bytes,
      program=sizes.generated_code_size_in_bytes,
    )
    needed = memory.total
    work = Work(
      flops=flops,
      compiler_flops=float(compiled.cost_analysis().get("flops", 0.0)),
      **vars(count_traffic(compiled.as_text(), topology.chips)),
    )
  return PodCheck(
    topology=topology,
    batch_size=config.batch_size,
    needed=needed,
    memory=memory,
    work=work,
    seconds=time.monotonic() - started,
    processor_seconds=time.process_time() - processor,
  )


# Values of TPU_ACCELERATOR_TYPE, which libtpu normally reads from the TPU machine.
_ACCELERATOR_TYPES = {"v4": "v4-8", "v5e": "v5litepod-4", "v5p": "v5p-8", "v6e": "v6e-4"}


def topology_devices(topology: Topology) -> list[jax.Device]:
  """Abstract devices of a slice, as compilation target.

  Raises:
    PodCheckError: libtpu is missing or does not support the slice.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise PodCheckError(
      f"podcheck needs Google's TPU compiler, which is not installed: {install_command()}"
    )
  # Settings that libtpu otherwise queries from the TPU machine.
  os.environ |= {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": _ACCELERATOR_TYPES[topology.chip.name],
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # No chip is used: checks may run in parallel.
  }
  options: dict[str, Any] = {}
  if topology.chip.name == "v4":
    options["chip_config_name"] = "megacore"  # One device per chip, as on TPU machines.
  if topology.chips == 1:
    options["chips_per_host_bounds"] = (1, 1, 1)
  try:
    description = topologies.get_topology_desc(str(topology), "tpu", **options)
  except jax.errors.JaxRuntimeError as error:
    raise PodCheckError(f"libtpu does not support the slice {topology}: {error}") from None
  devices = list(description.devices)
  if len(devices) != topology.chips:
    raise PodCheckError(
      f"libtpu has {len(devices)} devices for the {topology.chips} chips of {topology}"
    )
  return devices


def install_command() -> str:
  """The pip command that installs the libtpu version of this jax release."""
  required = [
    line for line in importlib.metadata.requires("jax") or [] if line.startswith("libtpu")
  ]
  version = required[0].partition(";")[0].strip() if required else "libtpu"
  return f'pip install "{version}"'


def _abstract_state(config: ConfigDict, program: Any, mesh: Mesh, classes: int) -> State:
  """Shapes and shardings of the training state, with placeholder run parameters."""
  weights = (1.0,) * classes if config.class_weights else ()
  run_parameters = RunParameters(
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
  state = program.abstract_state()
  replicated = sharding.replicated(mesh)
  state["run_parameters"] = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated),
    jax.eval_shape(run_parameters.arrays),
  )
  return state


def _abstract_batch(config: ConfigDict, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes and shardings of a batch of `jax_me.data.pipeline.train_batches`."""
  size = config.batch_size
  side = config.data.read_size or config.model.image_size
  batch_sharding = sharding.batch_sharding(mesh)
  shapes = {
    "image": ((size, side, side, 3), jnp.uint8),
    "label": ((size,), jnp.int32),
    "mask": ((size,), jnp.bool_),
    "index": ((size,), jnp.int32),
    **({"affect": ((size, 2), jnp.float32)} if config.affect_weight else {}),
  }
  return {
    key: jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding)
    for key, (shape, dtype) in shapes.items()
  }


def _argument_bytes(state: State, batch: dict[str, jax.ShapeDtypeStruct]) -> dict[str, int]:
  """Bytes of the step's arguments on one chip, by part."""
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


def required_bytes(message: str) -> int | None:
  """The memory that an out-of-memory error of XLA reports as required; None for other errors."""
  if "RESOURCE_EXHAUSTED" not in message and "out of memory" not in message.lower():
    return None
  amounts = re.findall(r"(\d+(?:\.\d+)?)([KMGT])i?B?\b", message)
  if not amounts:
    return None
  number, unit = amounts[0]
  return int(float(number) * 1024 ** (1 + "KMGT".index(unit)))
