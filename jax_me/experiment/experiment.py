"""One recipe on one dataset: what is compiled once and shared by all folds, and each fold's run."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jax_me.data import folds as division
from jax_me.data.device_images import place_images
from jax_me.data.image_store import ImageStore
from jax_me.data.pipeline import (
  ImageSource,
  TrainBatches,
  channel_statistics,
  eval_batches,
  train_batches,
)
from jax_me.datasets import catalog
from jax_me.evaluation.metrics import SCORE_NAMES, confusion_matrix, scores
from jax_me.evaluation.predictions import Predictions
from jax_me.experiment.initial_weights import REPORT_FILE, start_from
from jax_me.experiment.model_selection import Selection
from jax_me.models import model_folder
from jax_me.training import loop, sharding
from jax_me.training.evaluation_step import class_probabilities, evaluation_weights, make_classifier
from jax_me.training.logging.writers import open_writers
from jax_me.training.losses import balanced_class_weights
from jax_me.training.processes import is_writer, wait_for_all
from jax_me.training.program import make_program, model_arguments
from jax_me.training.reconstruction import RECONSTRUCTIONS_FOLDER, make_reconstructor, save_sheet
from jax_me.training.schedule import peak_learning_rate
from jax_me.training.state import Constants, State

RECONSTRUCTED = 8  # Faces in the sheet of reconstructions.


@dataclasses.dataclass
class Experiment:
  """Everything of a run but the folds' own weights and examples.

  Attributes:
    config: the checked recipe.
    read: images as training reads them, at `data.read_size`.
    shown: images at the model's size, as evaluation sees them.
    feed: `read`, on the devices where that pays.
    folds: the divisions to run.
    program: compiled initialisation and step.
  """

  config: ConfigDict
  builder: Any
  read: ImageStore
  shown: ImageStore
  feed: ImageSource
  folds: list[division.Fold]
  program: loop.Program
  graphdef: Any

  @property
  def pretraining(self) -> bool:
    return self.config.task == "mae"

  @property
  def selects(self) -> bool:
    """Whether held-out training subjects decide which evaluation's weights are tested."""
    return self.config.select == "train"

  @property
  def labels(self) -> list[str]:
    return list(self.read.index.label_names)

  @functools.cached_property
  def classifier(self):
    return make_classifier(self.graphdef)

  @functools.cached_property
  def reconstructor(self):
    return make_reconstructor(
      self.graphdef, self.program.mesh, mask_ratio=self.config.mae.mask_ratio
    )

  def model_arguments(self) -> dict[str, Any]:
    return model_arguments(self.config, len(self.labels))

  def constants(self, fold: division.Fold) -> Constants:
    """Statistics and schedule of a fold; from its training side only."""
    config = self.config
    mean, std = config.data.mean, config.data.std
    if not mean:
      mean, std = channel_statistics(self.read, fold.train)
    cadence = self.cadence(fold)
    warmup = min(config.optimizer.warmup_epochs * cadence.epoch, cadence.total / 4)
    peak = peak_learning_rate(
      config.optimizer.learning_rate, config.optimizer.base_learning_rate, config.batch_size
    )
    return Constants(
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

  def _class_weights(self, fold: division.Fold) -> tuple[float, ...]:
    """One weight a class, from the fold's training side when they are to balance it."""
    chosen = self.config.class_weights
    if chosen == "balanced":
      labels = self.read.index.label[fold.train]
      chosen = balanced_class_weights(labels, len(self.labels))
    return tuple(float(weight) for weight in chosen)

  @functools.cached_property
  def evaluation_batch(self) -> int:
    """The training batch, but no more than any fold has to judge; a multiple of the devices."""
    largest = max(len(side) for fold in self.folds for side in (fold.test, fold.validation))
    devices = self.program.mesh.size
    return math.ceil(max(1, min(self.config.batch_size, largest)) / devices) * devices

  def cadence(self, fold: division.Fold) -> loop.Cadence:
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

  def predict(
    self, fold: division.Fold, state: State, positions: np.ndarray | None = None
  ) -> Predictions:
    """Every test example of the fold exactly once, or those at other positions."""
    batches = eval_batches(
      self.feed if self.shown is self.read else self.shown,
      batch_size=self.evaluation_batch,
      indices=fold.test if positions is None else positions,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    positions, probabilities = class_probabilities(
      self.classifier, evaluation_weights(state), state["constants"], batches, self.program.mesh
    )
    return self.table(fold, positions, probabilities)

  def table(
    self, fold: division.Fold, positions: np.ndarray, probabilities: np.ndarray
  ) -> Predictions:
    """Class probabilities [N, C] of the examples at N positions, with all that is known of them."""
    index = self.shown.index
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

  def reconstruct(self, fold: division.Fold, state: State) -> dict[str, np.ndarray]:
    """Some faces masked and painted again: of the test side where there is one."""
    positions = fold.test if len(fold.test) else fold.train
    picks = positions[np.linspace(0, len(positions) - 1, RECONSTRUCTED).astype(int)]
    picks = np.unique(picks)
    return self.reconstructor(
      evaluation_weights(state),
      state["constants"],
      self.shown.images(picks),
      jax.random.key(self.config.seed),
    )

  def training_batches(self, fold: division.Fold) -> TrainBatches:
    """The endless batches of a fold's training side, from the beginning."""
    return train_batches(
      self.feed,
      batch_size=self.config.batch_size,
      seed=self.config.seed,
      indices=fold.train,
      balanced=self.config.data.balanced,
      workers=self.config.data.workers,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )

  def write_card(self, fold: division.Fold, constants: Constants, workdir: pathlib.Path) -> None:
    """Makes a fold's folder one that `jax_me.load` knows, before its weights are there."""
    card = model_folder.model_card(
      name=self.config.model.name,
      arguments=self.model_arguments(),
      labels=None if self.pretraining else self.labels,
      image_size=self.config.model.image_size,
      mean=list(constants.mean),
      std=list(constants.std),
      source={
        "trained_on": self.read.name,
        "options": dataclasses.asdict(self.builder.options),
        "fold": fold.name,
        "seed": self.config.seed,
        "init_from": self.config.init_from,
      },
    )
    if is_writer():
      workdir.mkdir(parents=True, exist_ok=True)
      model_folder.write_json(workdir / model_folder.MODEL_FILE, card)
      if self.config.checkpoint_dir:
        place = f"{self.config.checkpoint_dir.rstrip('/')}/{fold.name}"
        model_folder.place_checkpoints(workdir, place)
    wait_for_all("card")

  def train(self, fold: division.Fold, workdir: pathlib.Path) -> loop.Result:
    """Trains one fold in its own folder, or goes on with it."""
    constants = self.constants(fold)
    self.write_card(fold, constants, workdir)
    batches = self.training_batches(fold)
    try:
      return loop.train(
        self.program,
        batches=batches,
        constants=constants,
        cadence=self.cadence(fold),
        workdir=workdir,
        evaluator=self._choose_evaluator(fold, workdir),
        initialise=self.initialiser(workdir),
        keep_checkpoints=self.config.keep_checkpoints,
        make_writers=lambda step: open_writers(
          self.config.trackers, workdir, self.config.to_dict(), step
        ),
        description=fold.name,
      )
    finally:
      batches.close()

  def _choose_evaluator(self, fold: division.Fold, workdir: pathlib.Path) -> loop.Evaluator:
    if self.pretraining:
      return self._painter(fold, workdir)
    return self._selector(fold, workdir) if self.selects else self._evaluator(fold)

  def _evaluator(self, fold: division.Fold) -> loop.Evaluator:
    def evaluate(state: State, step: int) -> Mapping[str, float]:
      del step
      return logged_scores(self.predict(fold, state), "test")

    return evaluate

  def _selector(self, fold: division.Fold, workdir: pathlib.Path) -> loop.Evaluator:
    """Judges held-out training subjects and keeps the best weights; the test side stays unseen."""
    selection = Selection(workdir)

    def select(state: State, step: int) -> Mapping[str, float]:
      scored = logged_scores(self.predict(fold, state, fold.validation), "validation")
      selection.offer(evaluation_weights(state), step, scored["validation/uf1"])
      return scored

    return select

  def judged(self, state: State, workdir: pathlib.Path) -> State:
    """The state to test at the end of a fold: its last weights, or those that were selected.

    Raises:
      SavedModelError: weights are to be selected, and none are kept or they are damaged.
    """
    return Selection(workdir).apply(state) if self.selects else state

  def _painter(self, fold: division.Fold, workdir: pathlib.Path) -> loop.Evaluator:
    """Leaves a sheet of reconstructed faces, so that progress can be seen while it happens."""

    def paint(state: State, step: int) -> Mapping[str, float]:
      sheets = self.reconstruct(fold, state)
      if is_writer():
        save_sheet(workdir / RECONSTRUCTIONS_FOLDER / f"step_{step:08}.png", sheets)
      return {}

    return paint

  def initialiser(self, workdir: pathlib.Path) -> Callable[[State], State] | None:
    """Weights of `init_from` for a fresh state; what was taken goes into init_from.json."""
    if not self.config.init_from:
      return None

    def initialise(state: State) -> State:
      started, report = start_from(
        state,
        self.config.init_from,
        target_name=self.config.model.name,
        labels=None if self.pretraining else self.labels,
        head_std=self.config.head_std,
        seed=self.config.seed,
      )
      if is_writer():
        model_folder.write_json(workdir / REPORT_FILE, report)
      return started

    return initialise


def divide(config: ConfigDict, index: Any) -> list[division.Fold]:
  """The folds of `data.split`; with `data.fold` only that one.

  Raises:
    ValueError: `data.fold` is out of range, or the dataset cannot be divided so.
  """
  data = config.data
  if data.split == "none":
    made = [division.Fold("all", np.arange(len(index)), np.empty(0, np.int64))]
  else:
    made = division.make_folds(
      index,
      data.split,
      folds=data.folds,
      holdout_share=data.holdout,
      seed=config.seed,
      train=tuple(data.train_splits),
    )
  if config.select == "train":
    made = [
      division.with_validation(index, fold, config.select_holdout, seed=config.seed)
      for fold in made
    ]
  if data.fold < 0:
    return made
  if data.fold >= len(made):
    raise ValueError(f"data.fold={data.fold} does not exist: there are {len(made)}, from 0")
  return [made[data.fold]]


def prepare(config: ConfigDict) -> Experiment:
  """Builds the dataset where it is missing, divides it, and sets up model and step.

  Raises:
    ValueError: the dataset, the folds, the model or the optimiser cannot be as the recipe says.
  """
  builder = catalog.prepare(
    config.data.name,
    data_dir=config.data.data_dir,
    manual_dir=config.data.manual_dir or None,
    **config.data.options.to_dict(),
  )
  split = "+".join(sorted(builder.info.splits)) if config.data.split == "official" else "train"
  size = config.model.image_size
  read = ImageStore(builder, split, image_size=config.data.read_size or size)
  shown = read if read.image_size == size else ImageStore(builder, split, image_size=size)

  mesh = sharding.make_mesh(config.mesh.fsdp)
  program, graphdef = make_program(config, mesh, classes=len(read.index.label_names))
  return Experiment(
    config=config,
    builder=builder,
    read=read,
    shown=shown,
    feed=place_images(
      read,
      sharding.batch_sharding(mesh),
      choice=config.data.resident,
      budget=config.data.resident_mib * 2**20,
    ),
    folds=divide(config, read.index),
    program=program,
    graphdef=graphdef,
  )


def logged_scores(predictions: Predictions, side: str) -> dict[str, float]:
  """What an evaluation writes into the log, as "test/uf1"."""
  confusion = confusion_matrix(predictions.truth, predictions.prediction, len(predictions.labels))
  result = scores(confusion, predictions.labels)
  return {f"{side}/{name}": float(result[name]) for name in SCORE_NAMES}
