"""k-nearest-neighbour classification on the features of a pre-trained model, without training.

A quick measure of a pre-training: the features of the training examples of a fold classify its test
examples. Vote as in Wu et al., "Unsupervised feature learning via non-parametric instance
discrimination" (CVPR 2018), section 3.4: similar neighbours count more.
"""

import contextlib
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jax_me.data.pipeline import eval_batches
from jax_me.evaluation.metrics import SCORE_NAMES
from jax_me.evaluation.predictions import PREDICTIONS_FILE, Predictions, concatenate
from jax_me.evaluation.summary import summarize
from jax_me.experiment.experiment import Experiment
from jax_me.experiment.initial_weights import initialise_state, open_model
from jax_me.experiment.preparation import prepare
from jax_me.models.layers import normalise
from jax_me.models.model_folder import merge_model
from jax_me.reports.run_report import write_report
from jax_me.reports.saved_report import SavedReport
from jax_me.reports.score_text import SCORE_TITLES, score_with_interval
from jax_me.run_folder import writing_results
from jax_me.training import settings
from jax_me.training.evaluation_step import class_probabilities, evaluation_weights
from jax_me.training.processes import hold_folder, is_writer

NEIGHBOURS = 20
TEMPERATURE = 0.07


def run_neighbours(config: ConfigDict, *, workdir: str) -> int:
  """Classifies the test examples of all folds, and writes predictions.csv and the report.

  Args:
    config: the recipe of a classifier; `init_from` is the model that gives the features. Images are
      normalised as that model was trained, unless the recipe gives mean and std.
    workdir: folder of the results.

  Returns:
    exit code: 0 finished, 2 invalid settings, model or data.
  """
  folder = pathlib.Path(workdir)
  with contextlib.ExitStack() as resources:
    try:
      settings.check(config)
      if config.task != "classify" or not config.init_from:
        raise ValueError("--mode knn needs the recipe of a classifier and --checkpoint SOURCE")
      saved = open_model(config.init_from, config.model.name)
      if not config.data.mean:
        with config.unlocked():
          config.data.mean, config.data.std = tuple(saved.mean), tuple(saved.std)
      resources.enter_context(hold_folder(folder))
      experiment = prepare(config)
      features = model_features(experiment)
    except (ValueError, OSError) as error:
      print(f"knn: {error}", file=sys.stderr, flush=True)
      return 2
    predictions = predict_folds(experiment, features)
    if is_writer():
      _write_results(experiment, folder, predictions, features.shape[1])
  return 0


def _write_results(
  experiment: Experiment, folder: pathlib.Path, predictions: Predictions, features: int
) -> None:
  config = experiment.config
  with writing_results(folder, PREDICTIONS_FILE):
    predictions.save(folder / PREDICTIONS_FILE)
  report = SavedReport(
    title=f"{NEIGHBOURS} nearest neighbours on {config.data.name}",
    predictions=predictions,
    details={
      "features": f"{features} of {config.model.name}, {config.init_from}",
      "dataset": experiment.training_images.name,
      "split": f"{config.data.split}, {len(experiment.folds)} fold(s)",
    },
  )
  pooled = summarize(predictions)["pooled"]
  scores = ", ".join(f"{SCORE_TITLES[k]} {score_with_interval(pooled, k)}" for k in SCORE_NAMES)
  print(f"{NEIGHBOURS} nearest neighbours: {scores}, {len(predictions)} examples", flush=True)
  print(f"report: {write_report(folder, report)}", flush=True)


def model_features(experiment: Experiment) -> np.ndarray:
  """Features of every example, float32 [N, D], by the model of `init_from`.

  Raises:
    ValueError: it holds no model, or one that does not fit that of the recipe.
  """
  config = experiment.config
  state, _ = initialise_state(
    experiment.program.initial_state(config.seed),
    config.init_from,
    target_name=config.model.name,
    labels=experiment.labels,
  )

  @jax.jit
  def compute(weights, normalisation, images):
    model: Any = merge_model(experiment.graphdef, weights["params"], weights["model_state"])
    return model.features(normalise(images.astype(jnp.float32) / 255.0, normalisation))

  mean, std = (jnp.asarray(values, jnp.float32) for values in (config.data.mean, config.data.std))
  images = experiment.evaluation_images
  batches = eval_batches(
    images,
    batch_size=experiment.evaluation_batch,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  found, features = class_probabilities(
    compute,
    evaluation_weights(state),
    {"mean": mean, "std": std},
    batches,
    experiment.program.mesh,
  )
  return features[np.argsort(found)]


def predict_folds(experiment: Experiment, features: np.ndarray) -> Predictions:
  """Predictions for the test examples of all folds.

  Args:
    experiment: the data and folds.
    features: [N, D] of every example.
  """
  index = experiment.evaluation_images.index
  results = []
  for fold in experiment.folds:
    scores = neighbour_scores(
      features[fold.train], index.label[fold.train], features[fold.test], len(index.label_names)
    )
    results.append(experiment.table_of(fold, fold.test, scores))
  return concatenate(results)


def neighbour_scores(
  known: np.ndarray,
  labels: np.ndarray,
  unknown: np.ndarray,
  classes: int,
  neighbours: int = NEIGHBOURS,
) -> np.ndarray:
  """Votes of the nearest neighbours by cosine similarity s, each with weight exp(s / TEMPERATURE).

  Args:
    known: [N, D] features of the labelled examples.
    labels: [N] their classes.
    unknown: [M, D] features of the examples to classify.
    classes: C.
    neighbours: number of neighbours; all N if there are fewer.

  Returns:
    float64 [M, C]; each row sums to 1.
  """
  known, unknown = (
    x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (known, unknown)
  )
  similarity = (unknown @ known.T).astype(np.float64)
  nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]
  values = np.take_along_axis(similarity, nearest, 1)
  # Relative to the nearest one, so that the exponential cannot overflow.
  weights = np.exp((values - values[:, :1]) / TEMPERATURE)
  votes = np.zeros((len(unknown), classes))
  for column in range(nearest.shape[1]):
    votes[np.arange(len(unknown)), labels[nearest[:, column]]] += weights[:, column]
  return votes / votes.sum(1, keepdims=True)
