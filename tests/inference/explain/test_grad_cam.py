"""Grad-CAM against manual derivations, and on models with a known sensitive patch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.inference.explain.grad_cam import grad_cam, weighted_activation
from tests.helpers.inference_models import TARGET, T, V, one_patch_model, tiny
from tests.helpers.precision import float64
from tests.helpers.small_models import call

pytestmark = pytest.mark.usefixtures("quick_compilation")

C = dict(depths=(1, 1, 1, 2), dims=(4, 6, 8, 10), num_classes=3, image_size=96)
R = dict(widths=(4, 6), depths=(1, 2), num_classes=3, image_size=16)
EXACT = dict(dtype=jnp.float64, param_dtype=jnp.float64)


def images(size, dtype=jnp.float32, count=2):
  rng = np.random.default_rng(3)
  return jnp.asarray(rng.standard_normal((count, size, size, 3)), dtype)


def run_grad_cam(model, inputs, classes):
  graphdef, state = nnx.split(model)
  run = jax.jit(lambda state, classes: grad_cam(nnx.merge(graphdef, state), inputs, classes))
  return [np.asarray(x) for x in run(state, jnp.asarray(classes, jnp.int32))]


def numpy_pooled_cam(activation, norm, head, chosen):
  """CAM of mean pooling, layer norm and linear head in NumPy; activation [h, w, K].

  The gradient at every position is the gradient of the mean, divided by the number of positions.
  """
  scale, kernel = np.asarray(norm.scale[...]), np.asarray(head.kernel[...])
  mean = activation.mean((0, 1))
  centred = mean - mean.mean()
  deviation = np.sqrt((centred**2).mean() + norm.epsilon)
  wanted = scale * kernel[:, chosen]
  unit = centred / deviation
  gradient = (wanted - wanted.mean() - unit * (wanted * unit).mean()) / deviation
  weights = gradient / (activation.shape[0] * activation.shape[1])
  return np.maximum(activation @ weights, 0)


def test_weights_are_spatial_means():
  activation = jnp.asarray([[[[1.0, 2.0], [3.0, -1.0]]]])
  gradient = jnp.asarray([[[[2.0, 0.0], [0.0, 4.0]]]])  # alpha 1 and 2
  np.testing.assert_allclose(weighted_activation(activation, gradient), [[[5.0, 1.0]]])
  np.testing.assert_allclose(weighted_activation(activation, -gradient), [[[0.0, 0.0]]])


@pytest.mark.slow
def test_convnext_equals_the_class_activation_map():
  with float64():
    model, inputs = tiny("convnextv2_atto", **C, **EXACT), images(96, jnp.float64)
    found, logits = run_grad_cam(model, inputs, [2, 0])
    graphdef, state = nnx.split(model)
    run = jax.jit(lambda state: list(nnx.merge(graphdef, state).run_stages(inputs))[-1])
    activation = np.asarray(run(state))
    desired = [
      numpy_pooled_cam(one, model.norm, model.head, chosen)
      for one, chosen in zip(activation, [2, 0], strict=True)
    ]
    np.testing.assert_allclose(logits, np.asarray(call(model, inputs)), rtol=0, atol=1e-12)
  assert found.shape == (2, 3, 3) and found.max() > 0
  np.testing.assert_allclose(found, desired, rtol=0, atol=1e-12)


def block_input(model, inputs):
  """Tokens before the last block of a ViT with two blocks."""
  from jax_me.models.patches import patchify

  tokens = model.patch_embed(patchify(inputs, model.patch_size))
  token = jnp.broadcast_to(model.cls_token[...], (len(tokens), 1, tokens.shape[-1]))
  return model.blocks[0](jnp.concatenate([token, tokens], 1) + model.pos_embed[...])


def test_vit_with_mean_pooling_equals_the_class_activation_map():
  with float64():
    model, inputs = tiny("vit_tiny_patch16", **V, **EXACT), images(32, jnp.float64)
    found, _ = run_grad_cam(model, inputs, [1, 1])
    tokens = np.asarray(model.blocks[1](block_input(model, inputs)))[:, 1:]
    desired = [
      numpy_pooled_cam(one, model.fc_norm, model.head, 1) for one in tokens.reshape(2, 4, 4, -1)
    ]
  np.testing.assert_allclose(found, desired, rtol=0, atol=1e-12)


def test_class_token_equals_central_differences():
  arguments = {**V, "global_pool": False, **EXACT}
  with float64():
    model, inputs = tiny("vit_tiny_patch16", **arguments), images(32, jnp.float64, count=1)
    found, _ = run_grad_cam(model, inputs, [2])
    before = block_input(model, inputs)
    block = model.blocks[1]
    normed = block.norm1(before)

    def score(shift):
      """With `shift` [K] added to all patch tokens that enter the last attention."""
      moved = normed.at[:, 1:].add(shift)
      x = before + block.attn(moved)
      x = x + block.mlp(block.norm2(x))
      return model.head(model.norm(x[:, 0]))[0, 2]

    steps = 1e-5 * jnp.eye(24)
    both = jax.jit(jax.vmap(score))(jnp.concatenate([steps, -steps]))
    alpha = np.asarray(both[:24] - both[24:]) / 2e-5 / 16  # the shift moves all 16 tokens
    desired = np.maximum(np.asarray(normed)[0, 1:] @ alpha, 0).reshape(4, 4)
  assert desired.max() > 1e-4
  np.testing.assert_allclose(found[0], desired, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "arguments", "side"),
  [
    ("vit_tiny_patch16", dict(V, global_pool=False, scan=True, remat=True), 4),
    ("t2t_vit_7", dict(T, token_labeling=True, scan=True, remat=True), 4),
    ("t2t_vit_dense", dict(T, block_config=(1, 1), growth_rate=8), 4),
    ("convnextv2_atto", dict(C, scan=True, remat=True), 3),
    ("convnextv2_atto", dict(C, stem_stride=2, image_size=48), 3),
    ("shallow_cnn", dict(image_size=28, num_classes=3), 14),
    ("shallow_ststnet", dict(image_size=28, num_classes=3), 10),
    ("shallow_resnet", dict(R, mirrored=True), 4),
  ],
)
def test_every_family(name, arguments, side):
  model, inputs = tiny(name, **arguments), images(arguments["image_size"])
  before = np.asarray(call(model, inputs))
  found, logits = run_grad_cam(model, inputs, [-1, 1])
  assert found.shape == (2, side, side) and found.min() >= 0 and np.isfinite(found).all()
  np.testing.assert_allclose(logits, before, atol=1e-6)
  largest = int(before[0].argmax())
  again, _ = run_grad_cam(model, inputs, [largest, largest])
  np.testing.assert_allclose(found[0], again[0], atol=1e-7)
  np.testing.assert_array_equal(np.asarray(call(model, inputs)), before)


def test_one_patch_model_highlights_its_patch():
  found = run_grad_cam(one_patch_model(), images(32, count=1), [1])[0][0]
  assert np.unravel_index(found.argmax(), found.shape) == TARGET
  assert found[TARGET] > 10 * np.delete(found.ravel(), 4 * TARGET[0] + TARGET[1]).max()


@pytest.mark.slow
def test_convnext_highlights_the_only_bright_region():
  model = tiny("convnextv2_atto", **C)
  inputs = np.zeros((2, 96, 96, 3), np.float32)
  inputs[1, 32:64, 64:] = 3.0  # row 1, column 2
  graphdef, state = nnx.split(model)
  run = jax.jit(lambda state: list(nnx.merge(graphdef, state).run_stages(inputs))[-1])
  dark, light = run(state)
  # The head responds to the feature change in the bright cell.
  model.head.kernel[...] = jnp.stack([(light - dark)[1, 2]] * 3, 1)
  found, _ = run_grad_cam(model, jnp.asarray(inputs), [0, 0])
  assert np.unravel_index(found[1].argmax(), (3, 3)) == (1, 2)


def test_mirrored_views_share_one_map():
  model, inputs = tiny("shallow_resnet", **R, mirrored=True), images(16)
  found, logits = run_grad_cam(model, inputs, [0, 1])
  mirrored, same = run_grad_cam(model, inputs[:, :, ::-1], [0, 1])
  assert found.max() > 0
  np.testing.assert_allclose(mirrored[..., ::-1], found, atol=1e-5)
  np.testing.assert_allclose(same, logits, atol=1e-5)


def test_map_of_an_enlarged_view_has_the_places_of_the_image():
  arguments = dict(R, widths=(4,), depths=(1,))  # 8 x 8 sites.
  model = tiny("shallow_resnet", **arguments, zoom=2.0)
  found, _ = run_grad_cam(model, images(16), [0, 1])
  assert found.max() > 0
  # The outer quarter of the image on each side is outside the view.
  assert found[:, [0, -1]].max() == 0 and found[:, :, [0, -1]].max() == 0


def test_masked_autoencoders_have_no_class():
  model = tiny("mae_vit_tiny_patch16", image_size=32, embed_dim=24, depth=1, num_heads=2)
  with pytest.raises(ValueError, match="needs a classifier"):
    grad_cam(model, images(32), jnp.asarray([0, 0]))
