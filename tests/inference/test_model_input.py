"""Model inputs of a tracked face: the form that the model was trained on."""

import pathlib

import numpy as np
import pytest
import skimage

from jax_me.data.clip_inputs import dynamic_image, inputs
from jax_me.faces.alignment import FaceChip
from jax_me.faces.image_files import read_image
from jax_me.inference.model_input import InputBuilder, InputSpec, face_inputs, with_detector
from jax_me.models.model_folder import SavedModel
from jax_me.models.model_metadata import ALIGNMENT_DEFAULTS

PORTRAIT = pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png"
CHIP = FaceChip(0, 0, 63, 63, 0.0, 64)


class FakeRegion:
  """A region whose crop is the same for every chip."""

  def __init__(self, number):
    rng = np.random.default_rng(number)
    self.image = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    self.chips = []

  def crop(self, chip):
    self.chips.append(chip)
    return self.image


def spec(input, image_size=32):
  return InputSpec(input, align=True, crop_size=32, image_size=image_size)


def spec_of(options, image_size):
  return InputSpec.from_model(
    SavedModel(None, "", {}, [], image_size, [], [], {"options": options})
  )


def test_spec_of_a_saved_model():
  assert spec_of({"input": "flow", "size": 128}, 112) == InputSpec("flow", True, 128, 112)
  assert spec_of({}, 64) == InputSpec("", True, 64, 64)
  assert not spec_of({"align": False}, 64).align
  converted = SavedModel(None, "", {}, [], 64, [], [], {"format": "torch"})
  assert not InputSpec.from_model(converted).align
  assert InputSpec.from_model(converted, align=True).align
  # Models of version 0.1 keep its detector.
  assert spec_of({}, 64).detector == "hog"
  assert spec_of({"detector": "yunet+hog"}, 64).detector == "yunet+hog"
  with pytest.raises(ValueError, match="got 'haar'"):
    spec_of({"detector": "haar"}, 64)
  with pytest.raises(ValueError, match="'smell'"):
    spec_of({"input": "smell"}, 64)


def test_the_crop_of_the_training_images_is_taken_from_the_chip():
  options = {"scale": 1.5, "down": 0.1, "upright": True, "grey": True}
  saved = SavedModel(
    None, "", {}, [], 32, [], [], {}, alignment=ALIGNMENT_DEFAULTS | options | {"size": 96}
  )
  spec = InputSpec.from_model(saved)
  chip = FaceChip(10, 20, 110, 120, 0.0, 10)
  assert spec.crop_of(chip) == FaceChip(-15, 5, 135, 155, 0.0, 96)
  quarter = FaceChip(10, 20, 110, 120, np.pi / 2, 10)  # the chin is on the left
  turned = spec.crop_of(quarter)
  assert turned.angle == 0 and (turned.left + turned.right) / 2 == pytest.approx(50)
  assert (turned.top + turned.bottom) / 2 == pytest.approx(70)
  colours = np.zeros((96, 96, 3), np.uint8) + np.array([200, 100, 0], np.uint8)
  image = spec.model_image(colours)
  assert image.shape == (32, 32, 3)
  np.testing.assert_array_equal(image, 119)  # 0.299 * 200 + 0.587 * 100
  builder = InputBuilder(spec)
  frame = FakeRegion(0)
  frame.image = colours
  np.testing.assert_array_equal(builder.build(frame, chip, 0.0), image)
  assert frame.chips == [spec.crop_of(chip)]


def test_faces_are_found_with_the_detector_of_the_model():
  portrait = read_image(PORTRAIT)
  turned = np.ascontiguousarray(np.rot90(portrait))
  saved = SavedModel(None, "", {}, [], 64, [], [], {"options": {"size": 64}})
  assert len(face_inputs(portrait, saved)) == 1
  assert face_inputs(turned, saved) == []
  saved = with_detector(saved, "yunet+hog")
  (upright,), (found,) = face_inputs(portrait, saved), face_inputs(turned, saved)
  assert np.abs(upright.image.astype(int) - found.image).mean() < 12


@pytest.mark.parametrize("input", ["", "apex", "frames", "key_frames"])
def test_single_frame_models_get_the_frame(input):
  builder = InputBuilder(spec(input, image_size=16))
  for number in range(3):
    image = builder.build(FakeRegion(number), CHIP, number / 30)
    assert image.shape == (16, 16, 3)
  assert not spec(input).is_motion


def test_motion_models_compare_with_the_frame_0_2_seconds_earlier():
  builder, regions = InputBuilder(spec("pair")), [FakeRegion(number) for number in range(20)]
  for number, region in enumerate(regions):
    image = builder.build(region, CHIP, number / 30)
    # 0.2 s are 6 frames; earlier frames are compared with the first one.
    reference = regions[max(0, number - 6)]
    assert np.array_equal(image, inputs.pair_image(reference.image, region.image))


def test_both_crops_use_the_chip_of_the_earlier_frame():
  builder, first, second = InputBuilder(spec("flow")), FakeRegion(0), FakeRegion(1)
  builder.build(first, CHIP, 0.0)
  builder.build(second, FaceChip(5, 5, 68, 68, 0.1, 64), 0.1)
  assert (second.chips[-1].left, second.chips[-1].angle) == (CHIP.left, CHIP.angle)
  assert second.chips[-1].size == 32


def test_dynamic_images_use_ten_frames_of_the_last_0_4_seconds():
  builder, regions = InputBuilder(spec("dynamic")), [FakeRegion(number) for number in range(30)]
  for number, region in enumerate(regions):
    image = builder.build(region, CHIP, number / 30)
  indices = np.rint(np.linspace(17, 29, 10)).astype(int)  # 0.4 s are 12 frames
  expected = dynamic_image.dynamic_image(
    (regions[index].image for index in indices), 10, inputs.DYNAMIC_GAIN
  )
  assert np.array_equal(image, expected)
