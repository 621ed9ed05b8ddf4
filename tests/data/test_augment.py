"""Complete augmentation: settings, order, determinism, independence of the device count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_me.data.augment.augmentation import Augmentation, make_augmentation, make_erasing, row_keys
from jax_me.data.augment.colour import draw_colour, jitter_colour
from jax_me.data.augment.geometry import (
  apply_affine,
  crop_and_resize,
  draw_affine,
  draw_crop,
  flip_horizontal,
  rotate_flow,
)
from jax_me.data.augment.mixup import MixupSettings, make_mixup, mix_targets
from jax_me.training.sharding import batch_sharding, make_mesh
from tests.helpers.drawn_images import drawn_image

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS, SIZE = 8, 16
ALL_TRANSFORMS = Augmentation(
  crop_scale=(0.3, 1.0),
  crop_ratio=(3 / 4, 4 / 3),
  flip=0.5,
  jitter_prob=0.5,
  brightness=0.25,
  contrast=0.25,
  saturation=0.25,
  hue=0.25,
  rotation=20.0,
  translate=0.1,
  zoom=(1.0, 1.25),
  fill=0.5,
  erase_prob=0.5,
  cutout=0.25,
)
IMAGES = np.stack(
  [np.rint(255 * drawn_image(24, 24, seed)).astype(np.uint8) for seed in range(ROWS)]
)


def augment_batch(images, key):
  """All changes of a training step to its images and targets."""
  keys = row_keys(key, len(images))
  images = make_augmentation(ALL_TRANSFORMS, SIZE)(images, keys)
  images = make_erasing(ALL_TRANSFORMS)(images - 0.5, keys)
  images, kept = make_mixup(MixupSettings(mixup_alpha=0.8, cutmix_alpha=1.0))(images, keys)
  return images, mix_targets(jax.nn.one_hot(jnp.arange(len(images)) % 3, 3), kept)


@pytest.fixture(scope="module")
def one_device():
  run = jax.jit(augment_batch)
  return run, jax.device_get(run(IMAGES, jax.random.key(0)))


@pytest.mark.slow
def test_the_same_key_gives_identical_images_and_another_key_different_ones(one_device):
  run, first = one_device
  again = jax.device_get(run(IMAGES, jax.random.key(0)))
  other = jax.device_get(run(IMAGES, jax.random.key(1)))
  np.testing.assert_array_equal(again[0], first[0])
  np.testing.assert_array_equal(again[1], first[1])
  for row in range(ROWS):
    assert np.abs(other[0][row] - first[0][row]).max() > 0.01


@pytest.mark.slow
def test_four_devices_give_the_result_of_one(one_device):
  mesh = make_mesh(1, jax.devices()[:4])
  split = jax.device_put(IMAGES, batch_sharding(mesh))
  images, targets = jax.device_get(jax.jit(augment_batch)(split, jax.random.key(0)))
  np.testing.assert_allclose(images, one_device[1][0], atol=1e-5)
  np.testing.assert_allclose(targets, one_device[1][1], atol=1e-6)


def augment_by_hand(pixels, key, flow):
  """One image in the documented order, from the same keys."""
  crop_key, flip_key, colour_key, affine_key, jitter_key = jax.random.split(key, 5)
  box = draw_crop(crop_key, 24, 24, (0.3, 1.0), (3 / 4, 4 / 3))
  image = crop_and_resize(pixels.astype(jnp.float32) / 255.0, box, SIZE)
  image = jnp.where(jax.random.bernoulli(flip_key, 0.5), flip_horizontal(image, flow=flow), image)
  affine = draw_affine(affine_key, SIZE, 20.0, 0.1, (1.0, 1.25))
  if flow:
    jittered = apply_affine(image, affine, jnp.array([0.5, 0.5, 0.0]), rotates=True)
    jittered = rotate_flow(jittered, affine.angle)
  else:
    colour = draw_colour(colour_key, 0.25, 0.25, 0.25, 0.25)
    image_in_colour = jitter_colour(image, colour, hue=True)
    jittered = apply_affine(image_in_colour, affine, jnp.full(3, 0.5), rotates=True)
  return jnp.where(jax.random.bernoulli(jitter_key, 0.5), jittered, image)


@pytest.mark.parametrize("flow", [False, True])
def test_transforms_are_applied_in_the_documented_order(flow):
  settings = Augmentation(**{**vars(ALL_TRANSFORMS), "flow": flow})
  augment = make_augmentation(settings, SIZE)

  def both(images, key):
    keys = row_keys(key, ROWS)
    by_hand = jax.vmap(lambda image, key: augment_by_hand(image, key, flow))
    return augment(images, keys), by_hand(images, keys)

  got, want = jax.jit(both)(IMAGES, jax.random.key(5))
  assert got.dtype == jnp.float32 and got.shape == (ROWS, SIZE, SIZE, 3)
  assert float(got.min()) >= 0 and float(got.max()) <= 1
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_jitter_applies_all_transforms_to_an_image_or_none():
  """The RAF-DB recipe: colour and affine as one group with probability 0.5."""
  settings = Augmentation(jitter_prob=0.5, brightness=0.25, translate=0.25)
  grey = np.full((400, 8, 8, 3), 128, np.uint8)
  images = np.asarray(
    jax.jit(make_augmentation(settings, 8))(grey, row_keys(jax.random.key(0), 400))
  )
  brighter = np.abs(images.max((1, 2, 3)) - 128 / 255) > 1e-5
  moved = images.min((1, 2, 3)) == 0
  assert brighter.mean() == pytest.approx(0.5, abs=0.08)
  assert not (moved & ~brighter).any()
  assert moved.sum() > 0.5 * brighter.sum()


def test_default_settings_change_nothing():
  images = make_augmentation(Augmentation(), 24)(IMAGES, row_keys(jax.random.key(0), ROWS))
  np.testing.assert_array_equal(images, IMAGES.astype(np.float32) / 255)


@pytest.mark.parametrize(
  "setting, message",
  [
    (dict(crop_scale=(0.5, 1.5)), r"augment.crop_scale must satisfy 0 < low <= high <= 1, got"),
    (dict(zoom=(1.2, 1.0)), r"augment.zoom must satisfy 0 < low <= high, got \(1.2, 1.0\)"),
    (dict(erase_area=(0.1,)), r"augment.erase_area must satisfy"),
    (dict(jitter_prob=1.5), r"augment.jitter_prob is a probability, got 1.5"),
    (dict(hue=0.6), r"augment.hue must be in \[0, 0.5\], got 0.6"),
    (dict(rotation=-5.0), r"augment.rotation must be in \[0, 180\], got -5.0"),
    (dict(erase_mode="grey"), r"augment.erase_mode must be one of .*'pixel'.*, got 'grey'"),
  ],
)
def test_settings_out_of_range_are_rejected(setting, message):
  with pytest.raises(ValueError, match=message):
    Augmentation(**setting)
