"""`verify`: accuracy of released weights on a validation folder, against the published figure."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from jax_me.__main__ import main
from jax_me.inference.published_accuracy import AccuracyCheck, find_validation_images
from jax_me.models import released_weights
from jax_me.models.classifier import make_classifier
from tests.helpers.checkpoint_files import TINY_VIT, save_safetensors, vit_arrays
from tests.helpers.file_server import ServedFile, file_server

CLASSES = 5
NAME = "release://tiny.pth"


@pytest.fixture
def release(weights_cache, tmp_path, monkeypatch):
  """A released classifier of 28 x 28 pixels; returns a function that sets its published figure."""
  content = save_safetensors(vit_arrays(CLASSES), tmp_path / "tiny").read_bytes()
  with file_server(**{"tiny.pth": ServedFile(content)}) as server:
    preparation = dataclasses.replace(
      released_weights.RELEASED_WEIGHTS[0].preparation, image_size=28, resize_to=31
    )
    entry = released_weights.ReleasedWeights(
      "tiny.pth",
      "vit_tiny_patch16",
      f"{server.address}/tiny.pth",
      "MIT",
      TINY_VIT,
      note="pre-training",
      preparation=preparation,
    )

    def publish(top1):
      entries = (dataclasses.replace(entry, top1=top1),)
      monkeypatch.setattr(released_weights, "RELEASED_WEIGHTS", entries)

    yield publish


@pytest.fixture
def images(tmp_path):
  """Thirty images of several sizes in folders of synsets, one of them broken."""
  random = np.random.default_rng(0)
  folder = tmp_path / "val"
  for number in range(CLASSES):
    parent = folder / f"n0{1440764 + 3 * number}"
    parent.mkdir(parents=True)
    for image in range(6):
      height, width = random.integers(30, 90, 2)
      pixels = random.integers(0, 256, (height, width, 3), np.uint8)
      Image.fromarray(pixels).save(parent / f"{image}.png")
      (parent / f"{image}.txt").write_text("not an image")
  (folder / "n01440764" / "3.png").write_bytes(b"\x89PNG broken")
  return folder


def expected_accuracy(folder):
  """As the original evaluation computes it with Pillow: bicubic resize, central crop."""
  import convert.model_source

  saved = convert.model_source.open_model(NAME)
  graphdef, weights, normalisation = saved.split()
  correct = []
  for number, parent in enumerate(sorted(folder.iterdir())):
    for path in sorted(parent.glob("*.png")):
      if path.read_bytes().endswith(b"broken"):
        continue
      image = Image.open(path)
      scale = 31 / min(image.size)
      size = [31 if side == min(image.size) else int(side * scale) for side in image.size]
      left, top = (round((side - 28) / 2) for side in size)
      image = image.resize(size, Image.Resampling.BICUBIC)
      pixels = np.asarray(image.crop((left, top, left + 28, top + 28)))[None]
      scores = make_classifier(graphdef)(weights, normalisation, pixels)
      correct.append(int(scores.argmax()) == number)
  return 100 * sum(correct) / len(correct)


def verify(*arguments):
  return main(["verify", NAME, *map(str, arguments)])


@pytest.mark.slow
def test_accuracy_is_that_of_the_original_evaluation(release, images, capsys):
  release(50.0)
  accuracy = expected_accuracy(images)
  release(accuracy)
  capsys.readouterr()
  assert verify("--data", images, "--batch", 3) == 0
  printed = capsys.readouterr()
  assert f"accuracy   {accuracy:.2f}%" in printed.out and "agrees" in printed.out
  assert "images     29, 1 unreadable" in printed.out and "3.png" in printed.err
  assert verify("--data", images, "--batch", 3, "--json") == 0
  printed = json.loads(capsys.readouterr().out)
  assert printed["accuracy"] == pytest.approx(accuracy) and printed["agrees"]
  assert printed["images"] == 29 and len(printed["unreadable"]) == 1
  release(accuracy + 45)
  assert verify("--data", images, "--batch", 3) == 1
  assert "DIFFERS" in capsys.readouterr().out
  assert verify("--data", images, "--batch", 3, "--images", 7) in (0, 1)
  assert "images     7, 0 unreadable" in capsys.readouterr().out


def test_invalid_input(release, images, tmp_path, capsys):
  def assert_refused(words, *arguments):
    assert main(["verify", *map(str, arguments)]) == 1
    assert words in capsys.readouterr().err

  release(None)
  assert_refused("no published accuracy: pre-training", NAME, "--data", images)
  release(50.0)
  assert_refused("is not of the form release://FILE", "hf://a/b", "--data", images)
  assert_refused("did you mean tiny.pth", "release://tin.pth", "--data", images)
  assert_refused("none is not a folder", NAME, "--data", tmp_path / "none")
  assert_refused("0 class folders; the model has 5", NAME, "--data", images / "n01440764")
  assert_refused("at least 1", NAME, "--data", images, "--images", 0)


def test_the_classes_are_the_sorted_folders(tmp_path):
  for number in range(11):
    (tmp_path / str(number)).mkdir()
    (tmp_path / str(number) / f"{number}.jpg").touch()
  assert [int(path.stem) for path, _ in find_validation_images(tmp_path, 11)] == list(range(11))
  assert [number for _, number in find_validation_images(tmp_path, 11, 3)] == [0, 5, 10]


@pytest.mark.parametrize(
  ("images", "points", "agrees"),
  [
    (50_000, 0.09, True),  # the whole validation set: only rounding and decoders
    (50_000, 0.2, False),
    (1000, 2.4, True),
    (1000, 2.7, False),
    (100, 6.0, True),
    (100, 9.0, False),
  ],
)
def test_the_allowed_difference_depends_on_the_number_of_images(images, points, agrees):
  check = AccuracyCheck(published=80 + points, images=images, correct=images * 80 // 100)
  assert check.agrees == agrees
