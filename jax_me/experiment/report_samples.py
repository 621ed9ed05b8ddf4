"""Test examples that a report shows, with their images."""

import cv2
import numpy as np

from jax_me.evaluation.predictions import Predictions
from jax_me.experiment.experiment import Experiment
from jax_me.reports.sample_sections import choose_samples
from jax_me.reports.saved_report import SamplePrediction


def sample_predictions(experiment: Experiment, predictions: Predictions) -> list[SamplePrediction]:
  """Right and wrong predictions of the report, with their images."""
  positions = {
    file: position for position, file in enumerate(experiment.evaluation_images.index.file)
  }
  samples = []
  for row in choose_samples(predictions):
    score = None if predictions.scores is None else float(predictions.scores[row].max())
    samples.append(
      SamplePrediction(
        image=_sample_image(experiment, positions[predictions.file[row]]),
        truth=int(predictions.truth[row]),
        prediction=int(predictions.prediction[row]),
        score=score,
        caption=predictions.file[row],
      )
    )
  return samples


def _sample_image(experiment: Experiment, position: int) -> np.ndarray:
  """The input of the model; above optical flow, the face."""
  image = experiment.evaluation_images.image(position)
  face_of = getattr(experiment.builder, "face", None)
  if face_of is None or not experiment.config.augment.flow:
    return image
  face = face_of(experiment.evaluation_images.index.file[position])
  if face is None:
    return image
  size = image.shape[0]
  return np.concatenate([cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA), image])
