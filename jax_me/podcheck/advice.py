"""What to change when a step does not fit into a chip's memory; estimates, to be checked again."""

import dataclasses

from ml_collections import ConfigDict

from jax_me.podcheck.pod_check import PodCheck

# Of what is free, estimates use so much: temporaries do not shrink quite like the batch.
MARGIN = 0.85


@dataclasses.dataclass(frozen=True)
class Advice:
  """One change.

  Attributes:
    settings: {dotted key: value}, as on the command line; empty when it is no setting.
    reason: what it does, in a few words.
  """

  settings: dict[str, object]
  reason: str

  def __str__(self) -> str:
    flags = " ".join(f"--config.{key}={value}" for key, value in self.settings.items())
    return f"{flags}: {self.reason}" if flags else self.reason


def advise(config: ConfigDict, check: PodCheck) -> list[Advice]:
  """Changes that may make the step fit, those first that leave the result what it is."""
  memory, chips = check.memory, check.topology.chips
  state = memory.parameters + memory.optimizer + memory.average
  fixed = state + memory.batch
  temporaries = max(memory.temporaries or check.needed, 1)
  room = check.available - fixed
  found: list[Advice] = []
  if config.precision == "float32":
    found.append(Advice({"precision": "bfloat16"}, "about half the memory of activations"))
  if not config.remat:
    found.append(
      Advice({"remat": True}, "keeps only what goes into each block; about a third more compute")
    )
  if 2 * state > check.available:
    shards = _shards(state, check)
    if shards > config.mesh.fsdp:
      found.append(
        Advice({"mesh.fsdp": shards}, f"splits parameters and optimizer over {shards} chips")
      )
  # Parts of a batch, one after the other; their gradients are added up in float32.
  room_for_parts = MARGIN * room - memory.parameters
  share = room_for_parts / temporaries
  parts = _parts(config, chips, share)
  if parts:
    found.append(
      Advice(
        {"accum_steps": parts},
        f"the same batch in {parts} parts of {config.batch_size // parts} images",
      )
    )
  rows = int(MARGIN * room / temporaries * config.batch_size)
  rows -= rows % (chips * config.accum_steps)
  if 0 < rows < config.batch_size:
    found.append(Advice({"batch_size": rows}, "another recipe: the learning rate follows"))
  if not parts and rows <= 0:
    found.append(Advice({}, "a slice with more chips, or chips with more memory"))
  return found


def _shards(state: int, check: PodCheck) -> int:
  """Chips to split the state over so that it takes at most a quarter of the memory."""
  shards = 1
  while 4 * state > shards * check.available and 2 * shards <= check.topology.chips:
    shards *= 2
  return shards


def _parts(config: ConfigDict, chips: int, share: float) -> int:
  """The smallest accum_steps that makes the temporaries at most `share` of now; 0 = none does."""
  most = config.batch_size // chips
  for parts in range(config.accum_steps + 1, most + 1):
    if config.batch_size % (parts * chips) == 0 and config.accum_steps / parts <= share:
      return parts
  return 0
