"""Benchmark of expression models: scores of a package, and joining of results."""

import json

import pytest

from benchmarks.expression_models import describe, joined, list_images, markdown, score

SCORES = [
  {"Happy": 0.9, "neutral": 0.1, "sad": 0.0},
  {"Happy": 0.2, "neutral": 0.3, "sad": 0.5},
  None,
  {"Happy": 0.4, "neutral": 0.1, "sad": 0.5},
]
TRUTH = ["happiness", "neutral", "neutral", "happiness"]


def test_labels_in_any_spelling_and_images_without_a_face():
  result = score(SCORES, TRUTH)
  assert result["accuracy"] == 0.25 and result["no_face"] == 1
  assert result["recall"] == {"happiness": 0.5, "neutral": 0.0}
  assert result["macro_f1"] == pytest.approx((2 * 1 / (2 + 1) + 0) / 2, abs=1e-4)
  restricted = score(SCORES, TRUTH, ("neutral", "happiness"))
  assert restricted["accuracy"] == 0.75 and restricted["no_face"] == 1


def test_results_of_the_same_images_are_joined(tmp_path):
  (tmp_path / "happy").mkdir()
  for name in ("PublicTest_1.jpg", "PublicTest_2.jpg", "PrivateTest_3.jpg"):
    (tmp_path / "happy" / name).write_bytes(name.encode())
  images = list_images(tmp_path, None, 0)
  assert images["fer2013"]["labels"] == ["happiness"] * 2
  models = {"peer": {"version": "1", "installed_bytes": 2e6, "sets": {}}}
  described = {name: describe(value) for name, value in images.items()}
  output = tmp_path / "result.json"
  assert joined(output, images) == {}
  output.write_text(json.dumps({"images": described, "models": models}))
  assert joined(output, images) == models
  assert "| peer 1 |" in markdown(models)
  with pytest.raises(SystemExit, match="has results on other images"):
    joined(output, list_images(tmp_path, None, 1))
