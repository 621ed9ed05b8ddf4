"""Summaries of expressions: times, shares, runs and changes of labels."""

import numpy as np
import pytest

from jax_me.inference.video.expression_summary import (
  ExpressionSummary,
  photograph_summary,
  summary_columns,
)
from jax_me.inference.video.frame_stream import Detection, FrameDetections
from jax_me.inference.video.sources import Frame
from jax_me.inference.video.spotting import ExpressionEvent

LABELS = ["calm", "happy"]


def frame(number, people, status=None, fps=10):
  """`people`: person -> index of the label."""
  detections = [
    Detection(person, None, np.eye(len(LABELS))[label]) for person, label in people.items()
  ]
  status = status or ("ok" if people else "no_face")
  return FrameDetections(Frame(number, number / fps, None), status, detections)


def summarize(frames, events=(), **options):
  summary = ExpressionSummary(LABELS, 0.1, **options)
  for result in frames:
    summary.add(result)
  return summary.rows(events)


def event(kind, onset, offset, label, person=1):
  return ExpressionEvent(
    person, onset, onset, offset, onset / 10, onset / 10, offset / 10, kind, label, 0.9, 0.8,
    "motion",
  )  # fmt: skip


def test_times_shares_and_runs():
  labels = [0] * 6 + [1] * 4 + [0] * 5 + [1] * 5
  frames = [frame(number, {1: label}) for number, label in enumerate(labels)]
  (row,) = summarize(frames, [event("micro", 0, 3, "happy"), event("macro", 5, 12, "calm", 2)])
  assert list(row) == ["person", *summary_columns(LABELS)]
  assert row["person"] == 1 and row["frames"] == 20 and row["seconds_seen"] == pytest.approx(2)
  assert (row["frames_calm"], row["share_calm"]) == (11, 0.55)
  assert row["mean_seconds_calm"] == pytest.approx(0.55)
  assert row["mean_seconds_happy"] == pytest.approx(0.45)
  assert row["changes"] == 3 and row["sequence"] == "calm > happy > calm > happy"
  assert (row["micro"], row["macro"]) == (1, 0)


def test_short_flicker_is_no_change():
  labels = [0] * 6 + [1] * 3 + [0] * 6
  (row,) = summarize(frame(number, {1: label}) for number, label in enumerate(labels))
  assert row["changes"] == 0 and row["sequence"] == "calm" and row["frames_happy"] == 3


def test_absences_and_frames_that_do_not_count():
  frames = [
    frame(0, {1: 0, 2: 1}),
    frame(1, {}, "skipped"),
    frame(2, {1: 0}),
    frame(3, {}, "unreadable"),
    frame(4, {}),
    frame(90, {1: 0}),
  ]
  first, second = summarize(frames)
  # 0.2 s each until the next look, and the last frame of 0.1 s.
  assert first["seconds_seen"] == pytest.approx(0.5) and first["frames"] == 3
  assert first["mean_seconds_calm"] == pytest.approx(0.25)  # two runs
  assert second["seconds_seen"] == pytest.approx(0.2) and second["share_happy"] == 1
  assert second["mean_seconds_calm"] is None


def test_labels_of_motion_models_are_those_of_the_events():
  frames = [frame(number, {1: number % 2}) for number in range(40)]
  events = [
    event("micro", 5, 9, "happy"),
    event("macro", 20, 29, "calm"),
    event("micro", 32, 35, None),
  ]
  (row,) = summarize(frames, events, scores_at_rest=False)
  assert (row["frames_happy"], row["share_happy"]) == (5, 0.125)
  assert row["mean_seconds_calm"] == pytest.approx(0.9) and row["sequence"] == "happy > calm"
  assert row["frames"] == 40 and row["changes"] == 1 and row["micro"] == 2


def test_photographs():
  row = photograph_summary({"happy": 3}, LABELS)
  assert row["frames"] == 3 and row["share_happy"] == 1 and row["frames_calm"] == 0
  assert photograph_summary({}, LABELS)["share_calm"] is None
