"""Mixup and cutmix: distributions, mixed pixels and matching targets."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jax_me.data.augment.augmentation import row_keys
from jax_me.data.augment.mixup import (
  MixupDraw,
  MixupSettings,
  draw_mixup,
  make_mixup,
  mix_targets,
  symmetric_beta,
)
from jax_me.training.sharding import batch_sharding, make_mesh
from tests.helpers.drawn_images import drawn_image

pytestmark = pytest.mark.usefixtures("quick_compilation")

DRAWS = 10_000
KEYS = jax.random.split(jax.random.key(4), DRAWS)
ROWS, SIZE = 24, 20


def draws(settings: MixupSettings) -> MixupDraw:
  draw = jax.jit(jax.vmap(lambda key: draw_mixup(key, settings, 40, 60)))
  return jax.tree.map(np.asarray, draw(KEYS))


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 2.0])
def test_ratios_are_beta_distributed(alpha):
  shares = np.asarray(symmetric_beta(*jax.random.uniform(KEYS[0], (2, DRAWS)), alpha))
  assert 0 <= shares.min() and shares.max() <= 1
  want = scipy.stats.beta(alpha, alpha)
  grid = np.linspace(0.01, 0.99, 50)
  have = np.searchsorted(np.sort(shares), grid) / DRAWS
  assert np.abs(have - want.cdf(grid)).max() < 0.02  # Kolmogorov: p = 0.0007


def test_draws_have_their_probabilities():
  mix = draws(MixupSettings(mixup_alpha=0.8, cutmix_alpha=1.0, prob=0.6, switch_prob=0.25))
  assert mix.is_cutmix.mean() == pytest.approx(0.25, abs=0.015)
  assert (mix.kept[~mix.is_cutmix] < 1).mean() == pytest.approx(0.6, abs=0.02)
  blended = mix.kept[~mix.is_cutmix & (mix.kept < 1)]
  assert blended.std() == pytest.approx(scipy.stats.beta(0.8, 0.8).std(), rel=0.03)
  assert blended.mean() == pytest.approx(0.5, abs=0.02)
  box = mix.box
  assert (box.bottom[~mix.is_cutmix] <= box.top[~mix.is_cutmix]).all()


def test_cutmix_boxes_have_the_reference_distribution():
  mix = draws(MixupSettings(cutmix_alpha=1.0))
  box = mix.box
  heights, widths = box.bottom - box.top, box.right - box.left
  assert (box.top >= 0).all() and (box.bottom <= 40).all()
  assert (box.left >= 0).all() and (box.right <= 60).all()
  np.testing.assert_allclose(mix.kept, 1 - heights * widths / (40 * 60), atol=1e-6)
  rng = np.random.default_rng(0)
  side = np.sqrt(1 - rng.uniform(size=DRAWS))
  want = []
  for length, half in ((40, (40 * side).astype(int) // 2), (60, (60 * side).astype(int) // 2)):
    centre = rng.integers(0, length, DRAWS)
    want.append(np.minimum(centre + half, length) - np.maximum(centre - half, 0))
  for got, expected in (
    (heights, want[0]),
    (widths, want[1]),
    (heights * widths, want[0] * want[1]),
  ):
    assert got.mean() == pytest.approx(expected.mean(), rel=0.04)
    assert got.std() == pytest.approx(expected.std(), rel=0.04)


def test_pixels_and_targets_equal_a_loop():
  settings = MixupSettings(mixup_alpha=0.8, cutmix_alpha=1.0, prob=0.8)
  images = np.stack([drawn_image(SIZE, SIZE, seed) for seed in range(ROWS)])
  labels = np.arange(ROWS) % 5
  keys = row_keys(jax.random.key(0), ROWS)
  mixed, kept = jax.jit(make_mixup(settings))(jnp.asarray(images), keys)
  targets = mix_targets(jax.nn.one_hot(labels, 5), kept)
  drawn = jax.tree.map(
    np.asarray, jax.jit(jax.vmap(lambda key: draw_mixup(key, settings, SIZE, SIZE)))(keys)
  )
  seen = set()
  for row in range(ROWS):
    own, partner = images[row], images[row - 1]
    share = float(drawn.kept[row])
    want = np.zeros(5)
    if drawn.is_cutmix[row]:
      box = [int(v[row]) for v in drawn.box]
      pixels = own.copy()
      pixels[box[0] : box[2], box[1] : box[3]] = partner[box[0] : box[2], box[1] : box[3]]
      # The target's weights equal the shares of the pixels.
      assert share == pytest.approx((pixels == own).all(-1).mean(), abs=1e-6)
    else:
      pixels = share * own + (1 - share) * partner
    seen.add((bool(drawn.is_cutmix[row]), share == 1))
    want[labels[row]] += share
    want[labels[row - 1]] += 1 - share
    np.testing.assert_allclose(mixed[row], pixels, atol=1e-6)
    np.testing.assert_allclose(targets[row], want, atol=1e-6)
  assert len(seen) == 4  # Mixup and cutmix, each also without mixing.
  np.testing.assert_allclose(targets.sum(-1), 1, atol=1e-6)


def test_without_mixing_there_is_no_function():
  for settings in (MixupSettings(), MixupSettings(mixup_alpha=1.0, prob=0.0)):
    assert make_mixup(settings) is None


def test_settings_out_of_range_are_rejected():
  with pytest.raises(ValueError, match="mixing.mixup_alpha must be 0 or more, got -1"):
    MixupSettings(mixup_alpha=-1)
  with pytest.raises(ValueError, match="mixing.switch_prob is a probability, got 2"):
    MixupSettings(switch_prob=2)


def batch_draws(settings: MixupSettings, batches: int):
  """float [batches, ROWS]: weights of the own targets; pixels [batches, ROWS, SIZE, SIZE]."""
  # A one where the image is the row's own, a zero where it is the partner's, for the first row.
  images = jnp.zeros((ROWS, SIZE, SIZE, 1)).at[0].set(1.0)
  keys = jax.vmap(lambda key: row_keys(key, ROWS))(KEYS[:batches])
  mixed, kept = jax.jit(jax.vmap(lambda keys: make_mixup(settings)(images, keys)))(keys)
  return np.asarray(kept), np.asarray(mixed)[..., 0]


@pytest.mark.slow
def test_the_images_of_a_batch_share_one_draw():
  batch = MixupSettings(0.8, 1.0, prob=0.8, switch_prob=0.25, mode="batch")
  kept, mixed = batch_draws(batch, 1000)
  assert (kept == kept[:, :1]).all()
  # Row 0 keeps what row 1 takes from it: one box, one ratio.
  np.testing.assert_allclose(mixed[:, 0] + mixed[:, 1], 1, atol=1e-6)
  # The distribution over batches is that over images.
  shares = kept[:, 0]
  flat = mixed[:, 0].reshape(len(mixed), -1)
  cutmix = (flat.max(1) != flat.min(1)) & np.isin(flat, (0, 1)).all(1)
  blended = shares[~cutmix & (shares < 1) & (shares > 0)]
  assert (shares < 1).mean() == pytest.approx(0.8, abs=0.05)
  assert cutmix.sum() / (shares < 1).sum() == pytest.approx(0.25, abs=0.05)
  assert scipy.stats.kstest(blended, scipy.stats.beta(0.8, 0.8).cdf).pvalue > 1e-3
  # Each image for itself draws other ratios.
  kept, _ = batch_draws(dataclasses.replace(batch, mode="image"), 50)
  assert all(len(set(row)) > ROWS / 2 for row in kept)


def test_a_batch_over_several_devices_has_the_draw_of_one():
  mix = jax.jit(make_mixup(MixupSettings(0.8, 1.0, mode="batch")))
  images = jnp.asarray([drawn_image(SIZE, SIZE, seed) for seed in range(ROWS)])
  batch = images, row_keys(jax.random.key(2), ROWS)
  split = jax.device_put(batch, batch_sharding(make_mesh(1, jax.devices()[:4])))
  for one, other in zip(mix(*batch), mix(*split), strict=True):
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-7)
  kept = mix(*batch)[1]
  assert kept.shape == (ROWS,) and (kept == kept[0]).all()


def test_an_unknown_mode_is_rejected():
  with pytest.raises(ValueError, match="mixing.mode must be one of image, batch, got 'elem'"):
    MixupSettings(mode="elem")
