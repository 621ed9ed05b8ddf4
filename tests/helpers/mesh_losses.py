"""Prints the losses of a tiny run on several meshes, as JSON; for a process with 8 devices."""

import json
import sys

import jax

from jax_me.training import sharding
from jax_me.training.state import initial_key
from tests.helpers.tiny_training import (
  RUN_PARAMETERS,
  count_compilations,
  make_batch,
  make_program,
)

STEPS = 3


def losses(devices: int, fsdp: int) -> list[float]:
  mesh = sharding.make_mesh(fsdp, jax.devices()[:devices])
  program = make_program(mesh, accum_steps=1)
  state = program.create(initial_key(0))
  state["run_parameters"] = program.put_run_parameters(RUN_PARAMETERS)
  found = []
  for number in range(STEPS):
    batch = sharding.shard_batch(make_batch(number), mesh)
    before = count_compilations()
    state, metrics = program.step(state, batch)
    assert number == 0 or count_compilations() == before, "the step was compiled again"
    found.append(float(metrics["loss"]))
  return found


if __name__ == "__main__":
  sharding.FSDP_MIN_SIZE = 64  # Otherwise all parameters of this small model would be replicated.
  json.dump({mesh: losses(*map(int, mesh.split("x"))) for mesh in sys.argv[1:]}, sys.stdout)
