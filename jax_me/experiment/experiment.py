"""Experiment: one recipe on one dataset, with the objects that all folds share."""

import dataclasses
import functools
import logging
import math
import typing

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from jax_me.data.augment.augmentation import Augmentation
from jax_me.data.folds import Fold
from jax_me.data.image_store import ImageStore
from jax_me.data.pipeline import (
  ImageSource,
  TrainBatches,
  channel_statistics,
  eval_batches,
  train_batches,
)
from jax_me.data.random_crop import RandomCrop
from jax_me.evaluation.affect import AffectValues
from jax_me.evaluation.predictions import Predictions
from jax_me.image_preparation import ImagePreparation
from jax_me.models.classifier import Classifier, make_classifier, split_outputs
from jax_me.training.checkpoint import JsonValue
from jax_me.training.duration import DurationWarning, shortening_settings
from jax_me.training.evaluation_step import class_probabilities, evaluation_weights
from jax_me.training.fold_run import Cadence
from jax_me.training.losses import WEIGHT_RULES, balanced_class_weights
from jax_me.training.program import Program, model_arguments
from jax_me.training.reconstruction import Reconstructor, make_reconstructor
from jax_me.training.schedule import peak_learning_rate
from jax_me.training.state import RunParameters, State

if typing.TYPE_CHECKING:
  from jax_me.datasets.generation.base_builder import FaceDataset

logger = logging.getLogger(__name__)

RECONSTRUCTED = 8  # Number of faces in a sheet of reconstructions.


def crops_stored(config: ConfigDict) -> bool:
  """Whether random crops of the stored images are drawn while these are decoded."""
  return Augmentation(**config.augment.to_dict()).crops_stored


