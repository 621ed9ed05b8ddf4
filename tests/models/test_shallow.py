"""Shallow models: shapes, sizes, batch norm, mirrored and enlarged views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.models.model_folder import split_model
from jax_me.models.pooling import max_pool, mean_pool
from jax_me.models.registry import create_abstract_model, create_model
from jax_me.models.shallow_resnet import zoomed
from tests.helpers.small_models import call, random_model

pytestmark = pytest.mark.usefixtures("quick_compilation")

RESNET = dict(widths=(4, 6), depths=(1, 2), num_classes=3, image_size=16)


def images(size, count=4):
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.standard_normal((count, size, size, 3)), jnp.float32)


@pytest.mark.parametrize(
  ("name", "largest"),
  [("shallow_ststnet", 20_000), ("shallow_cnn", 100_000), ("shallow_resnet", 2_000_000)],
)
def test_sizes(name, largest):
  _, params, _ = split_model(create_abstract_model(name))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) < largest


def test_ststnet_has_the_layers_of_the_paper():
  model = random_model(lambda: create_model("shallow_ststnet", rngs=nnx.Rngs(0)))
  assert [conv.kernel[...].shape for conv in model.streams.convs] == [
    (3, 3, 3, filters) for filters in (3, 5, 8)
  ]
  assert call(model, images(28), method="features").shape == (4, 400)
  assert call(model, images(28)).shape == (4, 3)


@pytest.mark.parametrize("name", ["shallow_cnn", "shallow_ststnet", "shallow_resnet"])
def test_impossible_sizes_are_refused(name):
  with pytest.raises(ValueError, match="images of at least"):
    create_model(name, image_size=3, rngs=nnx.Rngs(0))
  model = random_model(lambda: create_model(name, rngs=nnx.Rngs(0)))
  with pytest.raises(ValueError, match="expected images|images of at least"):
    call(model, images(28)[..., :2])


def test_pooling_leaves_incomplete_windows_out():
  x = jnp.arange(25.0).reshape(1, 5, 5, 1)
  np.testing.assert_array_equal(max_pool(x, 2)[0, ..., 0], [[6, 8], [16, 18]])
  np.testing.assert_array_equal(mean_pool(x, 2)[0, ..., 0], [[3, 5], [13, 15]])


def test_training_call_normalises_by_the_batch_and_records_it():
  model = random_model(lambda: create_model("shallow_resnet", rngs=nnx.Rngs(0), **RESNET))
  graphdef, state = nnx.split(model)
  before = split_model(model)[2]
  inputs = images(16)

  @jax.jit
  def run(state, key):
    copy = nnx.merge(graphdef, state)
    logits = copy(inputs, deterministic=False, rngs=nnx.Rngs(dropout=key))
    return logits, split_model(copy)[2]

  logits, after = run(state, jax.random.key(0))
  stem = model.stem(inputs)
  for name, value in (("mean", stem.mean((0, 1, 2))), ("var", stem.var((0, 1, 2)))):
    wanted = 0.9 * before["stem_bn"][name] + 0.1 * value
    np.testing.assert_allclose(after["stem_bn"][name], wanted, rtol=1e-4, atol=1e-5)
  assert jax.tree.structure(after) == jax.tree.structure(before)
  assert np.isfinite(logits).all()
  changed = jax.tree.map(lambda a, b: bool((a != b).any()), after, before)
  assert all(jax.tree.leaves(changed))


def test_mirrored_views_are_averaged():
  build = lambda **more: random_model(  # noqa: E731
    lambda: create_model("shallow_resnet", rngs=nnx.Rngs(0), **RESNET, **more)
  )
  inputs = images(16)
  one = call(build(), inputs)
  other = call(build(), inputs[:, :, ::-1])
  np.testing.assert_allclose(call(build(mirrored=True), inputs), (one + other) / 2, atol=1e-5)


def test_tests_see_the_images_enlarged_and_training_as_they_are():
  def build(**arguments):
    model = create_model("shallow_resnet", rngs=nnx.Rngs(0), **RESNET, **arguments)
    return random_model(lambda: model)

  rows, columns = np.mgrid[:16, :16] - 7.5
  # A plane and its enlargement: bilinear interpolation is exact, and no border is missing.
  plain, large = (
    jnp.asarray(np.stack([rows / zoom, columns / zoom, rows * 0 + 1], -1)[None], jnp.float32)
    for zoom in (1, 1.25)
  )
  np.testing.assert_allclose(zoomed(plain, 1.25), large, atol=1e-5)
  model = build(zoom=1.25)
  np.testing.assert_allclose(call(model, plain), call(build(), large), atol=1e-5)
  trained, same = (
    one(plain, deterministic=False, rngs=nnx.Rngs(dropout=0)) for one in (model, build())
  )
  np.testing.assert_array_equal(trained, same)
  with pytest.raises(ValueError, match="zoom must be at least 1"):
    build(zoom=0.9)


def test_bfloat16_keeps_statistics_and_logits_in_float32():
  model = random_model(
    lambda: create_model("shallow_resnet", rngs=nnx.Rngs(0), dtype=jnp.bfloat16, **RESNET)
  )
  assert call(model, images(16)).dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(split_model(model)[2])} == {jnp.dtype("float32")}
