"""Crops and affine transforms against Pillow's resampling of the same boxes and matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jax_me.data.augment.geometry import (
  Affine,
  CropBox,
  apply_affine,
  crop_and_resize,
  draw_affine,
  draw_crop,
  flip_horizontal,
  rotate_flow,
)
from tests.helpers.drawn_images import drawn_image

pytestmark = pytest.mark.usefixtures("quick_compilation")

DRAWS = 10_000
KEYS = jax.random.split(jax.random.key(1), DRAWS)


def by_channel(image, render):
  """Applies a Pillow operation to each channel as 32-bit floats, so that nothing is rounded."""
  channels = [Image.fromarray(np.ascontiguousarray(c), mode="F") for c in np.moveaxis(image, -1, 0)]
  return np.stack([np.asarray(render(channel)) for channel in channels], -1)


@pytest.fixture(scope="module")
def boxes():
  draw = jax.jit(jax.vmap(lambda key: draw_crop(key, 60, 80, (0.2, 1.0), (3 / 4, 4 / 3))))
  return CropBox(*(np.asarray(v) for v in draw(KEYS)))


@pytest.mark.parametrize("size", [24, 96], ids=["shrinks", "enlarges"])
def test_crop_equals_pillows_bicubic(boxes, size):
  image = drawn_image(60, 80)
  crop = jax.jit(lambda box: crop_and_resize(image, box, size))
  for row in range(5):
    box = CropBox(*(v[row] for v in boxes))
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    want = by_channel(
      image, lambda c, p=corners: c.resize((size, size), Image.Resampling.BICUBIC, box=p)
    )
    np.testing.assert_allclose(crop(box), np.clip(want, 0, 1), atol=2e-5)


def test_crops_have_torchvisions_distribution(boxes):
  top, left, height, width = boxes
  assert (top >= 0).all() and (left >= 0).all()
  assert (top + height <= 60 + 1e-4).all() and (left + width <= 80 + 1e-4).all()
  share, ratio = height * width / (60 * 80), width / height
  assert 0.2 <= share.min() and share.max() <= 1.0001
  assert 3 / 4 - 1e-5 <= ratio.min() and ratio.max() <= 4 / 3 + 1e-5
  # Reference: draw in a loop until the box fits.
  rng = np.random.default_rng(0)
  expected = []
  while len(expected) < DRAWS:
    area = 60 * 80 * rng.uniform(0.2, 1.0)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    if np.sqrt(area * aspect) <= 80 and np.sqrt(area / aspect) <= 60:
      expected.append((area / (60 * 80), np.log(aspect)))
  want_share, want_ratio = np.asarray(expected).T
  np.testing.assert_allclose(share.mean(), want_share.mean(), atol=0.015)
  np.testing.assert_allclose(share.std(), want_share.std(), atol=0.01)
  np.testing.assert_allclose(np.log(ratio).mean(), want_ratio.mean(), atol=0.01)
  # The position is uniform.
  np.testing.assert_allclose(np.mean(top[height < 59] / (60 - height[height < 59])), 0.5, atol=0.02)


def test_a_box_that_never_fits_is_replaced_by_the_largest_central_box():
  top, left, height, width = draw_crop(jax.random.key(0), 30, 90, (0.9, 1.0), (1.0, 1.5))
  np.testing.assert_allclose([top, left, height, width], [0, 22.5, 30, 45], rtol=1e-6)


@pytest.fixture(scope="module")
def affines():
  draw = jax.jit(jax.vmap(lambda key: draw_affine(key, 40, 30.0, 0.1, (0.8, 1.25))))
  return Affine(*(np.asarray(v) for v in draw(KEYS)))


def pillow_affine(image, angle, zoom, down, right, fill):
  size = image.shape[0]
  rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
  back = np.linalg.inv(zoom * rotation)  # from (x, y) of the result to the image, about the centre
  centre = np.array([size / 2, size / 2])
  offset = centre - back @ (centre + [right, down])
  matrix = (*back[0], offset[0], *back[1], offset[1])
  return by_channel(
    image,
    lambda c: c.transform(
      (size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill
    ),
  )


@pytest.mark.parametrize("rotates", [False, True])
def test_affine_equals_pillows_bilinear(affines, rotates):
  image = drawn_image(40, 40)
  fill = 0.25
  moved = jax.jit(
    lambda affine: apply_affine(jnp.asarray(image), affine, jnp.full(3, fill), rotates=rotates)
  )
  for row in range(6):
    affine = Affine(*(v[row] for v in affines))
    affine = affine if rotates else affine._replace(angle=np.float32(0))
    want = pillow_affine(image, *map(float, affine), fill)
    got = np.asarray(moved(affine))
    np.testing.assert_allclose(got, want, atol=2e-5)
  assert (got == fill).any()


def test_the_identity_changes_nothing():
  image = drawn_image(16, 16)
  identity = Affine(*map(jnp.asarray, (0.5, 1.3, 3.0, -2.0))).where(jnp.asarray(False))
  for rotates in (False, True):
    np.testing.assert_array_equal(
      apply_affine(image, identity, jnp.zeros(3), rotates=rotates), image
    )


def test_affine_parameters_are_uniform_in_their_ranges(affines):
  for values, low, high in (
    (np.degrees(affines.angle), -30, 30),
    (affines.zoom, 0.8, 1.25),
    (affines.down, -4, 4),
    (affines.right, -4, 4),
  ):
    assert low <= values.min() and values.max() <= high
    np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=0.02 * (high - low))
    np.testing.assert_allclose(values.std(), (high - low) / np.sqrt(12), rtol=0.02)
  assert abs(np.corrcoef(affines)[np.triu_indices(4, 1)]).max() < 0.04


def test_rotation_by_90_degrees_is_clockwise():
  image = drawn_image(12, 12)
  rotation = Affine(*map(jnp.float32, (np.pi / 2, 1.0, 0.0, 0.0)))
  rotated = apply_affine(image, rotation, jnp.zeros(3), rotates=True)
  np.testing.assert_allclose(rotated, np.rot90(image, -1), atol=1e-5)


def test_flow_vectors_rotate_with_the_image():
  # Motion to the right, rotated clockwise by 90 degrees, is downward; strain has no direction.
  flow = jnp.broadcast_to(jnp.array([0.9, 0.5, 0.3]), (4, 4, 3))
  np.testing.assert_allclose(
    rotate_flow(flow, jnp.float32(np.pi / 2))[0, 0], [0.5, 0.9, 0.3], atol=1e-6
  )


def test_flipped_flow_changes_its_direction():
  image = drawn_image(4, 6)
  flipped = np.asarray(flip_horizontal(jnp.asarray(image), flow=True))
  np.testing.assert_allclose(flipped[..., 0], 1 - image[:, ::-1, 0], atol=1e-6)
  np.testing.assert_array_equal(flipped[..., 1:], image[:, ::-1, 1:])
  np.testing.assert_array_equal(flip_horizontal(jnp.asarray(image), flow=False), image[:, ::-1])
