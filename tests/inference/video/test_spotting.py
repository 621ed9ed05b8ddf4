"""Expressions found in made-up courses of motion and scores."""

import numpy as np
import pytest

from jax_me.evaluation.spotting_scores import overlap
from jax_me.inference.video.facial_motion import REGIONS
from jax_me.inference.video.spotting import (
  Event,
  Moment,
  Spotter,
  SpottingSettings,
  merge_witnesses,
  rest_class,
)


def bump(count, start, peak, end):
  """Raised cosines from 0 at start to 1 at peak and to 0 at end."""
  at = np.arange(count)
  rise, fall = (at - start) / (peak - start), (end - at) / (end - peak)
  part = np.clip(np.minimum(rise, fall), 0, 1)
  return 0.5 - 0.5 * np.cos(np.pi * part)


def motions(course, *, noise=0.0003, seed=0):
  """Two regions move as the course says, all tremble."""
  rng = np.random.default_rng(seed)
  motion = noise * rng.standard_normal((len(course), len(REGIONS), 2))
  motion[:, 5, 0] += course
  motion[:, 6, 0] -= course
  return motion


def spot(motion=None, scores=None, *, fps=100, labels=(), settings=None, skip=()):
  spotter = Spotter(1, labels, settings or SpottingSettings())
  count = len(motion if motion is not None else scores)
  for number in range(count):
    if number in skip:
      continue
    spotter.push(
      Moment(
        number,
        number / fps,
        None if motion is None else motion[number],
        None if scores is None else scores[number],
      )
    )
  return spotter.finish()


@pytest.mark.parametrize("fps", [30, 100, 200])
def test_finds_a_micro_expression_and_its_times(fps):
  start, peak, end = (round(t * fps) for t in (2.0, 2.15, 2.4))
  (event,) = spot(motions(0.02 * bump(4 * fps, start, peak, end)), fps=fps)
  assert overlap((event.onset, event.offset), (start, end)) > 0.7
  assert abs(event.apex - peak) <= 0.03 * fps + 1
  assert event.kind == "micro" and event.evidence == "motion" and event.label is None
  assert event.onset_seconds == pytest.approx(event.onset / fps, abs=1 / fps)


def test_what_lasts_longer_is_macro_by_the_frame_rate():
  course = 0.02 * bump(400, 100, 130, 150)
  (micro,) = spot(motions(course), fps=100)
  (macro,) = spot(motions(course), fps=50)
  assert (micro.kind, macro.kind) == ("micro", "macro")


def test_a_long_expression_is_not_made_longer():
  course = np.maximum(bump(900, 300, 320, 345), bump(900, 455, 480, 500))
  course[320:480] = 1
  (event,) = spot(motions(0.02 * course))
  assert event.kind == "macro" and event.evidence == "motion"
  assert abs(event.onset - 300) <= 10 and abs(event.offset - 500) <= 10


def test_rest_weak_motion_drift_and_flicker_are_nothing():
  assert spot(motions(np.zeros(500))) == []
  assert spot(motions(0.003 * bump(500, 200, 220, 240))) == []
  assert spot(motions(np.linspace(0, 0.05, 2000))) == []
  flicker = np.zeros(500)
  flicker[300:303] = 0.05
  assert spot(motions(flicker)) == []


def test_a_trembling_face_needs_a_stronger_motion():
  course = 0.008 * bump(600, 400, 420, 440)
  assert len(spot(motions(course))) == 1
  assert spot(motions(course, noise=0.003)) == []


def test_hysteresis_bridges_a_dip():
  course = np.maximum(bump(400, 150, 165, 190), bump(400, 170, 195, 210))
  assert len(spot(motions(0.02 * course))) == 1


def test_a_new_pose_is_no_expression_and_becomes_rest():
  course = np.zeros(1500)
  course[300:] = 0.03
  course += 0.02 * bump(1500, 1200, 1215, 1230)
  (event,) = spot(motions(course))
  assert overlap((event.onset, event.offset), (1200, 1230)) > 0.6


def test_an_absence_ends_an_expression():
  course = 0.02 * bump(600, 200, 230, 260)
  (event,) = spot(motions(course), skip=range(235, 500))
  assert event.offset <= 234


def test_scores_open_high_and_end_low():
  rest = np.full(200, 0.9)
  rest[50:120] = 0.5  # 1 - rest passes the low threshold only
  rest[60:100] = 0.2
  scores = np.stack([rest, 0.7 * (1 - rest), 0.3 * (1 - rest)], -1)
  (event,) = spot(scores=scores, labels=["Neutral", "happy", "sad"])
  assert (event.onset, event.offset) == (50, 119)
  assert event.label == "happy" and event.evidence == "scores" and event.kind == "macro"
  assert event.score == pytest.approx(0.56)
  rest[60:100] = 0.5  # never above the high one
  scores = np.stack([rest, 1 - rest, 0 * rest], -1)
  assert spot(scores=scores, labels=["Neutral", "happy", "sad"]) == []


def test_without_a_class_for_rest_scores_find_nothing_but_name_what_moves():
  scores = np.tile([0.9, 0.1], (400, 1))
  scores[205:220] = [0.2, 0.8]
  assert spot(scores=scores, labels=["negative", "positive"]) == []
  motion = motions(0.02 * bump(400, 200, 215, 240))
  (event,) = spot(motion, scores, labels=["negative", "positive"])
  assert event.label == "positive" and event.score == pytest.approx(0.8)


def test_two_witnesses_of_one_expression_make_one_event():
  event = Event(1, 10, 20, 40, 0.1, 0.2, 0.4, "micro", "sad", 0.3, 0.7, "motion")
  seen = Event(1, 12, 22, 45, 0.12, 0.22, 0.45, "micro", "happy", 0.9, 0.6, "scores")
  other = Event(1, 90, 95, 99, 0.9, 0.95, 0.99, "micro", "happy", 0.9, 0.6, "scores")
  both, alone = merge_witnesses([seen, event, other])
  assert (both.onset, both.offset, both.label, both.evidence) == (10, 40, "happy", "both")
  assert both.confidence == 0.7 and alone == other


def test_rest_is_known_by_its_names():
  assert rest_class(["happy", "Neutrality"]) == 1
  assert rest_class(["negative", "positive"]) is None


def test_memory_is_bounded():
  spotter = Spotter(1)
  for number, motion in enumerate(motions(np.zeros(3000))):
    spotter.push(Moment(number, number / 100, motion, None))
  assert len(spotter._motion._past) < 150 and len(spotter._rest._places) < 100
