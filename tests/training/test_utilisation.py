"""Model FLOPs utilisation, with a made-up peak of the device."""

import jax
import pytest

from jax_me.training import utilisation
from jax_me.training.sharding import make_mesh, shard_batch
from jax_me.training.state import initial_key
from tests.helpers.tiny_training import RUN_PARAMETERS, make_batch, make_program


@pytest.mark.parametrize(
  "kind, peak",
  [("TPU v5 lite", 197e12), ("TPU v5", 459e12), ("NVIDIA H200", 989e12), ("cpu", None)],
)
def test_peak_of_the_device(kind, peak):
  assert utilisation.peak_flops(kind) == peak


@pytest.mark.slow
def test_utilisation_from_the_flops_of_the_step(monkeypatch):
  mesh = make_mesh(1, jax.devices()[:2])
  program = make_program(mesh)
  state = program.create(initial_key(0))
  state["run_parameters"] = program.put_run_parameters(RUN_PARAMETERS)
  batch = shard_batch(make_batch(0), mesh)
  unknown = utilisation.Utilisation(mesh)
  unknown.count_step(program.step, state, batch)
  assert unknown.metrics(100.0) == {}

  monkeypatch.setattr(utilisation, "PEAKS", (("cpu", 1e9),))
  known = utilisation.Utilisation(mesh)
  known.count_step(program.step, state, batch)
  one, two = known.metrics(1000.0)["mfu"], known.metrics(2000.0)["mfu"]
  assert two == pytest.approx(2 * one)
  # 4 patches and a class token through one block of width 24, forward and backward: the products
  # of the block's weights alone are 6 x 5 x 12 x 24^2 FLOPs an image; there is more, but not twice.
  least = 6 * 5 * 12 * 24**2 * 1000.0 / 2e9
  assert least < one < 2.5 * least
