"""Images in device memory: batches bit-identical to the host's, equal positions, sharding."""

import json

import cv2
import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jax_me.data import device_images, pipeline
from jax_me.data.device_images import DeviceImages, place_images
from jax_me.data.image_store import ImageStore
from jax_me.datasets.catalog import prepare

COUNT, SIZE = 23, 8


@pytest.fixture(scope="module")
def host(tmp_path_factory):
  """23 images of noise; the label of image n is n % 3."""
  folder = tmp_path_factory.mktemp("noise")
  random = np.random.default_rng(0)
  for number in range(COUNT):
    path = folder / "abc"[number % 3] / f"{number:02}.png"
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), random.integers(0, 256, (12, 12, 3), np.uint8))
  data_dir = str(tmp_path_factory.mktemp("data"))
  dataset = prepare(
    "labeled_images", data_dir=data_dir, manual_dir=str(folder), align=False, workers=0
  )
  return ImageStore(dataset, image_size=SIZE)


def row_sharding(devices):
  mesh = Mesh(np.array(jax.devices()[:devices]).reshape(devices, 1), ("data", "fsdp"))
  return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


@pytest.fixture(scope="module", params=[1, 4])
def on_devices(request, host):
  return DeviceImages(host, row_sharding(request.param))


def check_equal(ours, theirs):
  assert ours.keys() == theirs.keys()
  for name, value in theirs.items():
    assert ours[name].dtype == value.dtype
    np.testing.assert_array_equal(ours[name], value)


@pytest.mark.parametrize("balanced", [False, True])
def test_training_batches_equal_those_of_the_host(host, on_devices, balanced):
  arguments = {"batch_size": 8, "seed": 3, "balanced": balanced, "indices": range(1, 20)}
  ours = pipeline.train_batches(on_devices, **arguments)
  theirs = pipeline.train_batches(host, **arguments)
  for _ in range(6):
    batch = next(ours)
    assert batch["image"].sharding.is_equivalent_to(on_devices.sharding, 4)
    check_equal(batch, next(theirs))
  # A position saved with one can be restored with the other.
  state = json.loads(json.dumps(ours.get_state()))
  assert state == theirs.get_state()
  again = pipeline.train_batches(host, **arguments)
  again.set_state(state)
  check_equal(next(ours), next(again))
  back = pipeline.train_batches(on_devices, **arguments)
  back.set_state(again.get_state())
  check_equal(next(back), next(again))
  for batches in (ours, theirs, again, back):
    batches.close()


def test_evaluation_batches_equal_those_of_the_host(host, on_devices):
  ours = pipeline.eval_batches(on_devices, batch_size=8)
  theirs = pipeline.eval_batches(host, batch_size=8)
  assert len(ours) == len(theirs) == 3
  for batch, expected in zip(ours, theirs, strict=True):
    check_equal(batch, expected)
  assert not np.asarray(batch["image"])[~batch["mask"]].any()


@pytest.mark.parametrize(
  ("choice", "budget", "on_device"),
  [("on", 2**20, True), ("off", 2**20, False), ("auto", 2**20, False), ("auto", 10, False)],
)
def test_choice(host, choice, budget, on_device):
  # These devices are CPUs, where "auto" means off.
  placed = place_images(host, row_sharding(1), choice=choice, budget=budget)
  assert placed.on_device == on_device and len(placed) == COUNT
  assert isinstance(placed, DeviceImages) or placed is host


def test_auto_uses_an_accelerator_when_all_images_fit(host, monkeypatch):
  monkeypatch.setattr(device_images, "HOST_PLATFORMS", ())
  need = COUNT * SIZE * SIZE * 3
  assert place_images(host, row_sharding(1), choice="auto", budget=need).on_device
  assert not place_images(host, row_sharding(1), choice="auto", budget=need - 1).on_device
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  assert not place_images(host, row_sharding(1), choice="auto", budget=need).on_device
  with pytest.raises(ValueError, match="one process only"):
    place_images(host, row_sharding(1), choice="on", budget=need)


@pytest.mark.parametrize(
  ("choice", "message"), [("always", "auto, on, off"), ("on", "resident_mib")]
)
def test_invalid_choices_are_rejected(host, choice, message):
  with pytest.raises(ValueError, match=message):
    place_images(host, row_sharding(1), choice=choice, budget=10)
