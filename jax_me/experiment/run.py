"""Complete run of a recipe: trains or resumes all folds, pools predictions, writes the report."""

import contextlib
import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jax_me.command_errors import INTERRUPTED, describe_error
from jax_me.data.folds import Fold, describe_folds
from jax_me.evaluation.predictions import PREDICTIONS_FILE, Predictions, concatenate
from jax_me.evaluation.summary import ScoreSummary, summarize
from jax_me.experiment.closing_lines import closing_lines
from jax_me.experiment.experiment import Experiment
from jax_me.experiment.fold_batch import train_fold_batch
from jax_me.experiment.fold_training import FoldTraining, Interrupted
from jax_me.experiment.initial_weights import open_model
from jax_me.experiment.model_evaluation import name_classes, states_for, use_model
from jax_me.experiment.preparation import final_fold, prepare
from jax_me.experiment.provenance import provenance
from jax_me.experiment.report_samples import sample_predictions
from jax_me.experiment.resumption import (
  CONFIG_FILE,
  Changes,
  apply_changes,
  changes_of,
  check_changes,
  fold_folder,
)
from jax_me.manifest import MANIFEST_FILE
from jax_me.models import model_folder
from jax_me.models.ensemble import RUN_FILE, write_ensemble
from jax_me.models.model_folder import SavedModel
from jax_me.models.saved_model import FINAL
from jax_me.reports.run_report import write_report
from jax_me.reports.saved_report import SavedReport
from jax_me.reports.score_text import describe_result
from jax_me.run_folder import is_finished, start_results, verify_results, writing_results
from jax_me.training import settings
from jax_me.training.duration import describe_work
from jax_me.training.logging.history import read_history
from jax_me.training.logging.metrics_log import METRICS_FILE
from jax_me.training.loop import TrainingDiverged
from jax_me.training.processes import (
  broadcast_from_writer,
  hold_folder,
  is_writer,
  wait_for_all,
)
from jax_me.training.state import State

NO_SCORES = (
  "There are no scores: the model was trained on all examples (data.split=none), so none are left "
  "to test it on. To know how good it is on unseen people, train it with a split too."
)


def run_experiment(
  config: ConfigDict, *, workdir: str, mode: str = "train", labels: list[str] | None = None
) -> int:
  """Runs a recipe up to its report, or resumes an interrupted run.

  Args:
    config: the recipe.
    workdir: folder of the run, with a subfolder for each of several folds.
    mode: "train"; or "eval" to evaluate without training: the newest checkpoints of the run, or in
      a folder without a run the model of `init_from`.
    labels: names of the classes of that model, in place of its own.

  Returns:
    exit code: 0 finished, 1 failed, 2 invalid settings or data, 130 interrupted.
  """
  folder = pathlib.Path(workdir)
  with contextlib.ExitStack() as resources:
    try:
      settings.check(config)
      _check_ownership(folder, config, mode)
      resources.enter_context(hold_folder(folder))
    except (ValueError, OSError) as error:
      return _report_error(error, code=2)
    try:
      return _run_in_folder(config, folder, mode, labels)
    except Interrupted as stopped:
      _print_line(f"{stopped}; the same command resumes the run")
      return INTERRUPTED
    except (TrainingDiverged, ValueError, OSError) as error:
      return _report_error(error, code=1)


def _run_in_folder(
  config: ConfigDict, folder: pathlib.Path, mode: str, labels: list[str] | None
) -> int:
  started = time.monotonic()
  try:
    # Again, as another run may have ended since.
    changes = _check_ownership(folder, config, mode)
    saved = _given_model(config, folder, labels) if mode == "eval" else None
    if saved is not None:
      use_model(config, saved)
    experiment = prepare(config, saved)
    given = None if saved is None else states_for(experiment, saved)
    if mode == "train":
      apply_changes(experiment, folder, changes, _print_line)
      if changes or not (folder / CONFIG_FILE).exists():
        _lock_settings(folder, config)
  except (ValueError, OSError) as error:
    return _report_error(error, code=2)
  _print_line(_describe(experiment))
  if saved is not None and saved.source.get("trained_on") == experiment.training_images.name:
    _print_line("note: the model was trained on this dataset; its examples may be among the tested")
  if (mode == "train" or saved is not None) and is_writer():
    model_folder.write_json(folder / RUN_FILE, provenance(config.to_dict()))

  results, state = _finish_folds(experiment, folder, mode, given)
  sheets = None
  if experiment.pretraining:
    assert state is not None
    sheets = experiment.reconstruct(experiment.folds[0], state)
  if is_writer():
    predictions = _pool_folds(experiment, folder, results)
    details = {
      **_run_details(experiment, saved),
      "wall time of this call": f"{time.monotonic() - started:.0f} s",
    }
    page, summary = _write_report(experiment, folder, predictions, sheets, details)
    if summary is not None:
      _print_line(describe_result(summary))
    _print_line(f"report: {page}")
  wait_for_all("report")
  if mode == "eval":
    return 0
  if config.final == "all":
    _train_final(experiment, folder)
  if is_writer():
    for line in closing_lines(experiment, folder):
      _print_line(line)
  return 0


