"""A run from start to report: every fold trained or resumed, predictions pooled, pictures drawn."""

import pathlib
import sys
import time
from typing import Any

import cv2
import jax
import numpy as np
from ml_collections import ConfigDict

from jax_me.data.folds import Fold
from jax_me.evaluation.predictions import PREDICTIONS_FILE, Predictions, concatenate
from jax_me.experiment.experiment import Experiment, prepare
from jax_me.experiment.fold_batch import Together, train_together
from jax_me.experiment.provenance import circumstances
from jax_me.models import model_folder
from jax_me.reports.report import write_report
from jax_me.reports.sample_sections import choose_samples
from jax_me.training import settings
from jax_me.training.checkpoint import Checkpoints, changed_settings
from jax_me.training.logging.history import read_history
from jax_me.training.logging.metrics_log import METRICS_FILE
from jax_me.training.loop import TrainingDiverged
from jax_me.training.processes import agree, is_writer, wait_for_all
from jax_me.training.state import State, abstract_state

CONFIG_FILE = "config.json"
RUN_FILE = "run.json"

# A change of these leaves the trained weights what they are.
FREE_SETTINGS = (
  "data.data_dir",
  "data.manual_dir",
  "data.workers",
  "data.fold",
  "folds.parallel",
  "folds.chunk",
  "folds.weights",
  "log_steps",
)

INTERRUPTED = 130  # Exit code of a run stopped by a signal, as shells have it.


def run_experiment(config: ConfigDict, *, workdir: str, mode: str = "train") -> int:
  """Runs a recipe to its report; the same call again goes on where it stopped.

  Args:
    config: the recipe.
    workdir: folder of the run. Several folds get a folder each inside it.
    mode: "train", or "eval" to judge the newest checkpoints without training.

  Returns:
    Exit code: 0 done, 1 stopped by a failure, 2 wrong settings or data, 130 interrupted.
  """
  folder = pathlib.Path(workdir)
  started = time.monotonic()
  try:
    settings.check(config)
    _check_claim(folder, config, mode)
    experiment = prepare(config)
    _claim(folder, config)
  except (ValueError, OSError) as error:
    return _failed(error, code=2)
  _say(_plan(experiment))
  if mode == "train" and is_writer():
    model_folder.write_json(folder / RUN_FILE, circumstances(config.to_dict()))

  together = Together()
  if mode == "train":
    try:
      together = train_together(experiment, folder, _say)
    except (ValueError, OSError) as error:
      return _failed(error, code=1)
    if together.interrupted:
      _say("stopped; the same command goes on from there")
      return INTERRUPTED

  results: list[Predictions] = []
  state: State | None = None
  for fold in experiment.folds:
    home = folder if len(experiment.folds) == 1 and config.data.fold < 0 else folder / fold.name
    finished = home / PREDICTIONS_FILE
    done = agree(mode == "train" and finished.exists() and not experiment.pretraining)
    if done:
      results.append(Predictions.load(finished))
      if fold.name not in together.finished:
        _say(f"{fold.name}: finished before")
      continue
    try:
      if mode == "train":
        result = experiment.train(fold, home)
        state = result.state
        if result.interrupted:
          _say(f"stopped at step {result.step}; the same command goes on from there")
          return INTERRUPTED
      else:
        state = restore(experiment, fold, home)
      state = experiment.judged(state, home)
    except (TrainingDiverged, ValueError, OSError) as error:
      return _failed(error, code=1)
    if not experiment.pretraining:
      predictions = experiment.predict(fold, state)
      if is_writer():
        predictions.save(finished)
      results.append(predictions)

  sheets = None
  if experiment.pretraining:
    assert state is not None
    sheets = experiment.reconstruct(experiment.folds[0], state)
  if is_writer():
    page = _report(experiment, folder, results, sheets, time.monotonic() - started)
    _say(f"report: {page}")
  wait_for_all("report")
  return 0


def restore(experiment: Experiment, fold: Fold, home: pathlib.Path) -> State:
  """The weights of a fold, for evaluation: its newest checkpoint, or those kept without one.

  Raises:
    CheckpointError: there is none, or it is damaged.
    SavedModelError: the fold was trained together with others, and its weights are damaged.
  """
  if (
    not model_folder.checkpoints_folder(home).exists() and (home / model_folder.MODEL_FILE).exists()
  ):
    return _kept_weights(experiment, fold, home)
  checkpoints = Checkpoints(home, read_only=True)
  try:
    state, _ = checkpoints.restore(
      abstract_state(experiment.program.build, experiment.program.mesh)
    )
  finally:
    checkpoints.close()
  state["constants"] = experiment.program.place(experiment.constants(fold))
  return state


def _kept_weights(experiment: Experiment, fold: Fold, home: pathlib.Path) -> State:
  abstract = abstract_state(experiment.program.build, experiment.program.mesh)
  wanted = {"params": abstract["params"], "model_state": abstract["model_state"]}
  return {
    **model_folder.read_weights(home, wanted),
    "constants": experiment.program.place(experiment.constants(fold)),
  }


