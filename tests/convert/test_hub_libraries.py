"""Conversion against timm and transformers themselves, where they are installed."""

import dataclasses

import numpy as np
import pytest

from convert.conversion import save_conversion
from convert.errors import ConversionError
from convert.torch_to_flax import convert_checkpoint, read_checkpoint
from jax_me.models.model_folder import load_model
from jax_me.models.reference_check import REFERENCE_FILE, read_reference
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


CLASSIFIERS = ["transformers_vit", "transformers_convnextv2", "timm_vit_average", "timm_convnextv2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_library_computes_the_reference_check(tmp_path, name):
  from tests.helpers import hub_libraries

  case, description = hub_cases()[name], hub_libraries.library_models()[name]
  model = hub_libraries.fill(description.build(), case)
  hub_libraries.save(description, model, "model.safetensors", tmp_path / "hub")

  def conversion():
    return convert_checkpoint(read_checkpoint(tmp_path / "hub"))

  right = conversion()
  save_conversion(right, tmp_path / "right")
  assert "gives the same logits for a synthetic image" in right.report.notes[-1]
  reference = read_reference(tmp_path / "right" / REFERENCE_FILE)
  assert reference.made_by == f"{case.library} {description.version}"
  load_model(tmp_path / "right", verify=True)

  wrong = conversion()
  wrong.model.head.bias[...] += 1.0
  with pytest.raises(ConversionError, match="does not answer as .* the output differs"):
    save_conversion(wrong, tmp_path / "wrong")
  cropped = conversion()
  other = dataclasses.replace(right.preprocessing, interpolation="nearest")
  cropped.preprocessing = other
  with pytest.raises(ConversionError, match="grey levels"):
    save_conversion(cropped, tmp_path / "wrong")
  assert not (tmp_path / "wrong").exists()
