"""Random crops of stored images: distribution, pixels, reduced decoding, workers and hosts."""

import io

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from jax_me.data.augment.geometry import draw_crop
from jax_me.data.image_store import ImageStore
from jax_me.data.pipeline import train_batches
from jax_me.data.random_crop import RandomCrop
from jax_me.datasets import catalog
from tests.helpers.drawn_images import drawn_image

CROP = RandomCrop(0, (0.08, 1.0), (3 / 4, 4 / 3))
SIZE = 32


def encoded(height, width, seed=0, form="PNG"):
  pixels = np.rint(255 * drawn_image(height, width, seed)).astype(np.uint8)
  if form == "JPEG":  # smooth, so that its compression changes little
    pixels = cv2.GaussianBlur(pixels, (0, 0), 6.0)
  data = io.BytesIO()
  Image.fromarray(pixels).save(data, form, **({"quality": 95} if form == "JPEG" else {}))
  return data.getvalue(), pixels


@pytest.mark.slow
def test_boxes_have_the_distribution_of_the_crops_on_the_device():
  count = 4000
  boxes = np.array([CROP.draw(number, 300, 400)[0] for number in range(count)])
  top, left, height, width = boxes.T
  assert ((top >= 0) & (left >= 0) & (top + height <= 300) & (left + width <= 400)).all()
  draw = jax.jit(jax.vmap(lambda key: draw_crop(key, 300, 400, CROP.scale, CROP.ratio)))
  others = np.array(draw(jax.random.split(jax.random.key(0), count))).T
  for ours, other in zip(boxes.T, others.T, strict=True):
    np.testing.assert_allclose(
      np.quantile(ours, (0.1, 0.5, 0.9)), np.quantile(other, (0.1, 0.5, 0.9)), atol=12
    )


def test_images_in_which_no_box_fits_give_the_central_one():
  whole = RandomCrop(0, (1.0, 1.0), (3 / 4, 4 / 3))
  assert whole.draw(0, 100, 400)[0] == (0, 133, 100, 133)
  assert whole.draw(0, 400, 100)[0] == (133, 0, 133, 100)


def test_crop_is_pillows_resize_of_the_box():
  data, pixels = encoded(120, 160)
  out = np.empty((SIZE, SIZE, 3), np.uint8)
  for number in range(5):
    (top, left, height, width), method = CROP.draw(number, 120, 160)
    assert CROP.decode_into(out, data, number)
    box = Image.fromarray(pixels[top : top + height, left : left + width])
    np.testing.assert_array_equal(out, np.asarray(box.resize((SIZE, SIZE), method)))


def test_jpeg_decoded_at_a_part_of_its_size_gives_nearly_the_same_crop(monkeypatch):
  data, pixels = encoded(603, 800, form="JPEG")
  flags, out = [], np.empty((SIZE, SIZE, 3), np.uint8)
  decode = cv2.imdecode
  monkeypatch.setattr(cv2, "imdecode", lambda d, flag: flags.append(flag) or decode(d, flag))
  for number in range(8):
    (top, left, height, width), method = CROP.draw(number, 603, 800)
    assert CROP.decode_into(out, data, number)
    box = Image.fromarray(pixels[top : top + height, left : left + width])
    want = np.asarray(box.resize((SIZE, SIZE), method)).astype(int)
    assert np.abs(out - want).mean() < 2.0
  assert cv2.IMREAD_REDUCED_COLOR_4 in flags or cv2.IMREAD_REDUCED_COLOR_8 in flags


def test_random_interpolation_draws_both():
  crop = RandomCrop(0, (0.5, 1.0), (1.0, 1.0), "random")
  assert len({crop.draw(number, 50, 50)[1] for number in range(20)}) == 2


def test_damaged_bytes_give_false():
  assert not CROP.decode_into(np.empty((SIZE, SIZE, 3), np.uint8), b"nothing", 0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
  folder = tmp_path_factory.mktemp("images")
  for number in range(12):
    (folder / "ab"[number % 2]).mkdir(exist_ok=True)
    data, _ = encoded(60, 90, number)
    (folder / "ab"[number % 2] / f"{number}.png").write_bytes(data)
  builder = catalog.prepare(
    "labeled_images", data_dir=str(folder / "data"), manual_dir=str(folder), align=False, workers=0
  )
  return ImageStore(builder, image_size=SIZE)


def batches(store, count, **options):
  iterator = train_batches(store, batch_size=8, seed=1, crop=CROP, **options)
  found = [next(iterator) for _ in range(count)]
  iterator.close()
  return found


def test_crops_differ_between_epochs_and_repeat_with_the_seed(store):
  first, again = batches(store, 3), batches(store, 3)
  for one, other in zip(first, again, strict=True):
    np.testing.assert_array_equal(one["image"], other["image"])
  index = np.concatenate([batch["index"] for batch in first])
  images = np.concatenate([batch["image"] for batch in first])
  once, twice = np.flatnonzero(index == index[0])[:2]
  assert (images[once] != images[twice]).any()


def test_crops_do_not_depend_on_hosts(store):
  whole = batches(store, 2)
  halves = [batches(store, 2, process_index=i, process_count=2) for i in range(2)]
  for number in range(2):
    parts = np.concatenate([half[number]["image"] for half in halves])
    np.testing.assert_array_equal(whole[number]["image"], parts)


def test_a_restored_position_continues_with_the_same_crops(store):
  iterator = train_batches(store, batch_size=8, seed=1, crop=CROP)
  next(iterator)
  state, want = iterator.get_state(), next(iterator)
  iterator.set_state(state)
  np.testing.assert_array_equal(next(iterator)["image"], want["image"])
  iterator.close()


@pytest.mark.slow
def test_crops_do_not_depend_on_worker_processes(store):
  for one, other in zip(batches(store, 2), batches(store, 2, workers=2), strict=True):
    np.testing.assert_array_equal(one["image"], other["image"])
