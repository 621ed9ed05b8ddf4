"""Traffic of compiled programs: loops, collectives, HBM bytes."""

import pathlib

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jax_me.models.flops import count_flops
from jax_me.podcheck.compiled_step import Collective, count_traffic
from jax_me.podcheck.hlo import parse_module
from jax_me.training.sharding import make_mesh

# Hand-written HLO texts.
TEXTS = pathlib.Path(__file__).parent / "hlo"
LOOP = (TEXTS / "loop.txt").read_text()


def test_a_loop_body_counts_once_per_iteration():
  traffic = count_traffic(LOOP, chips=8)
  # A layer is read from HBM and written back, then the collective reads it; its result stays in
  # on-chip memory S(1). The fusion reads one layer (a slice), not the stack of six; the layer index
  # is not in HBM either.
  assert traffic.hbm_bytes == 6 * 3 * 1024
  assert traffic.collectives == [Collective("all-reduce", group=4, count=6, bytes=6 * 1024)]
  assert traffic.unknown_loops == 0


def test_annotated_and_unknown_trip_counts():
  annotated = LOOP.replace(
    "body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"2"}}'
  )
  assert count_traffic(annotated, 8).collectives[0].count == 2
  unknown = LOOP.replace("direction=LT", "direction=NE")
  assert count_traffic(unknown, 8).unknown_loops == 1


COLLECTIVES = (TEXTS / "collectives.txt").read_text()


def test_collectives_by_kind():
  found = {c.kind: c for c in count_traffic(COLLECTIVES, chips=8).collectives}
  size = 64 * 128 * 4
  # Two fusions with one channel are stages of one collective; its result is 4 times the operand.
  assert found["all-gather"] == Collective("all-gather", 4, 1, 4 * 8 * 128 * 2)
  assert found["reduce-scatter"] == Collective("reduce-scatter", 8, 1, size)
  assert found["collective-permute"].bytes == found["collective-permute"].sent == size
  assert found["all-to-all"] == Collective("all-to-all", 8, 1, size)
  # Two sums with one channel; the axes are those of a mesh with another order of the devices.
  assert found["all-reduce"] == Collective("all-reduce", 4, 2, size + 8 * 128 * 4)


@pytest.mark.parametrize(
  "kind, sent",
  [("all-reduce", 150.0), ("all-gather", 75.0), ("reduce-scatter", 75.0), ("all-to-all", 75.0)],
)
def test_bytes_sent_per_chip(kind, sent):
  assert Collective(kind, group=4, count=1, bytes=100).sent == sent


def test_text_without_a_program_raises():
  with pytest.raises(ValueError, match="not a compiled program"):
    parse_module("hello")


def test_compiled_program_on_four_devices():
  mesh = make_mesh(1, jax.devices()[:4])
  sharded, replicated = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())

  def step(layers, x):
    def layer(total, weights):
      return total + (x @ weights).T @ x, None

    return jax.lax.scan(layer, jnp.zeros((16, 32)), layers)[0]

  layers = jax.ShapeDtypeStruct((5, 32, 16), jnp.float32, sharding=replicated)
  x = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=sharded)
  traced = jax.jit(step, out_shardings=replicated).trace(layers, x)
  assert count_flops(traced.jaxpr) == 5 * (2 * 64 * 32 * 16 + 2 * 16 * 64 * 32)
  compiled = traced.lower().compile()
  traffic = count_traffic(compiled.as_text(), 4)
  (collective,) = traffic.collectives
  assert collective.kind == "all-reduce" and collective.group == 4
  # XLA may reduce after the loop or in each of its five iterations.
  assert collective.bytes == collective.count * 16 * 32 * 4 and collective.count in (1, 5)
  assert traffic.unknown_loops == 0


def test_bytes_equal_those_of_xla_without_loops():
  x = jax.ShapeDtypeStruct((64, 256), jnp.float32)
  compiled = jax.jit(lambda x: jnp.tanh(x) @ x.T).lower(x).compile()
  counted = compiled.cost_analysis()["bytes accessed"]
  assert count_traffic(compiled.as_text(), 1).hbm_bytes == pytest.approx(counted, rel=0.05)


def test_flops_of_convolutions_and_recomputation():
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
