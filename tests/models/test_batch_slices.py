"""Slices of a batch: the same results, and which slices are chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.models import batch_slices
from jax_me.models.batch_slices import cache_slices, in_slices, slice_images
from jax_me.models.registry import create_model


@pytest.fixture
def one_cpu(monkeypatch):
  monkeypatch.setattr(jax, "device_count", lambda: 1)


def test_large_activations_are_sliced_and_small_ones_are_not(one_cpu):
  with cache_slices():
    assert slice_images(8, 56 * 56, 56 * 56 * 160 * 4) == 1  # ConvNeXt V2 atto, first stage.
    assert slice_images(8, 14 * 14, 14 * 14 * 640 * 4) == 4
    assert slice_images(8, 7 * 7, 7 * 7 * 1280 * 4) == 8
    assert slice_images(7, 28 * 28, 28 * 28 * 320 * 4) == 1  # A divisor of seven.
    assert slice_images(7, 14 * 14, 14 * 14 * 640 * 4) == 7  # One image would be too little.
  assert slice_images(8, 56 * 56, 56 * 56 * 160 * 4) == 8


def test_several_devices_share_a_batch_that_is_not_sliced(monkeypatch):
  monkeypatch.setattr(jax, "device_count", lambda: 2)
  with cache_slices():
    assert slice_images(8, 56 * 56, 56 * 56 * 160 * 4) == 8


def test_slices_are_in_order():
  x = jnp.arange(24.0).reshape(6, 4)
  np.testing.assert_array_equal(in_slices(lambda y: 2 * y, x, 2), 2 * x)


def test_convnext_gives_the_same_logits_in_slices(one_cpu, monkeypatch):
  monkeypatch.setattr(batch_slices, "SLICE_BYTES", 1)
  monkeypatch.setattr(batch_slices, "SLICE_PIXELS", 1)
  model = create_model(
    "convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=3, rngs=nnx.Rngs(0)
  )
  for block in (block for stage in model.stages for block in stage):
    block.grn.gamma[...] = jnp.linspace(-1, 1, 4 * block.dim).reshape(1, 1, 1, -1)
  graphdef, state = nnx.split(model)
  images = jax.random.normal(jax.random.key(1), (6, 64, 64, 3))

  @jax.jit
  def in_one(state):
    return nnx.merge(graphdef, state)(images)

  @jax.jit
  def sliced(state):
    with cache_slices():
      return nnx.merge(graphdef, state)(images)

  assert "while" in sliced.lower(state).as_text()
  assert "while" not in in_one.lower(state).as_text()
  np.testing.assert_allclose(sliced(state), in_one(state), rtol=2e-5, atol=1e-6)
