"""Resize and crop of evaluation images, and crops of training images from the stored ones."""

import cv2
import numpy as np
import pytest
from PIL import Image

from configs.common import common
from jax_me.experiment.fold_training import FoldTraining
from jax_me.experiment.preparation import prepare
from jax_me.image_preparation import ImagePreparation
from jax_me.models.model_metadata import read_model_metadata
from jax_me.training import settings

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZE = 16


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  """Eight images of 60 x 40 pixels."""
  folder = tmp_path_factory.mktemp("images")
  random = np.random.default_rng(0)
  lines = ["file,subject,label"]
  for number in range(8):
    small = random.integers(0, 256, (10, 15, 3), np.uint8)
    image = cv2.resize(small, (60, 40), interpolation=cv2.INTER_CUBIC)
    assert cv2.imwrite(str(folder / f"{number}.png"), image)
    lines.append(f"{number}.png,p{number // 2},{'ab'[number % 2]}")
  (folder / "labels.csv").write_text("\n".join(lines))
  return folder


def make_config(images, **changes):
  c = common()
  c.unlock()
  c.update(steps=2, batch_size=4, trackers=(), evaluate_epochs=0.0)
  c.data.update(name="labeled_images", manual_dir=str(images), options={"align": False})
  c.data.update(data_dir=str(images.parent / "built"), mean=(0.5,) * 3, std=(0.25,) * 3)
  c.model.image_size = SIZE
  c.model.arguments = dict(patch_size=8, embed_dim=24, depth=1, num_heads=2)
  for key, value in changes.items():
    section, _, name = key.partition("__")
    c[section][name] = value
  settings.check(c.lock())
  return c


CENTRAL = dict(eval__resize="shortest_edge", eval__crop=0.5, eval__interpolation="bicubic")


def stored(images, number):
  return Image.open(images / f"{number}.png")


def test_shorter_side_is_resized_and_the_centre_is_cropped(images):
  experiment = prepare(make_config(images, **CENTRAL))
  for number in range(2):
    resized = stored(images, number).resize((48, 32), Image.Resampling.BICUBIC)
    want = np.asarray(resized.crop((16, 8, 32, 24)))
    np.testing.assert_array_equal(experiment.evaluation_images.image(number), want)
  whole = cv2.resize(np.asarray(stored(images, 0)), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
  np.testing.assert_array_equal(experiment.training_images.image(0), whole)


def test_model_folder_declares_the_evaluation_transform(images, tmp_path):
  experiment = prepare(make_config(images, **CENTRAL))
  FoldTraining(experiment, experiment.folds[0], tmp_path).make_run()
  want = ImagePreparation(SIZE, "shortest_edge", 32, 0.5, "bicubic")
  assert read_model_metadata(tmp_path)["preparation"] == want


def test_default_stretches_as_in_training(images):
  experiment = prepare(make_config(images))
  assert experiment.evaluation_images is experiment.training_images
  assert experiment.preparation == ImagePreparation(SIZE)


@pytest.mark.slow
def test_aligned_faces_are_only_resized_and_this_is_said(images, caplog):
  config = make_config(images, **CENTRAL)
  with config.unlocked():
    config.data.options = {"align": True, "on_no_face": "center", "size": 24}
  experiment = prepare(config)
  assert experiment.preparation == ImagePreparation(SIZE)
  assert "aligned faces" in caplog.text


def test_training_batches_are_crops_of_the_stored_images(images):
  config = make_config(
    images, augment__crop_source="stored", augment__crop_scale=(0.1, 0.2), data__resident="auto"
  )
  experiment = prepare(config)
  batches = experiment.training_batches(experiment.folds[0])
  batch = next(batches)
  batches.close()
  assert batch["image"].shape == (4, SIZE, SIZE, 3)
  whole = experiment.training_images.images(batch["index"])
  assert (batch["image"] != whole).mean() > 0.9


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(eval__crop=0.5), "eval.crop"),
    (dict(eval__resize="shortest_edge"), "eval.interpolation"),
    (
      dict(augment__crop_source="stored", augment__crop_scale=(0.1, 1.0), data__resident="on"),
      "data.resident",
    ),
    (dict(augment__crop_interpolation="random"), "crop_source=stored"),
    (dict(augment__rand_augment="rand-m9"), "rand_augment"),
  ],
)
def test_impossible_settings_are_refused(images, changes, message):
  with pytest.raises(settings.SettingsError, match=message):
    make_config(images, **changes)
