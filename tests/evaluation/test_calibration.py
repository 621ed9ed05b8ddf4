import json

import numpy as np
import pytest

from jax_me.evaluation.calibration import are_probabilities, expected_calibration_error


def ece_by_definition(confidence, correct, bins=15):
  total = 0.0
  for m in range(1, bins + 1):
    inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
    if m == 1:
      inside |= confidence == 0
    if inside.any():
      gap = abs(correct[inside].mean() - confidence[inside].mean())
      total += inside.sum() / len(confidence) * gap
  return total


def test_ece_of_a_hand_computed_example():
  # Bins of width 0.5: {0.2, 0.4} one right, {0.6, 0.8, 1.0} two right.
  result = expected_calibration_error(
    [0.2, 0.4, 0.6, 0.8, 1.0], np.array([1, 0, 1, 0, 1]) == 1, bins=2
  )
  assert result["ece"] == pytest.approx(2 / 5 * abs(0.5 - 0.3) + 3 / 5 * abs(2 / 3 - 0.8))
  assert result["bins"][1] == {
    "low": 0.5,
    "high": 1.0,
    "examples": 3,
    "confidence": pytest.approx(0.8),
    "accuracy": pytest.approx(2 / 3),
  }
  assert (result["confidence"], result["accuracy"]) == (pytest.approx(0.6), 0.6)


@pytest.mark.parametrize("seed", range(40))
def test_ece_agrees_with_its_definition(seed):
  generator = np.random.default_rng(seed)
  count, bins = int(generator.integers(1, 300)), int(generator.integers(1, 21))
  confidence = generator.beta(2, 1, count)
  confidence[: count // 4] = generator.integers(0, bins + 1, count // 4) / bins  # On the bin edges.
  correct = generator.random(count) < confidence
  result = expected_calibration_error(confidence, correct, bins=bins, repeats=1)
  assert result["ece"] == pytest.approx(ece_by_definition(confidence, correct, bins), abs=1e-12)
  assert sum(b["examples"] for b in result["bins"]) == count
  assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_by_chance_distinguishes_calibrated_from_overconfident():
  generator = np.random.default_rng(0)
  confidence = generator.uniform(1 / 3, 1, 300)
  calibrated = expected_calibration_error(confidence, generator.random(300) < confidence)
  overconfident = expected_calibration_error(confidence, generator.random(300) < confidence - 0.2)
  assert calibrated["by_chance"] == pytest.approx(overconfident["by_chance"])
  assert 0.5 < calibrated["ece"] / calibrated["by_chance"] < 2
  assert overconfident["ece"] > 2.5 * overconfident["by_chance"]
  many = expected_calibration_error(
    np.tile(confidence, 30), generator.random(9000) < np.tile(confidence, 30)
  )
  assert many["by_chance"] < calibrated["by_chance"] / 4  # Proportional to 1 / sqrt(N).


@pytest.mark.parametrize(
  ("confidence", "correct"),
  [([], []), ([0.5], [1]), ([0.5, 0.5], [True]), ([1.1], [True]), ([np.nan], [True])],
)
def test_invalid_confidences_are_rejected(confidence, correct):
  with pytest.raises(ValueError, match="calibration needs"):
    expected_calibration_error(confidence, np.asarray(correct))


def test_probabilities_are_distinguished_from_other_scores():
  assert are_probabilities([[0.33, 0.33, 0.33], [1, 0, 0]])
  assert not are_probabilities([[0.5, 0.5, 0.5]])
  assert not are_probabilities([[2.0, -1.0]])
