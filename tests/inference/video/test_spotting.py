"""Expression spotting in synthetic motion and score series."""

import pickle

import numpy as np
import pytest

from jax_me.evaluation.spotting_scores import interval_iou
from jax_me.inference.video.facial_motion import REGIONS
from jax_me.inference.video.spotting import (
  ExpressionEvent,
  ExpressionSpotter,
  FrameCues,
  SpottingSettings,
  merge_cues,
  neutral_class_index,
)


def bump(count, start, peak, end):
  """Raised cosines: 0 at start, 1 at peak, 0 at end."""
  frame = np.arange(count)
  rise, fall = (frame - start) / (peak - start), (end - frame) / (end - peak)
  height = np.clip(np.minimum(rise, fall), 0, 1)
  return 0.5 - 0.5 * np.cos(np.pi * height)


def motion_cue(series, *, noise=0.0003, seed=0):
  """Two regions follow the series; all regions have noise."""
  rng = np.random.default_rng(seed)
  motion = noise * rng.standard_normal((len(series), len(REGIONS), 2))
  motion[:, 5, 0] += series
  motion[:, 6, 0] -= series
  return motion


def spot(motion=None, scores=None, *, fps=100, labels=(), settings=None, skip=()):
  spotter = ExpressionSpotter(1, labels, settings or SpottingSettings())
  count = len(motion if motion is not None else scores)
  for number in range(count):
    if number in skip:
      continue
    spotter.push(
      FrameCues(
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
  (event,) = spot(motion_cue(0.02 * bump(4 * fps, start, peak, end)), fps=fps)
  assert interval_iou((event.onset, event.offset), (start, end)) > 0.7
  assert abs(event.apex - peak) <= 0.03 * fps + 1
  assert event.kind == "micro" and event.evidence == "motion" and event.label is None
  assert event.onset_seconds == pytest.approx(event.onset / fps, abs=1 / fps)


def test_longer_expressions_are_macro_at_any_frame_rate():
  series = 0.02 * bump(400, 100, 130, 150)
  (micro,) = spot(motion_cue(series), fps=100)
  (macro,) = spot(motion_cue(series), fps=50)
  assert (micro.kind, macro.kind) == ("micro", "macro")


def test_a_long_expression_is_not_extended():
  series = np.maximum(bump(900, 300, 320, 345), bump(900, 455, 480, 500))
  series[320:480] = 1
  (event,) = spot(motion_cue(0.02 * series))
  assert event.kind == "macro" and event.evidence == "motion"
  assert abs(event.onset - 300) <= 10 and abs(event.offset - 500) <= 10


def test_neutral_face_weak_motion_drift_and_flicker_give_no_event():
  assert spot(motion_cue(np.zeros(500))) == []
  assert spot(motion_cue(0.003 * bump(500, 200, 220, 240))) == []
  assert spot(motion_cue(np.linspace(0, 0.05, 2000))) == []
  flicker = np.zeros(500)
  flicker[300:303] = 0.05
  assert spot(motion_cue(flicker)) == []


def test_a_noisy_face_needs_a_stronger_motion():
  series = 0.008 * bump(600, 400, 420, 440)
  assert len(spot(motion_cue(series))) == 1
  assert spot(motion_cue(series, noise=0.003)) == []


def test_hysteresis_bridges_a_dip():
  series = np.maximum(bump(400, 150, 165, 190), bump(400, 170, 195, 210))
  assert len(spot(motion_cue(0.02 * series))) == 1


def test_a_new_pose_is_not_an_expression_and_becomes_the_baseline():
  series = np.zeros(1500)
  series[300:] = 0.03
  series += 0.02 * bump(1500, 1200, 1215, 1230)
  (event,) = spot(motion_cue(series))
  assert interval_iou((event.onset, event.offset), (1200, 1230)) > 0.6


def test_an_absence_ends_an_expression():
  series = 0.02 * bump(600, 200, 230, 260)
  (event,) = spot(motion_cue(series), skip=range(235, 500))
  assert event.offset <= 234


def test_score_hysteresis():
  rest = np.full(200, 0.9)
  rest[50:120] = 0.5  # 1 - P(neutral) exceeds the low threshold only
  rest[60:100] = 0.2
  scores = np.stack([rest, 0.7 * (1 - rest), 0.3 * (1 - rest)], -1)
  (event,) = spot(scores=scores, labels=["Neutral", "happy", "sad"])
  assert (event.onset, event.offset) == (50, 119)
  assert event.label == "happy" and event.evidence == "scores" and event.kind == "macro"
  assert event.score == pytest.approx(0.56)
  rest[60:100] = 0.5  # never above the high threshold
  scores = np.stack([rest, 1 - rest, 0 * rest], -1)
  assert spot(scores=scores, labels=["Neutral", "happy", "sad"]) == []


def test_without_a_neutral_class_scores_only_label_motion_events():
  scores = np.tile([0.9, 0.1], (400, 1))
  scores[205:220] = [0.2, 0.8]
  assert spot(scores=scores, labels=["negative", "positive"]) == []
  motion = motion_cue(0.02 * bump(400, 200, 215, 240))
  (event,) = spot(motion, scores, labels=["negative", "positive"])
  assert event.label == "positive" and event.score == pytest.approx(0.8)


def neutral_scores(happy):
  """Scores [N, 3] of a model with the classes neutral, happy and sad."""
  happy = np.asarray(happy, float)
  return np.stack([1 - happy, 0.9 * happy, 0.1 * happy], -1)


CLASSES = ["neutral", "happy", "sad"]


@pytest.mark.parametrize("seconds", [5, 9, 60])
def test_an_expression_ends_when_it_ends(seconds):
  happy = np.full(round(25 * (seconds + 6)), 0.05)
  happy[75 : 75 + 25 * seconds] = 0.9
  (event,) = spot(scores=neutral_scores(happy), labels=CLASSES, fps=25)
  assert (event.onset, event.offset) == (75, 75 + 25 * seconds - 1)
  assert (event.kind, event.label) == ("macro", "happy") and event.onset < event.apex < event.offset
  (event,) = spot(motion_cue(0.06 * happy), fps=25)
  assert abs(event.onset - 75) <= 2 and abs(event.offset - (75 + 25 * seconds)) <= 3


def test_one_smile_with_flickering_scores_is_one_event():
  happy = np.full(300, 0.05)
  happy[50:200] = 0.9
  happy[90:95] = happy[140:150] = 0.1
  (event,) = spot(scores=neutral_scores(happy), labels=CLASSES, fps=25)
  assert (event.onset, event.offset, event.label) == (50, 199, "happy")
  flicker = np.full(300, 0.05)
  flicker[100:105] = 0.9
  assert spot(scores=neutral_scores(flicker), labels=CLASSES, fps=25) == []


def test_events_of_different_labels_are_not_merged():
  scores = np.tile([1.0, 0, 0], (300, 1))
  scores[50:150], scores[155:250] = [0.1, 0.9, 0], [0.1, 0, 0.9]
  happy, sad = spot(scores=scores, labels=CLASSES, fps=25)
  assert (happy.label, sad.label) == ("happy", "sad") and happy.offset < sad.onset


def test_a_micro_expression_needs_motion_and_scores_of_a_model_with_a_neutral_class():
  motion = motion_cue(0.02 * bump(400, 200, 215, 240))
  happy = np.where((np.arange(400) > 203) & (np.arange(400) < 235), 0.9, 0.05)
  (event,) = spot(motion, neutral_scores(happy), labels=CLASSES)
  assert (event.kind, event.evidence, event.label) == ("micro", "both", "happy")
  assert event.onset < event.apex < event.offset
  assert spot(motion, neutral_scores(np.full(400, 0.05)), labels=CLASSES) == []


def test_undefined_motion_neither_starts_nor_ends_an_expression():
  series = np.maximum(bump(900, 200, 230, 800), (np.arange(900) > 230) * bump(900, 0, 1, 700))
  series[230:600] = 1
  motion = motion_cue(0.03 * series)
  motion[350:500] = np.nan  # 1.5 s, as when the head is turned away
  (event,) = spot(motion)
  assert abs(event.onset - 200) <= 10 and event.offset >= 600
  motion = motion_cue(np.zeros(900))
  motion[350:500] = np.nan
  assert spot(motion) == []


def test_a_long_undefined_interval_ends_an_expression():
  series = np.zeros(900)
  series[200:] = 0.03
  series[:200] += 0.03 * bump(200, 160, 199, 300)
  motion = motion_cue(series)
  motion[300:600] = np.nan
  first, *_ = spot(motion)
  assert first.offset == 299


def test_displacements_of_different_origins_are_not_compared():
  spotter = ExpressionSpotter(1)
  motion = motion_cue(np.zeros(600))
  motion[300:] += 0.05
  for number in range(600):
    cues = FrameCues(number, number / 100, motion[number], None, origin=int(number >= 300))
    assert spotter.push(cues) < 0.01
  assert spotter.finish() == []


def test_displacements_are_relative_to_the_neutral_position():
  motion = motion_cue(0.03 * bump(300, 200, 240, 280)) + [0.02, -0.01]
  spotter = ExpressionSpotter(1)
  displacements = []
  for number in range(300):
    spotter.push(FrameCues(number, number / 100, motion[number], None))
    displacements.append(spotter.displacement)
  apex = displacements[240]
  np.testing.assert_allclose(apex[5], [0.03, 0], atol=0.002)
  np.testing.assert_allclose(apex[6], [-0.03, 0], atol=0.002)
  assert np.abs(apex[[0, 1, 2, 3, 4, 7, 8, 9, 10, 11]]).max() < 0.002
  spotter.push(FrameCues(300, 3.0, np.full((len(REGIONS), 2), np.nan), None))
  assert np.isnan(spotter.displacement).all()


def test_scores_of_a_hidden_face_do_not_count():
  scores = neutral_scores(np.where(np.arange(300) >= 100, 0.9, 0.05))
  spotter = ExpressionSpotter(1, CLASSES)
  for number in range(300):
    spotter.push(FrameCues(number, number / 25, None, scores[number], hidden=number >= 100))
  assert spotter.finish() == []


def test_speech_is_not_an_expression():
  rng, motion = np.random.default_rng(0), motion_cue(np.zeros(900))
  start = 300
  while start < 600:
    length = int(rng.integers(18, 32))
    opening = 0.06 * bump(900, start, start + length // 2, start + length)
    motion[:, 8, 1] += opening
    motion[:, 9, 1] += opening
    start += length + int(rng.integers(0, 8))
  assert spot(motion) == []


def test_impossible_motion_is_not_reported():
  motion = motion_cue(np.where(np.arange(600) >= 300, 0.6, 0))
  spotter = ExpressionSpotter(1)
  distances = [spotter.push(FrameCues(n, n / 20, motion[n], None)) for n in range(600)]
  assert max(distance or 0 for distance in distances) <= 0.4 and spotter.finish() == []


def test_events_of_both_cues_are_merged():
  event = ExpressionEvent(1, 10, 20, 40, 0.1, 0.2, 0.4, "micro", "sad", 0.3, 0.7, "motion")
  seen = ExpressionEvent(1, 12, 22, 45, 0.12, 0.22, 0.45, "micro", "happy", 0.9, 0.6, "scores")
  other = ExpressionEvent(1, 90, 95, 99, 0.9, 0.95, 0.99, "micro", "happy", 0.9, 0.6, "scores")
  both, alone = merge_cues([seen, event, other])
  assert (both.onset, both.offset, both.label, both.evidence) == (10, 40, "happy", "both")
  assert both.confidence == 0.7 and alone == other


def test_neutral_class_names():
  assert neutral_class_index(["happy", "Neutrality"]) == 1
  assert neutral_class_index(["negative", "positive"]) is None


def test_memory_is_bounded():
  spotter, sizes = ExpressionSpotter(1), []
  for number, motion in enumerate(motion_cue(np.zeros(3000))):
    spotter.push(FrameCues(number, number / 100, motion, None))
    sizes.append(len(pickle.dumps(spotter)) if number % 100 == 99 else 0)
  frame = len(pickle.dumps(FrameCues(0, 0.0, motion, None)))
  # At 100 frames per second: 150 frames of history and 100 positions.
  assert max(sizes) < 250 * frame and max(sizes[1000:]) <= 1.02 * max(sizes[:1000])
