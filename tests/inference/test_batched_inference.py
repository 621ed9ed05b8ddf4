"""Class probabilities: one function for evaluation, photographs, videos and explanations."""

import jax
import numpy as np
import pytest

from jax_me.inference.batched_inference import BatchedInference
from jax_me.inference.explain.explainer import Explainer
from jax_me.inference.model_input import FaceInput
from jax_me.inference.predictor import Predictor
from jax_me.models.classifier import make_classifier
from jax_me.models.model_folder import load_model
from jax_me.training.evaluation_step import class_probabilities
from jax_me.training.sharding import make_mesh, replicated
from tests.helpers.inference_models import save


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  return load_model(save(tmp_path_factory.mktemp("model") / "m", align=False))


@pytest.fixture
def compiled(saved):
  """The compiled classifier, without programs of other tests (with other compiler options)."""
  classifier = make_classifier(saved.split()[0])
  classifier.clear_cache()
  return classifier


def faces(count):
  rng = np.random.default_rng(0)
  return list(rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8))


def predicted(predictor, images):
  results = predictor.predict(images)
  faces = sum(results, []) if isinstance(images, list) else results
  return [list(face.scores.values()) for face in faces]


def streamed(saved, images):
  inference = BatchedInference(saved)
  ready = [entry for i, image in enumerate(images) for entry in inference.submit(image, i)]
  ready += inference.flush()
  assert [key for key, _ in ready] == list(range(len(images))) and inference.flush() == []
  return [scores for _, scores in ready]


def evaluated(saved, images, devices):
  """Scores of an evaluation in batches of four."""
  mesh = make_mesh(devices=jax.devices()[:devices])
  graphdef, *arrays = saved.split()
  weights, normalisation = jax.device_put(arrays, replicated(mesh))
  rows = np.arange(len(images))
  batches = [
    {"image": np.stack(images)[part], "index": part, "mask": np.ones(4, bool)}
    for part in np.split(rows, len(rows) // 4)
  ]
  return class_probabilities(make_classifier(graphdef), weights, normalisation, batches, mesh)[1]


@pytest.mark.slow
@pytest.mark.usefixtures("compiled")
def test_photographs_and_videos_have_the_scores_of_an_evaluation(saved):
  images = faces(8)
  expected = evaluated(saved, images, devices=1)
  for found in (streamed(saved, images), predicted(Predictor(saved), images)):
    np.testing.assert_array_equal(found, expected)
  np.testing.assert_allclose(evaluated(saved, images, devices=4), expected, rtol=0, atol=1e-6)
  explainer = Explainer(saved, ["rollout"])
  for image, scores in zip(images[:2], expected, strict=False):
    explained = list(explainer.explain(FaceInput(image)).scores.values())
    np.testing.assert_allclose(explained, scores, rtol=0, atol=1e-6)


def test_any_number_of_faces_compiles_for_two_batch_sizes(saved, compiled, tmp_path):
  predictor = Predictor(saved)
  images = faces(9)
  expected = predicted(predictor, images)
  for count in range(1, 9):
    np.testing.assert_array_equal(predicted(predictor, images[:count]), expected[:count])
  alone = [predicted(predictor, image) for image in images]
  np.testing.assert_allclose(np.concatenate(alone), expected, rtol=0, atol=1e-6)
  assert compiled._cache_size() == 2
  # Another model of the same structure, and a video.
  again = load_model(save(tmp_path / "again", align=False))
  np.testing.assert_array_equal(predicted(Predictor(again), images), expected)
  np.testing.assert_array_equal(streamed(again, images), expected)
  assert compiled._cache_size() == 2


def test_a_batch_holds_at_least_one_face(saved):
  with pytest.raises(ValueError, match="at least one"):
    BatchedInference(saved, batch=0)