def _check_claim(folder: pathlib.Path, config: ConfigDict, mode: str) -> None:
  """Refuses a workdir that was started with other settings, or has nothing to evaluate."""
  path = folder / CONFIG_FILE
  if not path.exists():
    if mode == "eval":
      raise ValueError(f"{folder} holds no run to evaluate ({CONFIG_FILE} is missing)")
    return
  changed = changed_settings(path, config.to_dict())
  bound = {key: pair for key, pair in changed.items() if key not in FREE_SETTINGS}
  if bound and mode == "train":
    listed = "; ".join(f"{key} was {old!r}, is {new!r}" for key, (old, new) in bound.items())
    raise ValueError(f"{folder} was started with other settings ({listed}). Use another --workdir")


def _claim(folder: pathlib.Path, config: ConfigDict) -> None:
  """Makes a new workdir this recipe's."""
  if is_writer() and not (folder / CONFIG_FILE).exists():
    folder.mkdir(parents=True, exist_ok=True)
    model_folder.write_json(folder / CONFIG_FILE, config.to_dict())


def _report(
  experiment: Experiment,
  folder: pathlib.Path,
  results: list[Predictions],
  sheets: dict[str, np.ndarray] | None,
  seconds: float,
) -> pathlib.Path:
  config = experiment.config
  several = len(experiment.folds) > 1
  history: list[dict[str, Any]] = []
  for fold in experiment.folds:
    home = folder / fold.name if several else folder
    rows = read_history(home / METRICS_FILE)
    history += [{**row, "fold": fold.name} for row in rows] if several else rows
  if experiment.pretraining:
    return write_report(
      folder,
      title=f"{config.model.name} pre-trained on {config.data.name}",
      history=history,
      reconstructions=sheets,
      facts=_facts(experiment, seconds),
    )
  predictions = concatenate(results)
  predictions.save(folder / PREDICTIONS_FILE)
  return write_report(
    folder,
    title=f"{config.model.name} on {config.data.name}",
    predictions=predictions,
    history=history,
    samples=_samples(experiment, predictions),
    facts=_facts(experiment, seconds),
  )


def _samples(experiment: Experiment, predictions: Predictions) -> list[dict[str, Any]]:
  places = {file: place for place, file in enumerate(experiment.shown.index.file)}
  samples = []
  for row in choose_samples(predictions):
    score = None if predictions.scores is None else float(predictions.scores[row].max())
    samples.append(
      {
        "image": _picture(experiment, places[predictions.file[row]]),
        "truth": int(predictions.truth[row]),
        "prediction": int(predictions.prediction[row]),
        "score": score,
        "caption": predictions.file[row],
      }
    )
  return samples


def _picture(experiment: Experiment, place: int) -> np.ndarray:
  """What the model saw; where that is motion, the face that moved stands above it."""
  image = experiment.shown.image(place)
  face_of = getattr(experiment.builder, "face", None)
  if face_of is None or not experiment.config.augment.flow:
    return image
  face = face_of(experiment.shown.index.file[place])
  if face is None:
    return image
  size = image.shape[0]
  return np.concatenate([cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA), image])


def _facts(experiment: Experiment, seconds: float) -> dict[str, Any]:
  config, fold = experiment.config, experiment.folds[0]
  shapes = jax.eval_shape(experiment.program.build, jax.random.key(0))["params"]
  parameters = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
  devices = jax.devices()
  index = experiment.read.index
  return {
    "model": config.model.name,
    "trained parameters": f"{parameters:,}",
    "input": f"{config.model.image_size} x {config.model.image_size} pixels",
    "dataset": experiment.read.name,
    "examples": len(index),
    "subjects": len(set(index.subject) - {""}) or "unknown",
    "division": f"{config.data.split}, {len(experiment.folds)} fold(s)",
    "tested weights": _tested_weights(config),
    "steps": experiment.cadence(fold).total,
    "batch size": config.batch_size,
    "precision": config.precision,
    "started from": config.init_from or "random weights",
    "seed": config.seed,
    "devices": f"{len(devices)} x {devices[0].device_kind}",
    "wall time of this call": f"{seconds:.0f} s",
  }


def _tested_weights(config: ConfigDict) -> str:
  if config.select == "train":
    share = f"{100 * config.select_holdout:g}% of the training subjects"
    return f"those with the best UF1 on {share}, who were kept from training"
  return "those of the last step"


def _plan(experiment: Experiment) -> str:
  index = experiment.read.index
  counts = ", ".join(f"{name} {count}" for name, count in index.class_counts().items())
  people = len(set(index.subject) - {""})
  return (
    f"{experiment.config.model.name} on {experiment.read.name}: {len(index)} examples of "
    f"{people or 'unknown'} subjects ({counts}); {len(experiment.folds)} fold(s) by "
    f"{experiment.config.data.split!r}"
  )


def _say(line: str) -> None:
  if is_writer():
    print(line, flush=True)


def _failed(error: Exception, code: int) -> int:
  place = f" (process {jax.process_index()})" if jax.process_count() > 1 else ""
  print(f"run.py{place}: {error}", file=sys.stderr, flush=True)
  return code
