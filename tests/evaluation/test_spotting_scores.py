"""Interval matching and counts of the MEGC rule on hand-computed examples."""

import pytest

from jax_me.evaluation.spotting_scores import (
  SpottingScore,
  interval_iou,
  match_intervals,
  score_spotting,
)


def test_iou_counts_both_end_frames():
  assert interval_iou((0, 9), (0, 9)) == 1
  assert interval_iou((0, 9), (5, 14)) == pytest.approx(5 / 15)
  assert interval_iou((0, 9), (9, 18)) == pytest.approx(1 / 19)
  assert interval_iou((0, 9), (10, 19)) == 0
  assert interval_iou((3, 3), (3, 3)) == 1


def test_iou_of_one_half_is_a_match():
  # 10 frames of 20: intersection 10, union 20.
  assert match_intervals([(0, 9)], [(0, 19)]) == [(0, 0)]
  assert match_intervals([(0, 8)], [(0, 19)]) == []


def test_true_interval_is_matched_once():
  # Both detections reach IoU 0.5: 10/20 and 12/20.
  assert match_intervals([(0, 9), (8, 19)], [(0, 19)]) == [(1, 0)]
  assert score_spotting({"v": [(0, 9), (8, 19)]}, {"v": [(0, 19)]}) == SpottingScore(1, 1, 0)


def test_detection_is_matched_once():
  assert match_intervals([(0, 19)], [(0, 9), (10, 19)]) == [(0, 0)]


def test_counts_are_pooled_over_videos_not_averaged():
  found = {"a": [(0, 10), (50, 60), (90, 99)], "b": [(5, 14)], "only found": [(1, 2)]}
  true = {"a": [(0, 10), (52, 60)], "b": [(30, 40)], "only true": [(1, 2), (8, 9)]}
  score = score_spotting(found, true)
  assert score == SpottingScore(true_positives=2, false_positives=3, false_negatives=3)
  assert score.precision == pytest.approx(2 / 5) and score.recall == pytest.approx(2 / 5)
  assert score.f1 == pytest.approx(4 / 10)


def test_no_detections():
  assert score_spotting({}, {}).f1 == 0
  assert score_spotting({"a": []}, {"a": [(0, 3)]}) == SpottingScore(0, 0, 1)


def test_invalid_intervals_are_rejected():
  with pytest.raises(ValueError, match="5 to 4"):
    match_intervals([(5, 4)], [])
  with pytest.raises(ValueError, match="overlap"):
    match_intervals([], [], min_iou=0)