def _given_model(
  config: ConfigDict, folder: pathlib.Path, labels: list[str] | None
) -> SavedModel | None:
  """The model of `init_from` to evaluate; None in the folder of a run, whose own it is then."""
  if (folder / CONFIG_FILE).exists():
    if labels:
      raise ValueError(f"{folder} holds a run, which names its classes; --labels is not for it")
    return None
  saved = open_model(config.init_from, config.model.name)
  return name_classes(saved, labels) if labels else saved


def _train_final(experiment: Experiment, folder: pathlib.Path) -> None:
  """Trains or resumes the final model, with the settings of the folds."""
  fold = final_fold(experiment.config, experiment.training_images.index)
  training = FoldTraining(experiment, fold, folder / FINAL)
  if broadcast_from_writer(training.has_model):
    with model_folder.checked_folder(training.workdir):
      pass
    _print_line("final model: finished earlier")
    return
  held_out = f", {len(fold.validation)} held out to select the weights" * bool(len(fold.validation))
  _print_line(
    f"final model: {len(fold.train)} examples{held_out}, "
    f"{experiment.cadence(fold).total} steps; it has no test side and no scores"
  )
  training.save_model(training.train())


def _finish_folds(
  experiment: Experiment, folder: pathlib.Path, mode: str, given: list[State] | None
) -> tuple[list[Predictions], State | None]:
  """Trains or only evaluates all folds, with given models if there are any.

  Returns:
    the test predictions of every fold that has a test side, and the state of the last one, unless
    finished earlier.
  """
  results: list[Predictions] = []
  state: State | None = None
  if mode == "train":
    _announce_work(experiment, folder)
  together = train_fold_batch(experiment, folder, _print_line) if mode == "train" else frozenset()
  rest = [f for f in experiment.folds if not _has_predictions(experiment, folder, f)]
  experiment.expect_training(sum(experiment.cadence(fold).total for fold in rest))
  for fold in experiment.folds:
    training = FoldTraining(experiment, fold, fold_folder(experiment, folder, fold))
    finished = training.workdir / PREDICTIONS_FILE
    tests = not experiment.pretraining and len(fold.test) > 0
    if broadcast_from_writer(mode == "train" and tests and is_finished(finished)):
      verify_results(training.workdir, PREDICTIONS_FILE, METRICS_FILE)
      results.append(Predictions.load(finished))
      training.remove_checkpoints()
      if fold.name not in together:
        _print_line(f"{fold.name}: finished earlier")
      continue
    if mode == "train":
      state = training.train()
      training.save_model(state)
    elif given is None:
      state = training.read_state()
    if tests:
      if given is not None:
        tested = training.test_mean(given)
      else:
        assert state is not None
        tested = training.test(state)
      if is_writer():
        training.save_predictions(tested)
      results.append(tested)
      if mode == "train":
        training.remove_checkpoints()
  if is_writer() and mode == "train" and len(experiment.folds) > 1:
    names = [fold.name for fold in experiment.folds]
    if all((folder / name / MANIFEST_FILE).exists() for name in names):
      write_ensemble(folder, names)
  return results, state


def _announce_work(experiment: Experiment, folder: pathlib.Path) -> None:
  """Says how much is to be trained, before anything is compiled."""
  config = experiment.config
  pending = [f for f in experiment.folds if not _has_predictions(experiment, folder, f)]
  final = final_fold(config, experiment.training_images.index) if config.final == "all" else None
  steps = 0 if final is None else experiment.cadence(final).total
  if pending:
    counts = [experiment.cadence(fold).total for fold in pending]
    _print_line(describe_work(counts, config.batch_size, final=steps))


def _has_predictions(experiment: Experiment, folder: pathlib.Path, fold: Fold) -> bool:
  return is_finished(fold_folder(experiment, folder, fold) / PREDICTIONS_FILE)


def _check_ownership(folder: pathlib.Path, config: ConfigDict, mode: str) -> Changes:
  """The changes of the settings of a run since it was started.

  Raises:
    ValueError: they may not change, or there is nothing to evaluate.
  """
  path = folder / CONFIG_FILE
  if not path.exists():
    if mode == "eval" and not config.init_from:
      raise ValueError(
        f"{folder} holds no run to evaluate ({CONFIG_FILE} is missing). To evaluate another model, "
        "give it with --checkpoint"
      )
    return {}
  changed = changes_of(folder, config)
  if mode == "eval" and "init_from" in changed:
    raise ValueError(
      f"{folder} holds a run, whose own checkpoints would be evaluated. Use another --workdir to "
      f"evaluate {config.init_from}"
    )
  if mode == "train":
    check_changes(folder, config, changed)
  return changed


