"""Heat maps: upsampling, statistics by region, overlay."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from jax_me.inference.explain import heat_map
from jax_me.inference.explain.heat_map import FeatureGrid
from jax_me.models.t2t_tokens import soft_split, soft_splits
from tests.helpers.inference_models import T, V, tiny


def test_patch_grid_of_a_vit():
  grid = FeatureGrid.from_model(tiny("vit_tiny_patch16", **V))
  values = np.zeros((4, 4))
  values[1, 3] = 1
  pixels = grid.to_pixels(values, 32)
  assert pixels.dtype == np.float32 and pixels.shape == (32, 32)
  rows, columns = np.nonzero(pixels > 0.5)
  assert rows.min() == 8 and rows.max() == 15 and columns.min() == 24
  np.testing.assert_allclose(grid.to_pixels(np.full((4, 4), 2.5), 32), 2.5, rtol=1e-6)
  # Halfway between two cells the value is their mean.
  assert FeatureGrid(0.0, 2.0).to_pixels(np.diag([1.0, 3.0]), 3)[1, 1] == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("strides", [(4, 2, 2), (2, 2, 1)])
def test_t2t_tokens_are_centred_in_their_windows(strides):
  grid = FeatureGrid.from_model(tiny("t2t_vit_7", **T, strides=strides))
  rows, columns = np.mgrid[:112, :112].astype(np.float32)
  x = jnp.asarray(np.stack([rows, columns], -1)[None])
  for split in soft_splits(strides):
    x = soft_split(x, *split)
    side = round(x.shape[1] ** 0.5)
    x = x.reshape(1, side, side, 2, -1).mean(-1)
  inner = np.asarray(x)[0, 3:-3, 3:-3]  # whose windows do not reach the padding
  count = 112 // math.prod(strides) - 6
  centres = grid.offset + grid.stride * np.arange(3, 3 + count)
  shape = (count, count)
  np.testing.assert_allclose(inner[..., 0], np.broadcast_to(centres[:, None], shape), atol=1e-4)
  np.testing.assert_allclose(inner[..., 1], np.broadcast_to(centres, shape), atol=1e-4)


@pytest.mark.slow
def test_grid_of_a_convolutional_network():
  model = tiny("convnextv2_atto", depths=(1, 1, 1, 1), dims=(4, 4, 4, 4), num_classes=2)
  assert FeatureGrid.from_model(model) == FeatureGrid(15.5, 32.0)
  small = tiny(
    "convnextv2_atto", depths=(1, 1, 1, 1), dims=(4, 4, 4, 4), num_classes=2, stem_stride=2
  )
  assert FeatureGrid.from_model(small) == FeatureGrid(7.5, 16.0)
  with pytest.raises(ValueError, match="no feature grid for a MaskedAutoencoder"):
    FeatureGrid.from_model(tiny("mae_vit_tiny_patch16", image_size=32, embed_dim=24, num_heads=2))


@pytest.mark.parametrize(
  ("name", "arguments"),
  [("shallow_resnet", dict(widths=(4, 6, 8), depths=(1, 1, 1))), ("shallow_cnn", {})],
)
def test_grids_of_small_networks_lie_symmetrically(name, arguments):
  """A linear model that is blind to mirroring sees the centre of its grid in the centre."""
  grid = FeatureGrid.from_model(tiny(name, **arguments, image_size=32))
  count = round(32 / grid.stride)
  centre = grid.offset + grid.stride * (count - 1) / 2
  # The residual CNN's stem is centred at even pixels, half a pixel before the middle of a pair.
  assert centre == pytest.approx(15.0 if name == "shallow_resnet" else 15.5)


def test_streams_are_centred_at_every_third_pixel():
  assert FeatureGrid.from_model(tiny("shallow_ststnet")) == FeatureGrid(0.0, 3.0)


def test_centre_of_mass():
  heat = np.zeros((4, 8))
  heat[3, 0] = 2
  assert heat_map.centre_of_mass(heat) == pytest.approx((0.5 / 8, 3.5 / 4))
  assert heat_map.centre_of_mass(np.zeros((2, 2))) is None


def landmarks():
  """A face of 100 pixels: brows at y 30, eyes at 40 (40 apart), nose 40 to 60, mouth at 75."""
  points = np.full((68, 2), 50.0)
  points[:17] = (50, 95)
  for group, x, y in ((17, 30, 30), (22, 70, 30), (36, 30, 40), (42, 70, 40)):
    points[group : group + (5 if y == 30 else 6)] = (x, y)
  points[27:36, 1] = np.linspace(40, 60, 9)
  points[48:68] = (50, 75)
  return points


def test_regions_are_disjoint_and_their_shares_sum_to_one():
  regions = heat_map.face_region_masks(landmarks(), 100)
  assert sum(mask.astype(int) for mask in regions.values()).max() == 1
  assert regions["mouth"][75, 50] and regions["eyes"][40, 30] and regions["eyes"][40, 70]
  assert regions["nose"][50, 50] and regions["brows"][30, 30] and not regions["nose"][90, 50]
  heat = np.zeros((100, 100), np.float32)
  heat[75, 50], heat[2, 2] = 3, 1
  shares = heat_map.region_shares(heat, regions)
  assert shares["mouth"]["share"] == pytest.approx(0.75)
  assert shares["rest"]["share"] == pytest.approx(0.25) and shares["eyes"]["share"] == 0
  assert sum(share["area"] for share in shares.values()) == pytest.approx(1)
  blank = heat_map.region_shares(np.zeros((100, 100)), regions)
  assert {share["share"] for share in blank.values()} == {0.0}


def test_scale_to_unit_and_overlay():
  heat = np.array([[1.0, 2.0], [3.0, 5.0]])
  np.testing.assert_allclose(heat_map.scale_to_unit(heat, from_zero=True), heat / 5)
  np.testing.assert_allclose(heat_map.scale_to_unit(heat, from_zero=False), (heat - 1) / 4)
  assert not heat_map.scale_to_unit(np.full((2, 2), 7.0), from_zero=False).any()
  grey = np.full((2, 2, 3), 100, np.uint8)
  blended = heat_map.overlay(grey, heat / 5, side=20).astype(int)
  assert blended.shape == (20, 20, 3)
  assert blended[-1, -1].sum() > blended[-1, 0].sum() > blended[0, 0].sum()
