"""Experiment: one recipe on one dataset, with the objects that all folds share."""

import dataclasses
import functools
import math
import pathlib
import typing
from collections.abc import Callable, Mapping

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from jax_me.data.folds import Fold
from jax_me.data.image_store import ImageStore
from jax_me.data.pipeline import (
  ImageSource,
  TrainBatches,
  channel_statistics,
  eval_batches,
  train_batches,
)
from jax_me.evaluation.metrics import SCORE_NAMES, confusion_matrix, scores
from jax_me.evaluation.predictions import Predictions
from jax_me.experiment.initial_weights import REPORT_FILE, initialise_state
from jax_me.experiment.model_selection import Selection
from jax_me.models import model_folder
from jax_me.models.classifier import Classifier, make_classifier
from jax_me.training import loop
from jax_me.training.checkpoint import JsonValue
from jax_me.training.evaluation_step import class_probabilities, evaluation_weights
from jax_me.training.logging.writers import open_writers
from jax_me.training.losses import balanced_class_weights
from jax_me.training.processes import is_writer, wait_for_all
from jax_me.training.program import Program, model_arguments
from jax_me.training.reconstruction import (
  RECONSTRUCTIONS_FOLDER,
  Reconstructor,
  make_reconstructor,
  save_sheet,
)
from jax_me.training.schedule import peak_learning_rate
from jax_me.training.state import RunParameters, State

if typing.TYPE_CHECKING:
  from jax_me.datasets.generation.base_builder import FaceDataset

RECONSTRUCTED = 8  # Number of faces in a sheet of reconstructions.