def _lock_settings(folder: pathlib.Path, config: ConfigDict) -> None:
  """Writes the settings into a workdir, which then accepts only runs with the same ones."""
  if is_writer():
    if not (folder / CONFIG_FILE).exists():
      start_results(folder)
    model_folder.write_json(folder / CONFIG_FILE, config.to_dict())


def _pool_folds(
  experiment: Experiment, folder: pathlib.Path, results: list[Predictions]
) -> Predictions | None:
  """The predictions of all folds, saved in the folder of the run; None when nothing was tested."""
  if not results:
    return None
  predictions = concatenate(results)
  if fold_folder(experiment, folder, experiment.folds[0]) != folder:
    with writing_results(folder, PREDICTIONS_FILE):
      predictions.save(folder / PREDICTIONS_FILE)
  return predictions


def _write_report(
  experiment: Experiment,
  folder: pathlib.Path,
  predictions: Predictions | None,
  sheets: dict[str, np.ndarray] | None,
  details: dict[str, object],
) -> tuple[pathlib.Path, ScoreSummary | None]:
  config = experiment.config
  several = len(experiment.folds) > 1
  history: list[dict[str, Any]] = []
  for fold in experiment.folds:
    rows = read_history(fold_folder(experiment, folder, fold) / METRICS_FILE)
    history += [{**row, "fold": fold.name} for row in rows] if several else rows
  if experiment.pretraining:
    report = SavedReport(
      title=f"{config.model.name} pre-trained on {config.data.name}",
      history=history,
      reconstructions=sheets or {},
      details=details,
    )
    return write_report(folder, report), None
  if predictions is None:
    report = SavedReport(
      title=f"{config.model.name} on {config.data.name}",
      history=history,
      details=details,
      note=NO_SCORES,
    )
    return write_report(folder, report), None
  summary = summarize(predictions)
  report = SavedReport(
    title=f"{config.model.name} on {config.data.name}",
    predictions=predictions,
    history=history,
    samples=sample_predictions(experiment, predictions),
    details=details,
  )
  return write_report(folder, report, summary), summary


def _run_details(experiment: Experiment, saved: SavedModel | None) -> dict[str, object]:
  config, fold = experiment.config, experiment.folds[0]
  shapes = jax.eval_shape(experiment.program.build, jax.random.key(0))["params"]
  parameters = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
  devices = jax.devices()
  index = experiment.training_images.index
  return {
    "model": config.model.name,
    "trained parameters": f"{parameters:,}",
    "input": f"{config.model.image_size} x {config.model.image_size} pixels",
    "dataset": experiment.training_images.name,
    "examples": len(index),
    "subjects": len(set(index.subject) - {""}) or "unknown",
    "split": f"{config.data.split}, {len(experiment.folds)} fold(s)",
    "tested weights": _tested_weights(config, saved),
    **({"steps": experiment.cadence(fold).total} if saved is None else {}),
    "batch size": config.batch_size,
    "precision": config.precision,
    "started from": config.init_from or "random weights",
    "seed": config.seed,
    "devices": f"{len(devices)} x {devices[0].device_kind}",
  }


def _tested_weights(config: ConfigDict, saved: SavedModel | None) -> str:
  if saved is not None:
    return f"those of {config.init_from}, trained on {saved.source.get('trained_on', 'other data')}"
  if config.select == "train":
    share = f"{100 * config.select_holdout:g}% of the training subjects"
    return f"those with the best UF1 on {share}, who were kept from training"
  return "those of the last step"


def _describe(experiment: Experiment) -> str:
  index = experiment.training_images.index
  counts = ", ".join(f"{name} {count}" for name, count in index.class_counts().items())
  subjects = len(set(index.subject) - {""})
  return (
    f"{experiment.config.model.name} on {experiment.training_images.name}: "
    f"{len(index)} examples of {subjects or 'unknown'} subjects ({counts}); "
    f"{len(experiment.folds)} fold(s) by {experiment.config.data.split!r}\n"
    f"{experiment.config.data.split}: {describe_folds(index, experiment.folds)}"
  )


def _print_line(line: str) -> None:
  if is_writer():
    print(line, flush=True)


def _report_error(error: Exception, code: int) -> int:
  process = f" (process {jax.process_index()})" if jax.process_count() > 1 else ""
  print(f"run.py{process}: {describe_error(error)}", file=sys.stderr, flush=True)
  return code
