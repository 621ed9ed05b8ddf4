"""Mean of the folds of a run as one classifier, and the model that a run stands for."""

import json
import shutil

import numpy as np
import pytest

import jax_me
from jax_me.models import ensemble
from jax_me.models.model_metadata import SavedModelError
from tests.helpers.inference_models import LABELS, SAVED, save

pytestmark = pytest.mark.slow
FOLDS = ("fold1", "casme2/sub01", "fold3")
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
OPTIONS = {"align": False, "size": 32}


def save_fold(run, fold, seed=1, **changed):
  arguments = {**SAVED, "drop_path_rate": 0.1}
  source = {"fold": fold, "options": OPTIONS, "trained_on": "casme2/flow"}
  fields = {"mean": [0.1 * seed] * 3, "arguments": arguments, "source": source, **changed}
  return save(run / fold, seed=seed, **fields)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run of three folds, whose classifiers differ in weights and normalisation."""
  run = tmp_path_factory.mktemp("run")
  (run / ensemble.RUN_FILE).write_text("{}")
  for number, fold in enumerate(FOLDS, start=1):
    save_fold(run, fold, seed=number)
  ensemble.write_ensemble(run, FOLDS)
  return run


def scores(source):
  results = jax_me.load(source).predict(list(IMAGES))
  return np.array([[face.scores[label] for label in LABELS] for (face,) in results])


def test_probabilities_are_the_mean_of_the_folds(run):
  folds = [scores(run / fold) for fold in FOLDS]
  assert np.ptp(folds, axis=0).max() > 0.01
  np.testing.assert_allclose(scores(run), np.mean(folds, axis=0), rtol=0, atol=1e-6)
  model = jax_me.load(run, verify=True)
  assert repr(model) == (
    "<Predictor: mean of 3 folds of vit_tiny_patch16; calm, happy, or so; trained on casme2>"
  )
  assert "vit_tiny_patch16 of casme2/sub01" in repr(jax_me.load(run / "casme2/sub01"))


def test_heat_maps_are_the_mean_of_those_of_the_folds(run):
  (found,) = jax_me.load(run).explain(IMAGES[0])
  folds = [jax_me.load(run / fold).explain(IMAGES[0], label=found.predicted)[0] for fold in FOLDS]
  assert found.label == found.predicted
  for method, heat_map in found.maps.items():
    mean = np.mean([fold.maps[method].values for fold in folds], axis=0)
    np.testing.assert_allclose(heat_map.values, mean, rtol=0, atol=1e-5)
  for label, score in found.scores.items():
    assert score == pytest.approx(np.mean([fold.scores[label] for fold in folds]), abs=1e-6)


def test_the_final_model_of_a_run_goes_before_the_mean_of_its_folds(run, tmp_path):
  copy = shutil.copytree(run, tmp_path / "run")
  save_fold(copy, "final", seed=7)
  assert repr(jax_me.load(copy)).startswith("<Predictor: vit_tiny_patch16, final model;")
  assert (scores(copy) == scores(copy / "final")).all()
  assert (scores(copy / "ensemble") == scores(run)).all()
  # A final model that is not finished has no checksums.
  (copy / "final/manifest.json").unlink()
  assert "mean of 3 folds" in repr(jax_me.load(copy))


def test_a_run_without_finished_models_is_refused(tmp_path):
  (tmp_path / ensemble.RUN_FILE).write_text("{}")
  with pytest.raises(SavedModelError, match="is a run without a model: it is not finished"):
    jax_me.load(tmp_path)


def test_where_one_model_is_needed_the_mean_of_several_is_refused(run):
  with pytest.raises(SavedModelError, match="is the mean of 3 folds, and one model is needed"):
    ensemble.only_model(jax_me.load(run).saved, run)
  assert [saved.source["fold"] for saved in ensemble.members_of(jax_me.load(run).saved)] == [*FOLDS]


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("{", "cannot be read"),
    ({"format": 1, "folds": []}, "it lists no folds"),
    ({"format": 1, "folds": ["../other"]}, "it lists folders outside the run"),
    ({"format": 1, "folds": ["/tmp"]}, "it lists folders outside the run"),
    ({"format": 1, "folds": [3]}, "cannot be read"),
  ],
)
def test_damaged_lists_of_folds(run, tmp_path, content, message):
  copy = shutil.copytree(run, tmp_path / "run")
  text = content if isinstance(content, str) else json.dumps(content)
  (copy / ensemble.ENSEMBLE_FOLDER / ensemble.FOLDS_FILE).write_text(text)
  with pytest.raises(SavedModelError, match=message):
    jax_me.load(copy)


def test_folds_of_two_runs_are_refused(run, tmp_path):
  copy = shutil.copytree(run, tmp_path / "run")
  shutil.rmtree(copy / "fold3")
  save_fold(copy, "fold3", labels=["calm", "angry"])
  with pytest.raises(SavedModelError, match="fold1 and fold3 differ in labels"):
    jax_me.load(copy)
