"""Data of an experiment: images on the devices or in host memory, balanced sampling."""

import dataclasses

import cv2
import jax
import numpy as np
import pytest

from configs.common import common
from jax_me.experiment.fold_training import FoldTraining
from jax_me.experiment.preparation import prepare

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  """15 dark and 5 light images of ten subjects; a model of one block."""
  folder = tmp_path_factory.mktemp("drawings")
  random = np.random.default_rng(0)
  lines = ["file,subject,label"]
  for number in range(20):
    label, level = ("light", 190) if number % 4 == 0 else ("dark", 60)
    image = np.clip(random.normal(level, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
    assert cv2.imwrite(str(folder / f"{number:02}.png"), image)
    lines.append(f"{number:02}.png,p{number % 10},{label}")
  (folder / "labels.csv").write_text("\n".join(lines))
  c = common()
  c.unlock()
  c.update(steps=3, batch_size=8, checkpoint_steps=0, evaluate_epochs=0.0, trackers=())
  c.data.update(name="labeled_images", manual_dir=str(folder), options={"align": False})
  c.data.data_dir = str(tmp_path_factory.mktemp("built"))
  c.model.update(image_size=16, name="vit_tiny_patch16")
  c.model.arguments.update(patch_size=8, embed_dim=24, num_heads=2, depth=1)
  c.augment.flip = 0.5
  return c.lock()


def prepared(config, **data):
  config = config.copy_and_resolve_references()
  config.data.update(data)
  return prepare(config)


@pytest.mark.slow
def test_images_on_the_devices_give_bit_identical_results(config, tmp_path):
  on_device = prepared(config, resident="on")
  host = dataclasses.replace(on_device, training_source=on_device.training_images)
  assert (
    on_device.training_source.on_device
    and not prepared(config, resident="off").training_source.on_device
  )
  results = []
  for run, workdir in ((on_device, tmp_path / "on_device"), (host, tmp_path / "host")):
    state = FoldTraining(run, run.folds[0], workdir).train()
    results.append((state["params"], run.predict(run.folds[0], state)))
  (params, predictions), (expected, expected_predictions) = results
  jax.tree.map(np.testing.assert_array_equal, params, expected)
  np.testing.assert_array_equal(predictions.scores, expected_predictions.scores)
  assert list(predictions.file) == list(expected_predictions.file)


@pytest.mark.parametrize("balanced", [False, True])
def test_balanced_sampling_draws_every_class_equally_often(config, balanced):
  run = prepared(config, balanced=balanced)
  batches = run.training_batches(run.folds[0])
  counts = sum(np.bincount(next(batches)["label"], minlength=2) for _ in range(3))
  batches.close()
  assert counts.sum() == 24 and (counts[0] == counts[1]) == balanced
