"""Config changes that may make a step fit into the memory of a chip (estimates)."""

import dataclasses
import math

from ml_collections import ConfigDict

from jax_me.podcheck.pod_check import PodCheck
from jax_me.training.chips import GIB

# Fraction of the free memory that estimates use: temporaries shrink less than the batch.
MARGIN = 0.85
UPDATE_PARTS = 16


@dataclasses.dataclass(frozen=True)
class Advice:
  """One config change.

  Attributes:
    settings: {dotted key: value}, as on the command line; empty if it is not a config change.
    reason: its effect.
  """

  settings: dict[str, object]
  reason: str

  def __str__(self) -> str:
    flags = " ".join(f"--config.{key}={value}" for key, value in self.settings.items())
    return f"{flags}: {self.reason}" if flags else self.reason


def advise(config: ConfigDict, check: PodCheck) -> list[Advice]:
  """Changes that may make the step fit; changes that keep the training result come first."""
  memory, chips = check.memory, check.topology.chips
  state = memory.parameters + memory.optimizer + memory.average
  fixed = state + memory.batch
  temporaries = max(memory.temporaries or check.needed, 1)
  free = check.available - fixed
  found: list[Advice] = []
  if config.precision == "float32":
    found.append(Advice({"precision": "bfloat16"}, "about half the memory of activations"))
  if not config.remat:
    found.append(
      Advice({"remat": True}, "stores only the input of each block; about a third more compute")
    )
  optimizer = memory.optimizer + memory.average
  parts = math.gcd(UPDATE_PARTS, chips)
  alone = config.mesh.fsdp == config.mesh.split_update == 1
  if alone and parts > 1 and 4 * optimizer > check.available:
    saved = optimizer * (parts - 1) / parts / GIB
    found.append(
      Advice(
        {"mesh.split_update": parts},
        f"saves {saved:.1f} GiB: the optimizer state is split over {parts} chips",
      )
    )
  if 2 * state > check.available and config.mesh.split_update == 1:
    shards = _shards(state, check)
    if shards > config.mesh.fsdp:
      found.append(
        Advice({"mesh.fsdp": shards}, f"shards parameters and optimizer state over {shards} chips")
      )
  # Gradient accumulation: the accumulated float32 gradients need memory, too.
  free_for_temporaries = MARGIN * free - memory.parameters
  accum_steps = _accum_steps(config, chips, free_for_temporaries / temporaries)
  if accum_steps:
    found.append(
      Advice(
        {"accum_steps": accum_steps},
        f"the same batch in {accum_steps} parts of {config.batch_size // accum_steps} images",
      )
    )
  rows = int(MARGIN * free / temporaries * config.batch_size)
  rows -= rows % (chips * config.accum_steps)
  if 0 < rows < config.batch_size:
    found.append(
      Advice({"batch_size": rows}, "changes the training: the learning rate scales with it")
    )
  if not accum_steps and rows <= 0:
    found.append(Advice({}, "a slice with more chips, or chips with more memory"))
  return found


def _shards(state: int, check: PodCheck) -> int:
  """Number of shards with which the state takes at most a quarter of the memory of a chip."""
  shards = 1
  while 4 * state > shards * check.available and 2 * shards <= check.topology.chips:
    shards *= 2
  return shards


def _accum_steps(config: ConfigDict, chips: int, share: float) -> int:
  """Smallest accum_steps that shrinks the temporaries to at most `share`; 0 if there is none."""
  largest = config.batch_size // chips
  for steps in range(config.accum_steps + 1, largest + 1):
    if config.batch_size % (steps * chips) == 0 and config.accum_steps / steps <= share:
      return steps
  return 0
