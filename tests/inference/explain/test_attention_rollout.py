"""Attention rollout against a NumPy implementation, and on models with known attention."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.inference.explain.attention_rollout import attention_maps, attention_rollout, rollout
from tests.helpers.inference_models import TARGET, T, V, one_patch_model, tiny
from tests.helpers.precision import float64
from tests.helpers.small_models import call

pytestmark = pytest.mark.usefixtures("quick_compilation")


def images(size, dtype=jnp.float32, count=2):
  rng = np.random.default_rng(3)
  return jnp.asarray(rng.standard_normal((count, size, size, 3)), dtype)


def compiled(model, function, *arguments):
  graphdef, state = nnx.split(model)
  return jax.jit(lambda state: function(nnx.merge(graphdef, state), *arguments))(state)


def numpy_rollout(model, inputs, *, pooled):
  """Forward pass and equation 1 of the paper in NumPy, from the model parameters."""

  def linear(layer, x):
    return x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])

  def norm(layer, x):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + layer.epsilon)
    return scaled * np.asarray(layer.scale[...]) + np.asarray(layer.bias[...])

  gelu = np.vectorize(lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2)
  size, maps = model.patch_size, []
  kernel = np.asarray(model.patch_embed.proj.kernel[...])
  for image in np.asarray(inputs):
    grid = len(image) // size
    x = [np.asarray(model.cls_token[...])[0, 0]]
    for i in range(grid):
      for j in range(grid):
        patch = image[i * size : (i + 1) * size, j * size : (j + 1) * size]
        x.append(np.einsum("hwc,hwcd->d", patch, kernel) + model.patch_embed.proj.bias[...])
    x = np.stack(x) + np.asarray(model.pos_embed[...])[0]
    joint = np.eye(len(x))
    for block in model.blocks:
      heads = block.attn.num_heads
      q, k, v = np.split(linear(block.attn.qkv, norm(block.norm1, x)), 3, -1)
      weights, mixed = [], []
      for qh, kh, vh in zip(*(np.split(a, heads, -1) for a in (q, k, v)), strict=True):
        scores = qh @ kh.T / math.sqrt(qh.shape[-1])
        raised = np.exp(scores - scores.max(-1, keepdims=True))
        weights.append(raised / raised.sum(-1, keepdims=True))
        mixed.append(weights[-1] @ vh)
      joint = (0.5 * np.mean(weights, 0) + 0.5 * np.eye(len(x))) @ joint
      x = x + linear(block.attn.proj, np.concatenate(mixed, -1))
      x = x + linear(block.mlp.fc2, gelu(linear(block.mlp.fc1, norm(block.norm2, x))))
    row = joint[1:].mean(0) if pooled else joint[0]
    maps.append(row[1:].reshape(grid, grid))
  return np.stack(maps)


@pytest.mark.parametrize("pooled", [True, False])
def test_equals_numpy(pooled):
  with float64():
    model = tiny(
      "vit_tiny_patch16",
      **{**V, "global_pool": pooled, "dtype": jnp.float64, "param_dtype": jnp.float64},
    )
    inputs = images(32, jnp.float64)
    found = np.asarray(compiled(model, attention_rollout, inputs))
    desired = numpy_rollout(model, inputs, pooled=pooled)
  assert found.dtype == np.float64 and found.shape == (2, 4, 4)
  np.testing.assert_allclose(found, desired, rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "arguments", "blocks"),
  [
    ("vit_tiny_patch16", dict(V, scan=True, remat=True), 2),
    ("t2t_vit_7", dict(T, scan=True, remat=True), 2),
    ("t2t_vit_14_se", dict(T, embed_dim=32), 2),
    ("t2t_vit_16_ghost", T, 2),
    ("t2t_vit_dense", dict(T, block_config=(1, 1), growth_rate=8), 2),
  ],
)
def test_rows_sum_to_one_and_the_model_is_unchanged(name, arguments, blocks):
  model = tiny(name, **arguments)
  inputs = images(arguments["image_size"], count=1)
  before = np.asarray(call(model, inputs))
  maps = compiled(model, attention_maps, inputs)
  assert len(maps) == blocks and {one.shape for one in maps} == {(1, 2, 17, 17)}
  for one in [*maps, rollout(maps)[:, None]]:
    assert float(one.min()) >= 0
    np.testing.assert_allclose(np.asarray(one).sum(-1), 1, atol=1e-6)
  np.testing.assert_array_equal(before, np.asarray(call(model, inputs)))
  assert model.scan == arguments.get("scan", False)


def test_scan_and_remat_change_nothing():
  inputs = images(32)
  plain, looped = (
    np.asarray(compiled(tiny("vit_tiny_patch16", **V, **more), attention_rollout, inputs))
    for more in ({}, dict(scan=True, remat=True))
  )
  np.testing.assert_array_equal(plain, looped)


def test_two_layers_computed_manually():
  first = np.array([[1, 0], [0.5, 0.5]])
  second = np.array([[0, 1], [0, 1]])
  heads = [np.stack([layer, layer])[None] for layer in (first, second)]
  # 0.5 A + 0.5 I: [[1, 0], [.25, .75]], then [[.5, .5], [0, 1]]; the later layer is on the left.
  np.testing.assert_allclose(
    rollout([jnp.asarray(a) for a in heads])[0], [[0.625, 0.375], [0.25, 0.75]]
  )
  with pytest.raises(ValueError, match="at least one layer"):
    rollout([])


def test_one_patch_model_attends_to_its_patch():
  found = np.asarray(compiled(one_patch_model(), attention_rollout, images(32, count=1)))[0]
  assert np.unravel_index(found.argmax(), found.shape) == TARGET
  assert found[TARGET] == pytest.approx(0.5, abs=1e-3)
  assert found.sum() - found[TARGET] < 1e-3


def test_convolutional_networks_are_rejected():
  model = tiny("convnextv2_atto", depths=(1, 1, 1, 1), dims=(4, 4, 4, 4), num_classes=2)
  with pytest.raises(ValueError, match="needs a ViT or T2T-ViT, got a ConvNeXtV2"):
    attention_rollout(model, images(32))
