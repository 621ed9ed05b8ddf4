import time

import pytest

from configs.common import common
from jax_me.training.duration import DurationWarning, describe_work, shortening_settings
from jax_me.training.utilisation import ThroughputMeter


def meter_of(*seconds):
  """A meter after calls of one step each that took these times; the first is not counted."""
  meter = ThroughputMeter()
  with pytest.MonkeyPatch.context() as patch:
    now = 0.0
    for duration in (0.0, *seconds):
      now += duration
      patch.setattr(time, "monotonic", lambda now=now: now)
      meter.count(1)
  return meter


@pytest.mark.parametrize(
  "steps, seconds, text", [(7200, 1.0, "2.0 hours"), (10**6, 1, "11.6 days")]
)
def test_a_long_run_is_announced_once(steps, seconds, text):
  lines = []
  warning = DurationWarning("Shorter with less.", steps)
  for _ in range(2):
    warning.check(meter_of(*[seconds] * 3), 32, lines.append)
  (line,) = lines
  assert (
    line.startswith(f"warning: this run takes about {text}")
    and f"at {32 / seconds:.3g} images/s" in line
  )
  assert line.endswith("Shorter with less.")


def test_a_short_run_is_not_announced():
  lines = []
  warning = DurationWarning("", 100)
  warning.check(meter_of(1.0, 1.0, 1.0), 1, lines.append)
  DurationWarning().check(meter_of(*[1e9] * 3), 1, lines.append)  # The number of steps is unknown.
  assert lines == [] and warning.given


def test_a_long_run_is_announced_as_soon_as_its_time_is_known():
  lines = []
  warning = DurationWarning("", 10_000)
  for seconds in ([], [4.0], [4.0, 4.0]):
    warning.check(meter_of(*seconds), 1, lines.append)
  assert not lines and not warning.given
  warning.check(meter_of(12.0), 1, lines.append)  # Slow steps: the first one suffices.
  assert lines


def test_the_work_is_described_before_the_first_step():
  text = describe_work([300, 310, 305], 16)
  assert text.startswith(
    "to train: 3 folds, 300 to 310 steps each; 915 steps of 16 images, 14,640 images in all. If"
  )
  assert "line after the first steps says how long, and which settings shorten it" in text
  assert describe_work([40], 8).startswith("to train: 1 fold; 40 steps of 8 images, 320 images")
  final = describe_work([5, 5], 4, final=7)
  assert "2 folds, 5 steps each and the final model with 7; 17 steps of 4 images" in final


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
