"""Training of one fold, and what it shares with folds that are trained in one program."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

from jax_me.data.folds import Fold
from jax_me.evaluation.metrics import SCORE_NAMES, confusion_matrix, scores
from jax_me.evaluation.predictions import Predictions
from jax_me.experiment.experiment import Experiment
from jax_me.experiment.initial_weights import REPORT_FILE, initialise_state
from jax_me.experiment.model_selection import Selection
from jax_me.models import model_folder
from jax_me.progress import Progress
from jax_me.training.batches import ImageBatches
from jax_me.training.evaluation_step import evaluation_weights
from jax_me.training.fold_run import FoldRun
from jax_me.training.graceful_shutdown import StopSignal
from jax_me.training.logging.metrics_log import Writer
from jax_me.training.logging.writers import open_writers
from jax_me.training.loop import Evaluator, train
from jax_me.training.processes import is_writer, wait_for_all
from jax_me.training.program import Program
from jax_me.training.reconstruction import RECONSTRUCTIONS_FOLDER, save_sheet
from jax_me.training.state import RunParameters, State


class Interrupted(Exception):
  """A signal stopped the training; the same command resumes it."""


def train_fold(experiment: Experiment, fold: Fold, workdir: pathlib.Path) -> State:
  """Trains a fold alone in its own folder, or resumes it.

  Args:
    experiment: of the fold.
    fold: the fold.
    workdir: its folder.

  Returns:
    the final state.

  Raises:
    Interrupted: a signal stopped the training; the state is saved.
    TrainingDiverged: the loss did not stay finite.
    CheckpointError: a checkpoint cannot be written or read.
  """
  run = make_run(experiment, fold, workdir)
  run = dataclasses.replace(
    run, open_writers=lambda step: open_trackers(experiment, fold, workdir, step)
  )
  iterator = experiment.training_batches(fold)
  progress = Progress(fold.name, run.cadence.total, unit="step", quiet=not is_writer())
  try:
    with StopSignal() as stop:
      result = train(
        experiment.program,
        [run],
        ImageBatches(iterator, experiment.program.mesh),
        folder=workdir,
        stop=stop,
        progress=progress,
        evaluator=make_evaluator(experiment, experiment.program, [fold], [workdir]),
        initialise=make_initialiser(experiment, workdir),
        keep_checkpoints=experiment.config.keep_checkpoints,
      )
  finally:
    progress.close()
    iterator.close()
  if result.interrupted:
    raise Interrupted(f"stopped at step {result.step}")
  return result.state


def make_run(experiment: Experiment, fold: Fold, workdir: pathlib.Path) -> FoldRun:
  """A fold as the training loop takes it, without trackers; writes its model.json.

  Args:
    experiment: of the fold.
    fold: the fold.
    workdir: its folder.

  Returns:
    the run.
  """
  run_parameters = experiment.run_parameters(fold)
  if is_writer():
    workdir.mkdir(parents=True, exist_ok=True)
    metadata = _model_metadata(experiment, fold, run_parameters)
    model_folder.write_json(workdir / model_folder.MODEL_FILE, metadata)
    if experiment.config.checkpoint_dir:
      location = f"{experiment.config.checkpoint_dir.rstrip('/')}/{fold.name}"
      model_folder.redirect_checkpoints(workdir, location)
  wait_for_all("metadata")
  return FoldRun(fold.name, workdir, run_parameters, experiment.cadence(fold))


def _model_metadata(
  experiment: Experiment, fold: Fold, run_parameters: RunParameters
) -> model_folder.ModelMetadata:
  """Content of model.json, with which `jax_me.load` can load the checkpoints of a fold."""
  config = experiment.config
  return model_folder.model_metadata(
    name=config.model.name,
    arguments=experiment.model_arguments(),
    labels=None if experiment.pretraining else experiment.labels,
    image_size=config.model.image_size,
    mean=list(run_parameters.mean),
    std=list(run_parameters.std),
    source={
      "trained_on": experiment.training_images.name,
      "options": dataclasses.asdict(experiment.builder.options),
      "fold": fold.name,
      "seed": config.seed,
      "init_from": config.init_from,
    },
  )


def open_trackers(
  experiment: Experiment, fold: Fold, workdir: pathlib.Path, step: int = 0
) -> list[Writer]:
  """Opens the trackers of the recipe for a fold.

  Args:
    experiment: of the fold.
    fold: the fold.
    workdir: its folder. The run is named <experiment>/<fold>, or <experiment> alone.
    step: from which the run resumes.

  Returns:
    a writer for each tracker.
  """
  folder, config = pathlib.Path(workdir).absolute(), experiment.config
  name = f"{folder.parent.name}/{folder.name}" if folder.name == fold.name else folder.name
  return open_writers(config.trackers, workdir, config.to_dict(), step, name)


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
      seed=config.seed,
    )
    if is_writer():
      model_folder.write_json(workdir / REPORT_FILE, report)
    return initialised

  return initialise


def make_evaluator(
  experiment: Experiment,
  program: Program,
  folds: Sequence[Fold],
  workdirs: Sequence[pathlib.Path],
) -> Evaluator:
  """Evaluation during the training of folds.

  It scores the test side; with model selection the validation side, whose best weights are kept.
  Pre-training has no scores, but saves a sheet of reconstructed faces.

  Args:
    experiment: of the folds.
    program: of the folds.
    folds: in the order of the program.
    workdirs: the folder of each fold.

  Returns:
    the evaluator.
  """

  def evaluate(state: State, step: int, number: int) -> dict[str, float]:
    fold, workdir = folds[number], workdirs[number]
    fold_state = program.fold_state(state, number)
    if experiment.pretraining:
      sheets = experiment.reconstruct(fold, fold_state)
      if is_writer():
        save_sheet(workdir / RECONSTRUCTIONS_FOLDER / f"step_{step:08}.png", sheets)
      return {}
    if not experiment.selects:
      return logged_scores(experiment.predict(fold, fold_state), "test")
    logged = logged_scores(experiment.predict(fold, fold_state, fold.validation), "validation")
    weights = evaluation_weights(fold_state)
    Selection(workdir).offer(weights, step, logged["validation/uf1"])
    return logged

  return evaluate


def logged_scores(predictions: Predictions, side: str) -> dict[str, float]:
  """Scores of an evaluation with their names in the log, such as "test/uf1"."""
  confusion = confusion_matrix(predictions.truth, predictions.prediction, len(predictions.labels))
  result = scores(confusion, predictions.labels)
  return {f"{side}/{name}": float(result[name]) for name in SCORE_NAMES}
