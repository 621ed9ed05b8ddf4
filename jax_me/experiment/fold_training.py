"""One fold of an experiment in its own folder: training, evaluation, test, logs."""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Sequence

import jax
import numpy as np

from jax_me.data.folds import Fold
from jax_me.evaluation.affect import AffectValues
from jax_me.evaluation.metrics import SCORE_NAMES, confusion_matrix, scores
from jax_me.evaluation.predictions import PREDICTIONS_FILE, Predictions
from jax_me.experiment.experiment import Experiment
from jax_me.experiment.initial_weights import REPORT_FILE, initialise_state
from jax_me.experiment.model_selection import Selection
from jax_me.manifest import MANIFEST_FILE
from jax_me.models import model_folder
from jax_me.models.weight_files import ORBAX, SAFETENSORS, write_weights
from jax_me.progress import Progress
from jax_me.run_folder import start_results, writing_results
from jax_me.training.batches import ImageBatches
from jax_me.training.checkpoint import Checkpoints, JsonValue
from jax_me.training.evaluation_step import evaluation_weights
from jax_me.training.fold_chunks import CHECKPOINT_BYTES, state_bytes
from jax_me.training.fold_run import FoldRun
from jax_me.training.graceful_shutdown import StopSignal
from jax_me.training.logging.metrics_log import METRICS_FILE, Writer
from jax_me.training.logging.writers import open_writers
from jax_me.training.loop import train
from jax_me.training.processes import fetch, is_writer, wait_for_all
from jax_me.training.reconstruction import RECONSTRUCTIONS_FOLDER, save_sheet
from jax_me.training.state import RunParameters, State


class Interrupted(Exception):
  """A signal stopped the training; the same command resumes it."""


