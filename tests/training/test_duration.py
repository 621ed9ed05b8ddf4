import pytest

from configs.common import common
from jax_me.training.duration import DurationWarning, shortening_settings
from jax_me.training.utilisation import ThroughputMeter


@pytest.mark.parametrize(
  "steps, seconds, text", [(7200, 1.0, "2.0 hours"), (10**6, 1, "11.6 days")]
)
def test_a_long_run_is_announced_once(steps, seconds, text):
  lines = []
  warning = DurationWarning("Shorter with less.", steps)
  for _ in range(2):
    warning.check(seconds, 31.25, lines.append)
  (line,) = lines
  assert line.startswith(f"warning: this run takes about {text}") and "31.2 images/s" in line
  assert line.endswith("Shorter with less.")


def test_a_short_run_is_not_announced():
  lines = []
  warning = DurationWarning("", 100)
  warning.check(1.0, 1.0, lines.append)
  DurationWarning().check(1e9, 1.0, lines.append)  # The number of steps is unknown.
  assert lines == [] and warning.given


def test_settings_that_shorten_a_run():
  config = common()
  text = shortening_settings(config, 68, "gpu")
  for part in ("epochs (now 30)", "model.image_size (now 224)", "data.split=kfold", "bfloat16"):
    assert part in text
  config.data.split, config.steps = "kfold", 500
  text = shortening_settings(config, 5, "cpu")
  assert "data.folds (now 5)" in text and "steps (now 500)" in text
  assert "bfloat16" not in text and "split=kfold" not in text


def test_calls_of_the_meter_do_not_include_the_first():
  meter = ThroughputMeter()
  for expected in (0, 1, 2):
    meter.count(1)
    assert meter.calls == expected
