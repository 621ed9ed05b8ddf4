"""Reading compiled programs: loops, exchanges between chips, bytes through HBM."""

import pathlib

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jax_me.podcheck.compiled_step import Collective, read_movement
from jax_me.podcheck.hlo import parse_module
from jax_me.training.flops import count_flops
from jax_me.training.sharding import make_mesh

# Written by hand in the form of a compiled program's text.
TEXTS = pathlib.Path(__file__).parent / "hlo"
LOOP = (TEXTS / "loop.txt").read_text()


def test_a_loop_counts_as_often_as_it_runs():
  movement = read_movement(LOOP, chips=8)
  # A layer is read from HBM and written back, then the exchange reads it; its result stays in
  # the chip's memory S(1). The fusion reads the layer that it cuts out, not the stack of six, and
  # the number of the layer is no HBM either.
  assert movement.hbm_bytes == 6 * 3 * 1024
  assert movement.collectives == [Collective("all-reduce", group=4, count=6, bytes=6 * 1024)]
  assert movement.unknown_loops == 0


def test_a_known_trip_count_goes_first_and_an_unknown_one_is_told():
  annotated = LOOP.replace(
    "body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"2"}}'
  )
  assert read_movement(annotated, 8).collectives[0].count == 2
  unknown = LOOP.replace("direction=LT", "direction=NE")
  assert read_movement(unknown, 8).unknown_loops == 1


EXCHANGES = (TEXTS / "exchanges.txt").read_text()


def test_exchanges_by_kind():
  found = {c.kind: c for c in read_movement(EXCHANGES, chips=8).collectives}
  size = 64 * 128 * 4
  # Two fusions with one channel are stages of one exchange; its result is four times the operand.
  assert found["all-gather"] == Collective("all-gather", 4, 1, 4 * 8 * 128 * 2)
  assert found["reduce-scatter"] == Collective("reduce-scatter", 8, 1, size)
  assert found["collective-permute"].bytes == found["collective-permute"].sent == size
  assert found["all-to-all"] == Collective("all-to-all", 8, 1, size)


@pytest.mark.parametrize(
  "kind, sent",
  [("all-reduce", 150.0), ("all-gather", 75.0), ("reduce-scatter", 75.0), ("all-to-all", 75.0)],
)
def test_what_a_chip_sends(kind, sent):
  assert Collective(kind, group=4, count=1, bytes=100).sent == sent


def test_text_that_is_no_program_is_refused():
  with pytest.raises(ValueError, match="no compiled program"):
    parse_module("hello")


def test_a_real_program_on_four_devices():
  mesh = make_mesh(1, jax.devices()[:4])
  rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())

  def step(layers, x):
    def layer(total, weights):
      return total + (x @ weights).T @ x, None

    return jax.lax.scan(layer, jnp.zeros((16, 32)), layers)[0]

  layers = jax.ShapeDtypeStruct((5, 32, 16), jnp.float32, sharding=whole)
  x = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=rows)
  traced = jax.jit(step, out_shardings=whole).trace(layers, x)
  assert count_flops(traced.jaxpr) == 5 * (2 * 64 * 32 * 16 + 2 * 16 * 64 * 32)
  compiled = traced.lower().compile()
  movement = read_movement(compiled.as_text(), 4)
  (exchange,) = movement.collectives
  assert exchange.kind == "all-reduce" and exchange.group == 4
  # XLA may add up after the loop or in each of its five rounds.
  assert exchange.bytes == exchange.count * 16 * 32 * 4 and exchange.count in (1, 5)
  assert movement.unknown_loops == 0


def test_bytes_are_those_of_xla_where_there_is_no_loop():
  x = jax.ShapeDtypeStruct((64, 256), jnp.float32)
  compiled = jax.jit(lambda x: jnp.tanh(x) @ x.T).lower(x).compile()
  counted = compiled.cost_analysis()["bytes accessed"]
  assert read_movement(compiled.as_text(), 1).hbm_bytes == pytest.approx(counted, rel=0.05)


def test_flops_of_convolutions_and_of_what_is_recomputed():
  image = jnp.zeros((2, 8, 8, 6))
  depthwise = jnp.zeros((7, 7, 1, 6))

  def conv(kernel):
    return jax.lax.conv_general_dilated(
      image,
      kernel,
      (1, 1),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=6,
    )

  assert count_flops(jax.make_jaxpr(conv)(depthwise)) == 2 * image.size * 49

  def loss(weights):
    return jnp.sum(jnp.sin(jnp.ones((4, 8)) @ weights))

  once = 2 * 4 * 8 * 3
  weights = jnp.zeros((8, 3))
  assert count_flops(jax.make_jaxpr(jax.grad(loss))(weights)) == 2 * once
  assert count_flops(jax.make_jaxpr(jax.grad(jax.checkpoint(loss)))(weights)) == 3 * once