@dataclasses.dataclass
class FoldTraining:
  """One fold of an experiment, and its folder.

  Attributes:
    experiment: of the fold.
    fold: the fold.
    workdir: its folder.
    last_evaluation: the test predictions of the last step, if it was trained in this process.
  """

  experiment: Experiment
  fold: Fold
  workdir: pathlib.Path
  last_evaluation: Predictions | None = None

  def train(self) -> State:
    """Trains the fold alone, or resumes it, and returns the final state.

    Raises:
      Interrupted: a signal stopped the training; the state is saved.
      TrainingDiverged: the loss did not stay finite.
      CheckpointError: a checkpoint cannot be written or read.
    """
    experiment = self.experiment
    run = dataclasses.replace(self.make_run(), open_writers=self.open_trackers)
    iterator = experiment.training_batches(self.fold)
    progress = Progress(run.name, run.cadence.total, unit="step", quiet=not is_writer())
    try:
      with StopSignal() as stop:
        result = train(
          experiment.program,
          [run],
          ImageBatches(iterator, experiment.program.mesh),
          folder=self.workdir,
          stop=stop,
          progress=progress,
          initialise=make_initialiser(experiment, self.workdir),
          keep_checkpoints=experiment.config.keep_checkpoints,
          duration=experiment.duration,
        )
    finally:
      progress.close()
      iterator.close()
    if result.interrupted:
      raise Interrupted(f"stopped at step {result.step}")
    self.finish_metrics()
    return result.state

  def make_run(self) -> FoldRun:
    """The fold as the training loop takes it, without trackers; writes its model.json."""
    run_parameters = self.experiment.run_parameters(self.fold)
    checkpoint_dir = self.experiment.config.checkpoint_dir
    if is_writer():
      start_results(self.workdir)
      metadata = self._model_metadata(run_parameters)
      model_folder.write_json(self.workdir / model_folder.MODEL_FILE, metadata)
      if checkpoint_dir:
        location = f"{checkpoint_dir.rstrip('/')}/{self.fold.name}"
        model_folder.redirect_checkpoints(self.workdir, location)
    wait_for_all("metadata")
    return FoldRun(
      name=self.fold.name,
      workdir=self.workdir,
      run_parameters=run_parameters,
      cadence=self.experiment.cadence(self.fold),
      evaluate=self.evaluate if self._is_evaluated else None,
    )

  @property
  def _is_evaluated(self) -> bool:
    """Whether there is something to evaluate during training."""
    experiment = self.experiment
    return experiment.pretraining or experiment.selects or len(self.fold.test) > 0

  def _model_metadata(self, run_parameters: RunParameters) -> dict[str, JsonValue]:
    """Content of model.json, with which `jax_me.load` can load the checkpoints."""
    experiment, config = self.experiment, self.experiment.config
    return model_folder.metadata_document(
      name=config.model.name,
      arguments=experiment.model_arguments(),
      labels=None if experiment.pretraining else experiment.labels,
      image_size=config.model.image_size,
      mean=list(run_parameters.mean),
      std=list(run_parameters.std),
      affect=config.affect_weight > 0,
      preparation=experiment.preparation,
      source={
        "trained_on": experiment.training_images.name,
        "options": dataclasses.asdict(experiment.builder.options),
        "fold": self.fold.name,
        "seed": config.seed,
        "init_from": config.init_from,
      },
    )

  def open_trackers(self, step: int = 0) -> list[Writer]:
    """Opens the recipe's trackers, to resume from a step.

    The run is named <experiment>/<fold>, or <experiment> alone.
    """
    folder, config = self.workdir.absolute(), self.experiment.config
    name = f"{folder.parent.name}/{folder.name}" if folder.name == self.fold.name else folder.name
    return open_writers(config.trackers, self.workdir, config.to_dict(), step, name)

  def evaluate(self, state: State, step: int) -> dict[str, float]:
    """Evaluation during training: scores of the test side.

    With model selection they are those of the validation side, whose best weights are kept.
    Pre-training has no scores, but saves a sheet of reconstructed faces.
    """
    experiment = self.experiment
    if experiment.pretraining:
      sheets = experiment.reconstruct(self.fold, state)
      if is_writer():
        save_sheet(self.workdir / RECONSTRUCTIONS_FOLDER / f"step_{step:08}.png", sheets)
      return {}
    if not experiment.selects:
      predictions = experiment.predict(self.fold, state)
      if step == experiment.cadence(self.fold).total:
        self.last_evaluation = predictions
      return logged_scores(predictions, "test")
    predictions = experiment.predict(self.fold, state, self.fold.validation)
    logged = logged_scores(predictions, "validation")
    Selection(self.workdir).offer(evaluation_weights(state), step, logged["validation/uf1"])
    return logged

  def test(self, state: State) -> Predictions:
    """Predictions of every test example, with the weights of the state or the selected ones.

    Raises:
      SavedModelError: there are no selected weights, or they are damaged.
    """
    if self.last_evaluation is not None:
      return self.last_evaluation
    if self.experiment.selects:
      state = Selection(self.workdir).apply(state)
    return self.experiment.predict(self.fold, state)

  @property
  def _is_one_of_several(self) -> bool:
    """Whether the fold is tested beside others of the same run."""
    experiment = self.experiment
    several = len(experiment.folds) > 1 or experiment.config.data.fold >= 0
    return several and not experiment.pretraining and len(self.fold.test) > 0

  @property
  def keeps_checkpoint(self) -> bool:
    """Whether the last checkpoint stays when the fold is finished, so that it can be extended."""
    experiment, choice = self.experiment, self.experiment.config.folds.checkpoints
    every = len(experiment.folds) * state_bytes(experiment.program)
    return choice == "on" or (choice == "auto" and every <= CHECKPOINT_BYTES)

  def save_checkpoint(self, state: State) -> None:
    """Saves the state of the last step as if the fold had been trained alone.

    Raises:
      CheckpointError: it cannot be written.
    """
    batches = self.experiment.training_batches(self.fold)
    batches.examples_seen = int(jax.device_get(state["step"])) * batches.batch_size
    checkpoints = Checkpoints(self.workdir, keep=1)
    checkpoints.save(state, batches.get_state())
    checkpoints.wait()
    checkpoints.close()

  def remove_checkpoints(self) -> None:
    """Removes the checkpoints that a fold of several no longer needs when it is finished."""
    if not is_writer() or not self._is_one_of_several:
      return
    folder = model_folder.checkpoints_folder(self.workdir)
    if self.keeps_checkpoint:
      for step in model_folder.checkpoint_steps(self.workdir)[:-1]:
        (folder / str(step)).rmtree()
      return
    removed = folder.parent / f".{folder.name}.removed"
    if removed.is_dir():  # Of a run that was killed during the removal.
      removed.rmtree()
    if folder.is_dir():
      # In one step: a part of a checkpoint would be taken for one to go on from.
      folder.rename(removed)
      removed.rmtree()
    if self.has_model:  # With a copy of the selected weights.
      shutil.rmtree(self.workdir / model_folder.SELECTED_FOLDER, ignore_errors=True)

  def finish_metrics(self) -> None:
    """Adds the checksum of the metrics when the training has ended."""
    if is_writer():
      with writing_results(self.workdir, METRICS_FILE):
        pass

  def save_predictions(self, predictions: Predictions) -> None:
    """Writes predictions.csv, which marks the fold as finished."""
    with writing_results(self.workdir, PREDICTIONS_FILE):
      predictions.save(self.workdir / PREDICTIONS_FILE)

  def test_mean(self, states: Sequence[State]) -> Predictions:
    """Predictions of every test example by the mean of the probabilities of given models."""
    predictions = [self.experiment.predict(self.fold, state) for state in states]
    if len(predictions) == 1:
      return predictions[0]
    scores = np.mean([np.asarray(each.scores) for each in predictions], axis=0)
    values = [each.affect for each in predictions if each.affect is not None]
    affect = None
    if values:
      mean = np.mean([each.prediction for each in values], axis=0)
      affect = AffectValues(values[0].truth, mean)
    return dataclasses.replace(
      predictions[0], scores=scores, prediction=scores.argmax(1), affect=affect
    )

  @property
  def has_model(self) -> bool:
    """Whether the model folder is finished."""
    return (self.workdir / MANIFEST_FILE).exists()

  def read_state(self) -> State:
    """The saved weights, or those of the newest checkpoint, with the run parameters.

    Raises:
      SavedModelError: there are no weights, or they are damaged.
    """
    program = self.experiment.program
    abstract = program.abstract_state()
    weights = {"params": abstract["params"], "model_state": abstract["model_state"]}
    with model_folder.checked_folder(self.workdir):
      weights = model_folder.read_weights(self.workdir, weights)
    return self.state_with(weights)

  def save_model(self, state: State) -> None:
    """Completes the model folder of the finished fold with the weights that are tested.

    Does nothing when the recipe keeps no weights of tested folds. All processes must call it.

    Raises:
      SavedModelError: there are no selected weights, or they are damaged.
    """
    if not self.experiment.config.folds.weights and len(self.fold.test):
      return
    if self.experiment.selects:
      state = Selection(self.workdir).apply(state)
    weights = fetch(evaluation_weights(state), self.experiment.program.mesh)
    if is_writer():
      # With several processes, Orbax would need all of them, and a folder that all can write.
      form = ORBAX if jax.process_count() == 1 else SAFETENSORS
      write_weights(self.workdir, weights, form)
      model_folder.finish_model_folder(self.workdir, weights)
    wait_for_all("model folder")

  def state_with(self, weights: model_folder.ArrayTree) -> State:
    """A state for evaluation: weights {"params", "model_state"}, and the fold's run parameters."""
    run_parameters = self.experiment.run_parameters(self.fold)
    return {
      **weights,
      "run_parameters": self.experiment.program.put_run_parameters(run_parameters),
    }


def make_initialiser(
  experiment: Experiment, workdir: pathlib.Path
) -> Callable[[State], State] | None:
  """Function that loads the weights of `init_from`; None without. Writes init_from.json."""
  config = experiment.config
  if not config.init_from:
    return None

  def initialise(state: State) -> State:
    initialised, report = initialise_state(
      state,
      config.init_from,
      target_name=config.model.name,
      labels=None if experiment.pretraining else experiment.labels,
      head_std=config.head_std,
      head_init=config.head_init,
      seed=config.seed,
    )
    if is_writer():
      model_folder.write_json(workdir / REPORT_FILE, report)
    return initialised

  return initialise


def logged_scores(predictions: Predictions, side: str) -> dict[str, float]:
  """Scores of an evaluation with their names in the log, such as "test/uf1"."""
  confusion = confusion_matrix(predictions.truth, predictions.prediction, len(predictions.labels))
  result = scores(confusion, predictions.labels)
  logged = {f"{side}/{name}": float(result[name]) for name in SCORE_NAMES}
  if predictions.affect is not None:
    logged |= {f"{side}/ccc_{name}": ccc for name, ccc in predictions.affect.concordance().items()}
  return logged
