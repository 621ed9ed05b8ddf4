"""Validation of the settings of augmentation, mixing and class weights."""

import sys

import pytest
from absl import flags
from ml_collections import config_flags

from configs.common import common
from jax_me.training import settings
from jax_me.training.program import check_class_weights


def problems(**changes) -> str:
  """Message of `settings.check` for the defaults with some keys changed; "" if valid."""
  config = common()
  config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
  try:
    settings.check(config)
  except settings.SettingsError as error:
    return str(error)
  return ""


def test_defaults_and_all_forms_of_class_weights_are_valid():
  assert problems() == ""
  for weights in ("balanced", "conservative", (1.0, 2.0), [0, 1]):
    assert problems(class_weights=weights) == ""


def test_message_has_all_problems():
  message = problems(augment__hue=0.9, mixing__prob=-1.0, class_weights=(1.0, -1.0))
  assert "augment.hue must be in [0, 0.5], got 0.9" in message
  assert "mixing.prob is a probability, got -1.0" in message
  assert "class_weights must be empty" in message and "(1.0, -1.0)" in message


@pytest.mark.parametrize("weights", ["even", ("a", "b"), (float("nan"),), 3.0, None])
def test_class_weights_of_another_type_are_invalid(weights):
  assert "class_weights must be empty" in problems(class_weights=weights)


def test_class_weights_must_not_all_be_zero():
  assert "must not all be 0" in problems(class_weights=(0.0, 0.0))


@pytest.mark.parametrize(
  "setting, name",
  [
    (dict(mixing__mixup_alpha=0.8), "mixing must be off when task is mae"),
    (dict(augment__cutout=0.2), "augment.cutout must be off when task is mae"),
    (dict(class_weights="balanced"), "class_weights must be off when task is mae"),
  ],
)
def test_pretraining_allows_no_labels_and_no_erasing(setting, name):
  assert name in problems(task="mae", **setting)
  assert problems(task="classify", **setting) == ""


def test_one_class_weight_per_class():
  config = common()
  config.class_weights = (1.0, 2.0)
  check_class_weights(config, 2)
  with pytest.raises(ValueError, match="class_weights has 2 values, the dataset 7 classes"):
    check_class_weights(config, 7)


@pytest.mark.parametrize(
  "text, value", [("balanced", "balanced"), ("(1.0, 0.5)", (1.0, 0.5)), ("[1, 2]", [1, 2])]
)
def test_command_line_accepts_all_forms(text, value, monkeypatch):
  monkeypatch.setattr("sys.argv", ["run.py", f"--config.class_weights={text}"])
  flag_values = flags.FlagValues()
  config_flags.DEFINE_config_dict("config", common(), flag_values=flag_values)
  flag_values(sys.argv)
  assert flag_values.config.class_weights == value
