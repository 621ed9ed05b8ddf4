"""What a model is shown of a person: the picture that it was trained on."""

import numpy as np
import pytest

from jax_me.data.clip_inputs import dynamic_image, inputs
from jax_me.faces.alignment import FaceChip
from jax_me.inference.model_input import InputForm, InputMaker

CHIP = FaceChip(0, 0, 63, 63, 0.0, 64)


class View:
  """A face that is the same however it is cut."""

  def __init__(self, number):
    rng = np.random.default_rng(number)
    self.image = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    self.cuts = []

  def cut(self, chip):
    self.cuts.append(chip)
    return self.image


def form(input, side=32):
  return InputForm(input, align=True, cut=32, side=side)


def test_the_form_is_read_from_the_model():
  source = {"options": {"input": "flow", "size": 128}}
  assert InputForm.of_source(source, 112) == InputForm("flow", True, 128, 112)
  assert InputForm.of_source({}, 64) == InputForm("", True, 64, 64)
  assert not InputForm.of_source({"options": {"align": False}}, 64).align
  with pytest.raises(ValueError, match="'smell'"):
    InputForm.of_source({"options": {"input": "smell"}}, 64)


@pytest.mark.parametrize("input", ["", "apex", "frames", "key_frames"])
def test_models_of_frames_see_the_frame(input):
  maker = InputMaker(form(input, side=16))
  for number in range(3):
    picture = maker.make(View(number), CHIP, number / 30)
    assert picture.shape == (16, 16, 3)
  assert not form(input).is_motion


def test_models_of_motion_compare_with_a_fifth_of_a_second_ago():
  maker, views = InputMaker(form("pair")), [View(number) for number in range(20)]
  for number, view in enumerate(views):
    picture = maker.make(view, CHIP, number / 30)
    # 0.2 s are 6 frames; at the beginning there is only the first frame.
    reference = views[max(0, number - 6)]
    assert np.array_equal(picture, inputs.pair_image(reference.image, view.image))
  maker.reset()
  assert np.array_equal(
    maker.make(views[0], CHIP, 9.0), inputs.pair_image(views[0].image, views[0].image)
  )


def test_both_faces_are_cut_as_the_earlier_one_lay():
  maker, first, second = InputMaker(form("flow")), View(0), View(1)
  maker.make(first, CHIP, 0.0)
  maker.make(second, FaceChip(5, 5, 68, 68, 0.1, 64), 0.1)
  assert (second.cuts[-1].left, second.cuts[-1].angle) == (CHIP.left, CHIP.angle)
  assert second.cuts[-1].size == 32


def test_dynamic_images_take_ten_frames_of_the_last_moments():
  maker, views = InputMaker(form("dynamic")), [View(number) for number in range(30)]
  for number, view in enumerate(views):
    picture = maker.make(view, CHIP, number / 30)
  at = np.rint(np.linspace(17, 29, 10)).astype(int)  # 0.4 s are 12 frames
  expected = dynamic_image.dynamic_image(
    (views[place].image for place in at), 10, inputs.DYNAMIC_GAIN
  )
  assert np.array_equal(picture, expected)
