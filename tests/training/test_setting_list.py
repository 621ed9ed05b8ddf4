import json

import pytest

from configs.common import SECTIONS, SETTINGS, common
from jax_me.__main__ import main
from jax_me.data.folds import RULES
from jax_me.training.optim import OPTIMIZERS
from jax_me.training.param_groups import LAYER_DECAY_TYPES
from jax_me.training.schedule import SCHEDULES
from jax_me.training.setting_declaration import Setting
from jax_me.training.settings import check


def settings(capsys, *arguments):
  code = main(["settings", *arguments])
  return code, capsys.readouterr()


def test_declarations_are_valid_and_complete():
  config = common()
  check(config)
  assert all(setting.meaning for setting in SETTINGS.values())
  assert {key.split(".")[0] for key in SETTINGS if "." in key} == set(SECTIONS) - {""}
  with config.unlocked():
    config.class_weights = "balanced"
  assert common().class_weights == ()  # Two configurations share no value that can change.


def test_declared_choices_are_those_of_the_code():
  assert sorted(SETTINGS["data.split"].choices) == sorted((*RULES, "none"))
  assert SETTINGS["optimizer.name"].choices == OPTIMIZERS
  assert SETTINGS["optimizer.schedule"].choices == SCHEDULES
  assert set(SETTINGS["optimizer.layer_decay_type"].choices) == set(LAYER_DECAY_TYPES)


@pytest.mark.parametrize(
  "interval, inside, outside, text",
  [
    ("(0, inf)", (1e-9, 5), (0, -1), "positive"),
    ("[1, inf)", (1, 9), (0.99,), "at least 1"),
    ("(2, inf)", (2.1,), (2,), "more than 2"),
    ("[0, 1)", (0, 0.99), (1, -0.1, float("nan")), "in [0, 1)"),
    ("(0, 1]", (1,), (0, 1.1), "in (0, 1]"),
  ],
)
def test_intervals(interval, inside, outside, text):
  setting = Setting(0.0, "", interval=interval)
  assert all(map(setting.allows, inside)) and not any(map(setting.allows, outside))
  assert setting.allowed() == text


def test_every_setting_is_printed_with_unit_and_choices(capsys):
  code, printed = settings(capsys, "quickstart", "--config.epochs=5")
  assert code == 0
  lines = printed.out.splitlines()
  assert any(line.split()[:4] == ["*", "epochs", "5.0", "epochs"] for line in lines)
  assert any(line.startswith("  seed  ") for line in lines)
  assert any(line.startswith("* model.arguments.depth ") for line in lines)
  names = {line[2:].split(" ")[0] for line in lines}
  assert set(SETTINGS) <= names
  assert "kfold, step, loso, lodo, holdout" in " ".join(printed.out.split())


def test_words_and_json(capsys):
  code, printed = settings(capsys, "quickstart", "layer", "DECAY", "--json")
  found = {row["name"]: row for row in json.loads(printed.out)}
  assert code == 0 and set(found) == {"optimizer.layer_decay", "optimizer.layer_decay_type"}
  assert found["optimizer.layer_decay_type"]["choices"] == ["vit", "single", "group", "backbone"]
  assert found["optimizer.layer_decay"]["value"] == 1.0


@pytest.mark.parametrize(
  "arguments, code, text",
  [
    (["quickstart", "learnign"], 1, "did you mean optimizer.learning_rate?"),
    (["quikstart"], 2, "did you mean quickstart?"),
    (["quickstart", "--config.epoch=5"], 2, "there is no setting 'epoch'; did you mean epochs"),
    (["quickstart", "--config.batch_size=abc"], 2, "batch_size takes a whole number, for example"),
    (["quickstart", "--config.model.arguments.depth=x"], 2, "depth takes a whole number"),
    (["quickstart", "--config.remat=maybe"], 2, "remat takes True or False"),
    (["quickstart", "--epochs=5"], 2, "unknown argument '--epochs'"),
  ],
)
def test_refused_arguments_give_one_line(capsys, arguments, code, text):
  found, printed = settings(capsys, *arguments)
  assert found == code
  assert text in printed.err and printed.err.count("\n") == 1
