"""Images for these tests: the portrait in the scikit-image wheel, and variants of it."""

import importlib.util
import pathlib

import cv2
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
  """uint8 [512, 512, 3] RGB, one smiling face; a public-domain NASA photograph."""
  folder = importlib.util.find_spec("skimage").submodule_search_locations[0]
  return np.array(Image.open(pathlib.Path(folder) / "data" / "astronaut.png").convert("RGB"))


@pytest.fixture(scope="session")
def face(portrait) -> np.ndarray:
  """uint8 [256, 256, 3]: the portrait's head, small and fast to process."""
  return portrait[:256, 96:352].copy()


@pytest.fixture(scope="session")
def scenery() -> np.ndarray:
  """uint8 [200, 300, 3]: a smooth colour ramp, without a face."""
  ramp = np.linspace(0, 255, 200 * 300).reshape(200, 300)
  return np.stack([ramp, ramp[::-1], 255 - ramp], axis=-1).astype(np.uint8)


@pytest.fixture(scope="session")
def variants(face):
  """A function: number -> a face with its own brightness and position, uint8 [240, 240, 3]."""

  def make(number: int) -> np.ndarray:
    random = np.random.default_rng(number)
    left, top = random.integers(0, 16, 2)
    brightness = random.uniform(0.7, 1.1)
    return cv2.convertScaleAbs(face[top : top + 240, left : left + 240], alpha=brightness)

  return make


@pytest.fixture
def save():
  """A function that writes an image with Pillow and returns its path."""

  def save_image(path: pathlib.Path, image: np.ndarray, **options) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path

  return save_image
