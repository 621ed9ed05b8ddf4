"""Check of the input size of a model: the line that names the sizes that fit."""

import pytest

from jax_me.models.input_size import check_input_size


@pytest.mark.parametrize(
  ("name", "size", "arguments", "remedy"),
  [
    ("vit_tiny_patch16", 28, {"depth": 1}, "image_size=32 .*patch_size=2 or 4 or 7 or 14$"),
    ("t2t_vit_7", 28, {"depth": 1}, "does not take images of 28 pixels: set model.image_size=32"),
    ("convnextv2_atto", 28, {"depths": (1, 1, 1, 1)}, "set model.image_size=32"),
    ("fcmae_convnextv2_atto", 48, {"depths": (1, 1, 1, 1)}, "set model.image_size=64"),
  ],
)
def test_other_sizes_are_refused_with_those_that_fit(name, size, arguments, remedy):
  with pytest.raises(ValueError, match=remedy) as refused:
    check_input_size(name, size, arguments)
  assert "\n" not in str(refused.value)


def test_sizes_that_fit():
  check_input_size("vit_tiny_patch16", 28, {"patch_size": 7, "depth": 1})
  check_input_size("convnextv2_atto", 33, {"depths": (1, 1, 1, 1)})


def test_another_wrong_argument_is_named():
  with pytest.raises(ValueError, match="embed_dim"):
    check_input_size("vit_tiny_patch16", 32, {"embed_dim": 97, "depth": 1})
