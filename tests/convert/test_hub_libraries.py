"""Conversion against timm and transformers themselves, where they are installed."""

import numpy as np
import pytest

from tests.helpers.hub_models import hub_cases
from tests.helpers.hub_parity import converted, largest_differences

pytest.importorskip("timm", reason="compares with timm, which is not installed")
pytest.importorskip("transformers", reason="compares with transformers, which is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("name", hub_cases())
def test_what_the_library_saves_now_converts(tmp_path, name):
  from tests.helpers import hub_libraries

  case, description = hub_cases()[name], hub_libraries.library_models()[name]
  model = hub_libraries.fill(description.build(), case)
  desired = hub_libraries.outputs(description, model, case)
  for number, form in enumerate(description.forms):
    folder = tmp_path / str(number)
    hub_libraries.save(description, model, form, folder)
    path = next(folder.iterdir()) if form.startswith(".") else folder
    double, single = largest_differences(path, case, desired)
    assert double < 1e-9 and single < 1e-5, form


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transformers_vit", "transformers_convnextv2", "timm_vit"])
def test_images_are_normalised_as_in_the_library(tmp_path, name):
  from tests.helpers import hub_libraries

  case, description = hub_cases()[name], hub_libraries.library_models()[name]
  model = hub_libraries.fill(description.build(), case)
  hub_libraries.save(description, model, "model.safetensors", tmp_path / "folder")
  conversion = converted(tmp_path / "folder", case)
  image = np.random.default_rng(0).integers(0, 256, (80, 96, 3), dtype=np.uint8)
  desired = hub_libraries.preprocessed(description, tmp_path / "folder", image)
  preprocessing = conversion.preprocessing
  assert desired.shape == (preprocessing.image_size, preprocessing.image_size, 3)
  # A constant image is left alone by every resize and crop.
  grey = np.full((80, 96, 3), 51, np.uint8)
  ours = (51 / 255 - np.array(preprocessing.mean)) / np.array(preprocessing.std)
  theirs = hub_libraries.preprocessed(description, tmp_path / "folder", grey)
  np.testing.assert_allclose(theirs, np.broadcast_to(ours, theirs.shape), atol=1e-5)
