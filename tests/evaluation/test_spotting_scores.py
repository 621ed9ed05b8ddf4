"""Interval matching and the counts of the MEGC rule, by hand."""

import pytest

from jax_me.evaluation.spotting_scores import (
  SpottingScore,
  match_intervals,
  overlap,
  score_spotting,
)


def test_overlap_counts_frames_with_both_ends():
  assert overlap((0, 9), (0, 9)) == 1
  assert overlap((0, 9), (5, 14)) == pytest.approx(5 / 15)
  assert overlap((0, 9), (9, 18)) == pytest.approx(1 / 19)
  assert overlap((0, 9), (10, 19)) == 0
  assert overlap((3, 3), (3, 3)) == 1


def test_exactly_half_is_right():
  # 10 frames of 20: intersection 10, union 20.
  assert match_intervals([(0, 9)], [(0, 19)]) == [(0, 0)]
  assert match_intervals([(0, 8)], [(0, 19)]) == []


def test_a_true_interval_is_found_once():
  # Both found ones overlap the true one by half or more: 10/20 and 12/20.
  assert match_intervals([(0, 9), (8, 19)], [(0, 19)]) == [(1, 0)]
  assert score_spotting({"v": [(0, 9), (8, 19)]}, {"v": [(0, 19)]}) == SpottingScore(1, 1, 0)


def test_a_found_interval_counts_once():
  assert match_intervals([(0, 19)], [(0, 9), (10, 19)]) == [(0, 0)]


def test_counts_are_pooled_over_videos_not_averaged():
  found = {"a": [(0, 10), (50, 60), (90, 99)], "b": [(5, 14)], "only found": [(1, 2)]}
  true = {"a": [(0, 10), (52, 60)], "b": [(30, 40)], "only true": [(1, 2), (8, 9)]}
  score = score_spotting(found, true)
  assert score == SpottingScore(right=2, wrong=3, missed=3)
  assert score.precision == pytest.approx(2 / 5) and score.recall == pytest.approx(2 / 5)
  assert score.f1 == pytest.approx(4 / 10)


def test_nothing_found_and_nothing_there():
  assert score_spotting({}, {}).f1 == 0
  assert score_spotting({"a": []}, {"a": [(0, 3)]}) == SpottingScore(0, 0, 1)


def test_bad_intervals_are_named():
  with pytest.raises(ValueError, match="5 to 4"):
    match_intervals([(5, 4)], [])
  with pytest.raises(ValueError, match="overlap"):
    match_intervals([], [], least=0)
