import json

import numpy as np
import pytest

from jax_me.training.logging.history import (
  count_non_finite,
  merge_history,
  numeric_keys,
  read_history,
  series,
)


def test_truncated_and_invalid_lines_are_skipped(tmp_path):
  log = tmp_path / "metrics.jsonl"
  log.write_bytes(
    b'{"step": 1, "train/loss": 2.0}\n'
    b'{"step": 2, "train/lo{"step": 2, "train/loss": 1.5}\n'  # Process killed, then appended to.
    b'[1, 2]\n\n"text"\n{"epoch": 3}\n{"step": null}\n\xff\xfe\n'
    b'{"step": 3, "train/loss": 1.0}\n'
    b'{"step": 4, "train/'
  )
  assert [row["step"] for row in read_history(log)] == [1, 3]


def test_missing_log_is_an_empty_history(tmp_path):
  assert read_history(tmp_path / "none.jsonl") == []


def test_rows_of_one_step_are_merged_and_later_values_win():
  rows = [
    {"step": 1, "train/loss": 2.0},
    {"step": 3, "train/loss": 1.0},
    {"step": 2, "train/loss": 1.5},
    {"step": 3, "train/loss": 0.9, "lr": 0.1},  # Logged again after resuming.
    {"step": 3, "test/uf1": 0.5},
  ]
  assert merge_history(rows) == [
    {"step": 1, "train/loss": 2.0},
    {"step": 2, "train/loss": 1.5},
    {"step": 3, "train/loss": 0.9, "lr": 0.1, "test/uf1": 0.5},
  ]
  assert "lr" not in rows[1]


def test_folds_are_separate_series():
  rows = merge_history(
    [{"step": 1, "loss": 2.0, "fold": "b"}, {"step": 1, "loss": 1.0, "fold": "a"}]
  )
  by_fold = series(rows, "loss")
  assert {fold: points.tolist() for fold, points in by_fold.items()} == {
    "a": [[1, 1.0]],
    "b": [[1, 2.0]],
  }


def test_series_contains_finite_numbers_only():
  rows = [
    {"step": 1, "loss": float("nan")},
    {"step": 2, "loss": "high"},
    {"step": 3, "loss": True},
    {"step": 4},
    {"step": 5, "loss": np.float32(0.5)},
    {"step": 6, "loss": float("inf")},
  ]
  np.testing.assert_array_equal(series(rows, "loss")[""], [[5, 0.5]])
  assert series(rows, "missing") == {}
  assert count_non_finite(rows) == 2
  assert numeric_keys(rows) == {"step", "loss"}


def test_nan_is_read_from_json(tmp_path):
  (tmp_path / "m.jsonl").write_text(json.dumps({"step": 1, "loss": float("nan")}) + "\n")
  assert count_non_finite(read_history(tmp_path / "m.jsonl")) == 1


@pytest.mark.parametrize("step", [None, "1", float("nan"), True])
def test_rows_without_a_step_are_skipped(step):
  assert merge_history([{"step": step, "loss": 1.0}]) == []