@dataclasses.dataclass
class Experiment:
  """Data, model and compiled functions that the folds of a run share.

  Attributes:
    config: the checked recipe.
    builder: of the dataset.
    training_images: at `data.read_size`.
    evaluation_images: at the model's input size.
    training_source: `training_images`, on the devices if they fit.
    folds: splits to run.
    program: jitted initialisation and training step.
    graphdef: of the model.
  """

  config: ConfigDict
  builder: "FaceDataset"
  training_images: ImageStore
  evaluation_images: ImageStore
  training_source: ImageSource
  folds: list[Fold]
  program: Program
  graphdef: nnx.GraphDef[nnx.Module]

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
    return make_classifier(self.graphdef)

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
      mean, std = channel_statistics(self.training_images, fold.train)
    cadence = self.cadence(fold)
    warmup = min(config.optimizer.warmup_epochs * cadence.epoch, cadence.total / 4)
    peak = peak_learning_rate(
      config.optimizer.learning_rate, config.optimizer.base_learning_rate, config.batch_size
    )
    return RunParameters(
      seed=config.seed,
      mean=tuple(float(m) for m in mean),
      std=tuple(max(float(s), 1e-3) for s in std),
      peak=peak,
      minimum=config.optimizer.min_learning_rate,
      warmup_steps=round(warmup),
      total_steps=round(config.optimizer.cosine_epochs * cadence.epoch) or cadence.total,
      milestones=tuple(round(m * cadence.epoch) for m in config.optimizer.milestones),
      class_weights=self._class_weights(fold),
    )

  def _class_weights(self, fold: Fold) -> tuple[float, ...]:
    """One weight per class; "balanced" ones are computed from the fold's training examples."""
    weights = self.config.class_weights
    if weights == "balanced":
      labels = self.training_images.index.label[fold.train]
      weights = balanced_class_weights(labels, len(self.labels))
    return tuple(float(weight) for weight in weights)

  @functools.cached_property
  def evaluation_batch(self) -> int:
    """Batch size of evaluation: that of training, at most the largest fold; fills the devices."""
    largest = max(len(side) for fold in self.folds for side in (fold.test, fold.validation))
    devices = self.program.mesh.size
    return math.ceil(max(1, min(self.config.batch_size, largest)) / devices) * devices

  def cadence(self, fold: Fold) -> loop.Cadence:
    """Number of steps of a fold, and the intervals of logging, evaluation and checkpoints."""
    config = self.config
    epoch = len(fold.train) / config.batch_size
    total = config.steps or max(1, round(config.epochs * epoch))
    return loop.Cadence(
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
      state: with the weights to evaluate.
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
    positions, probabilities = class_probabilities(
      self.classifier,
      evaluation_weights(state),
      state["run_parameters"],
      batches,
      self.program.mesh,
    )
    return self.make_predictions(fold, positions, probabilities)

  def make_predictions(
    self, fold: Fold, positions: np.ndarray, probabilities: np.ndarray
  ) -> Predictions:
    """Class probabilities with the metadata of the examples.

    Args:
      fold: of the examples.
      positions: [N] positions of the examples in the dataset.
      probabilities: [N, C].

    Returns:
      the predictions.
    """
    index = self.evaluation_images.index
    return Predictions(
      labels=index.label_names,
      truth=index.label[positions],
      prediction=probabilities.argmax(1),
      scores=probabilities,
      database=index.database[positions],
      subject=index.subject[positions],
      clip=index.clip[positions],
      file=index.file[positions],
      fold=[fold.name] * len(positions),
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
    return train_batches(
      self.training_source,
      batch_size=self.config.batch_size,
      seed=self.config.seed,
      indices=fold.train,
      balanced=self.config.data.balanced,
      workers=self.config.data.workers,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )

  def write_metadata(
    self, fold: Fold, run_parameters: RunParameters, workdir: pathlib.Path
  ) -> None:
    """Writes model.json of a fold, so that `jax_me.load` can load its checkpoints.

    Args:
      fold: the fold.
      run_parameters: of the fold.
      workdir: folder of the fold.
    """
    metadata = model_folder.model_metadata(
      name=self.config.model.name,
      arguments=self.model_arguments(),
      labels=None if self.pretraining else self.labels,
      image_size=self.config.model.image_size,
      mean=list(run_parameters.mean),
      std=list(run_parameters.std),
      source={
        "trained_on": self.training_images.name,
        "options": dataclasses.asdict(self.builder.options),
        "fold": fold.name,
        "seed": self.config.seed,
        "init_from": self.config.init_from,
      },
    )
    if is_writer():
      workdir.mkdir(parents=True, exist_ok=True)
      model_folder.write_json(workdir / model_folder.MODEL_FILE, metadata)
      if self.config.checkpoint_dir:
        location = f"{self.config.checkpoint_dir.rstrip('/')}/{fold.name}"
        model_folder.redirect_checkpoints(workdir, location)
    wait_for_all("metadata")

  def train(self, fold: Fold, workdir: pathlib.Path) -> loop.TrainingResult:
    """Trains a fold in its own folder, or resumes it."""
    run_parameters = self.run_parameters(fold)
    self.write_metadata(fold, run_parameters, workdir)
    batches = self.training_batches(fold)
    try:
      return loop.train(
        self.program,
        batches=batches,
        run_parameters=run_parameters,
        cadence=self.cadence(fold),
        workdir=workdir,
        evaluator=self._choose_evaluator(fold, workdir),
        initialise=self.initialiser(workdir),
        keep_checkpoints=self.config.keep_checkpoints,
        make_writers=lambda step: open_writers(
          self.config.trackers, workdir, self.config.to_dict(), step, self.run_name(fold, workdir)
        ),
        description=fold.name,
      )
    finally:
      batches.close()

  def run_name(self, fold: Fold, workdir: pathlib.Path) -> str:
    """Display name of a fold's run in trackers: <experiment>/<fold>, or <experiment> alone."""
    folder = pathlib.Path(workdir).absolute()
    return f"{folder.parent.name}/{folder.name}" if folder.name == fold.name else folder.name

  def _choose_evaluator(self, fold: Fold, workdir: pathlib.Path) -> loop.Evaluator:
    if self.pretraining:
      return self._reconstruction_writer(fold, workdir)
    return self._selector(fold, workdir) if self.selects else self._evaluator(fold)

  def _evaluator(self, fold: Fold) -> loop.Evaluator:
    def evaluate(state: State, step: int) -> Mapping[str, float]:
      del step
      return logged_scores(self.predict(fold, state), "test")

    return evaluate

  def _selector(self, fold: Fold, workdir: pathlib.Path) -> loop.Evaluator:
    """Evaluates held-out training subjects and keeps the best weights; ignores the test side."""
    selection = Selection(workdir)

    def evaluate_and_select(state: State, step: int) -> Mapping[str, float]:
      logged = logged_scores(self.predict(fold, state, fold.validation), "validation")
      selection.offer(evaluation_weights(state), step, logged["validation/uf1"])
      return logged

    return evaluate_and_select

  def with_selected_weights(self, state: State, workdir: pathlib.Path) -> State:
    """The state to test at the end of a fold, with the last weights or the selected ones.

    Raises:
      SavedModelError: there are no selected weights, or they are damaged.
    """
    return Selection(workdir).apply(state) if self.selects else state

  def _reconstruction_writer(self, fold: Fold, workdir: pathlib.Path) -> loop.Evaluator:
    """Evaluator that writes a sheet of reconstructed faces."""

    def write_reconstructions(state: State, step: int) -> Mapping[str, float]:
      sheets = self.reconstruct(fold, state)
      if is_writer():
        save_sheet(workdir / RECONSTRUCTIONS_FOLDER / f"step_{step:08}.png", sheets)
      return {}

    return write_reconstructions

  def initialiser(self, workdir: pathlib.Path) -> Callable[[State], State] | None:
    """Function that loads the weights of `init_from`; None without. Writes init_from.json."""
    if not self.config.init_from:
      return None

    def initialise(state: State) -> State:
      initialised, report = initialise_state(
        state,
        self.config.init_from,
        target_name=self.config.model.name,
        labels=None if self.pretraining else self.labels,
        head_std=self.config.head_std,
        seed=self.config.seed,
      )
      if is_writer():
        model_folder.write_json(workdir / REPORT_FILE, report)
      return initialised

    return initialise


def logged_scores(predictions: Predictions, side: str) -> dict[str, float]:
  """Scores of an evaluation with their names in the log, such as "test/uf1"."""
  confusion = confusion_matrix(predictions.truth, predictions.prediction, len(predictions.labels))
  result = scores(confusion, predictions.labels)
  return {f"{side}/{name}": float(result[name]) for name in SCORE_NAMES}
