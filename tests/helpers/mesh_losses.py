"""Prints the losses of a tiny run on several meshes, as JSON; for a process with 8 devices."""

import json
import sys

import jax

from jax_me.training import sharding
from jax_me.training.state import initial_key
from tests.helpers.tiny_training import CONSTANTS, make_batch, make_program

STEPS = 3


def losses(devices: int, fsdp: int) -> list[float]:
  mesh = sharding.make_mesh(fsdp, jax.devices()[:devices])
  program = make_program(mesh, accum_steps=1)
  state = program.create(initial_key(0))
  state["constants"] = program.place(CONSTANTS)
  seen = []
  for number in range(STEPS):
    batch = sharding.shard_batch(make_batch(number), mesh)
    state, metrics = program.step(state, batch)
    seen.append(float(metrics["loss"]))
  assert program.step._cache_size() == 1, "the step was traced again"
  return seen


if __name__ == "__main__":
  sharding.FSDP_MIN_SIZE = 64  # so that this small model has something to split
  json.dump({mesh: losses(*map(int, mesh.split("x"))) for mesh in sys.argv[1:]}, sys.stdout)