@dataclasses.dataclass
class Experiment:
  """Data, model and compiled functions that the folds of a run share.

  Attributes:
    config: the checked recipe.
    builder: of the dataset.
    training_images: at `data.read_size`.
    evaluation_images: at the model's input size.
    preparation: resize and crop of the evaluation images, and of those of the trained model.
    training_source: `training_images`, on the devices if they fit.
    folds: splits to run.
    program: jitted initialisation and training step.
    graphdef: of the model.
    duration: warns about a long run.
  """

  config: ConfigDict
  builder: "FaceDataset"
  training_images: ImageStore
  evaluation_images: ImageStore
  preparation: ImagePreparation
  training_source: ImageSource
  folds: list[Fold]
  program: Program
  graphdef: nnx.GraphDef[nnx.Module]
  duration: DurationWarning = dataclasses.field(default_factory=DurationWarning)

  @property
  def pretraining(self) -> bool:
    """Whether the task is masked-autoencoder pre-training."""
    return self.config.task == "mae"

  @property
  def selects(self) -> bool:
    """Whether the tested weights are those with the best score on held-out training subjects."""
    return self.config.select == "train"

  @property
  def labels(self) -> list[str]:
    """Class names in the order of the logits."""
    return list(self.training_images.index.label_names)

  @functools.cached_property
  def classifier(self) -> Classifier:
    """Jitted class probabilities."""
    return make_classifier(self.graphdef, self.config.affect_weight > 0)

  @functools.cached_property
  def reconstructor(self) -> Reconstructor:
    """Jitted reconstruction of masked images."""
    return make_reconstructor(
      self.graphdef, self.program.mesh, mask_ratio=self.config.mae.mask_ratio
    )

  def model_arguments(self) -> dict[str, JsonValue]:
    """Constructor keywords of the model."""
    return model_arguments(self.config, len(self.labels))

  def run_parameters(self, fold: Fold) -> RunParameters:
    """Image statistics and schedule of a fold, from its training examples only."""
    config = self.config
    mean, std = config.data.mean, config.data.std
    if not mean:
      mean, std = channel_statistics(
        self.training_images, fold.train, per_image=config.data.std_of == "images"
      )
    cadence, schedule = self.cadence(fold), config.optimizer
    warmup = round(schedule.warmup_epochs * cadence.epoch)
    if warmup >= cadence.total and schedule.schedule != "constant":
      logger.warning(
        "%s: the warm-up of %d steps does not end before the last of %d: the learning rate never "
        "reaches its peak; lower optimizer.warmup_epochs (%s) or train longer",
        *(fold.name, warmup, cadence.total, schedule.warmup_epochs),
      )
    peak = peak_learning_rate(
      schedule.learning_rate, schedule.base_learning_rate, config.batch_size
    )
    return RunParameters(
      seed=config.seed,
      mean=tuple(float(m) for m in mean),
      std=tuple(max(float(s), 1e-3) for s in std),
      peak=peak,
      minimum=schedule.min_learning_rate,
      warmup_steps=warmup,
      total_steps=round(schedule.cosine_epochs * cadence.epoch) or cadence.total,
      milestones=tuple(round(m * cadence.epoch) for m in schedule.milestones),
      warmup_start=schedule.warmup_learning_rate or None,
      cosine_start=0 if schedule.cosine_start == "run" else None,
      epoch_steps=cadence.epoch if schedule.interval == "epoch" else None,
      class_weights=self._class_weights(fold),
    )

  def _class_weights(self, fold: Fold) -> tuple[float, ...]:
    """One weight per class; a rule computes them from the fold's training examples."""
    weights = self.config.class_weights
    if isinstance(weights, str):
      labels = self.training_images.index.label[fold.train]
      weights = balanced_class_weights(labels, len(self.labels), WEIGHT_RULES[weights])
    return tuple(float(weight) for weight in weights)

  @functools.cached_property
  def evaluation_batch(self) -> int:
    """Batch size of evaluation: that of training, at most the largest fold; fills the devices."""
    largest = max(len(side) for fold in self.folds for side in (fold.test, fold.validation))
    devices = self.program.mesh.size
    return math.ceil(max(1, min(self.config.batch_size, largest)) / devices) * devices

  def expect_training(self, steps: int) -> None:
    """Announces the number of steps that all folds of the run still have to do."""
    platform = self.program.mesh.devices.flat[0].platform
    self.duration.steps = steps
    self.duration.remedy = shortening_settings(self.config, len(self.folds), platform)

  def cadence(self, fold: Fold) -> Cadence:
    """Number of steps of a fold, and the intervals of logging, evaluation and checkpoints."""
    config = self.config
    epoch = len(fold.train) / config.batch_size
    total = config.steps or max(1, round(config.epochs * epoch))
    return Cadence(
      total=total,
      log=config.log_steps,
      evaluate=round(config.evaluate_epochs * epoch),
      checkpoint=config.checkpoint_steps,
      epoch=epoch,
    )

  def predict(self, fold: Fold, state: State, positions: np.ndarray | None = None) -> Predictions:
    """Predictions of every test example of a fold.

    Args:
      fold: the fold.
      state: of the fold, with the weights to evaluate.
      positions: of other examples instead.

    Returns:
      one prediction per example.
    """
    batches = eval_batches(
      self.training_source
      if self.evaluation_images is self.training_images
      else self.evaluation_images,
      batch_size=self.evaluation_batch,
      indices=fold.test if positions is None else positions,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    found, outputs = class_probabilities(
      self.classifier,
      evaluation_weights(state),
      state["run_parameters"],
      batches,
      self.program.mesh,
    )
    return self.table_of(fold, found, *split_outputs(outputs, self.config.affect_weight > 0))

  def table_of(
    self,
    fold: Fold,
    positions: np.ndarray,
    scores: np.ndarray,
    affect: np.ndarray | None = None,
  ) -> Predictions:
    """The table of predictions for examples of a fold.

    Args:
      fold: the fold.
      positions: int [N], of the examples in the index.
      scores: [N, C], of the classes.
      affect: [N, 2], valence and arousal; None without.

    Returns:
      one prediction per example: the class with the highest score.
    """
    index = self.evaluation_images.index
    return Predictions(
      labels=index.label_names,
      truth=index.label[positions],
      prediction=scores.argmax(1),
      scores=scores,
      database=index.database[positions],
      subject=index.subject[positions],
      clip=index.clip[positions],
      file=index.file[positions],
      fold=[fold.name] * len(positions),
      affect=None
      if affect is None or index.affect is None
      else AffectValues(index.affect[positions], affect),
    )

  def reconstruct(self, fold: Fold, state: State) -> dict[str, np.ndarray]:
    """Reconstructions of some test examples, or of training examples if there is no test side."""
    positions = fold.test if len(fold.test) else fold.train
    chosen = positions[np.linspace(0, len(positions) - 1, RECONSTRUCTED).astype(int)]
    chosen = np.unique(chosen)
    return self.reconstructor(
      evaluation_weights(state),
      state["run_parameters"],
      self.evaluation_images.images(chosen),
      jax.random.key(self.config.seed),
    )

  def training_batches(self, fold: Fold) -> TrainBatches:
    """The endless training batches of a fold, from the first."""
    augment, crop = self.config.augment, None
    if crops_stored(self.config):
      crop = RandomCrop(
        self.config.seed,
        tuple(augment.crop_scale),
        tuple(augment.crop_ratio),
        augment.crop_interpolation,
      )
    return train_batches(
      self.training_source,
      batch_size=self.config.batch_size,
      seed=self.config.seed,
      indices=fold.train,
      balanced=self.config.data.balanced,
      crop=crop,
      workers=self.config.data.workers,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
