"""Fold batch: all folds of an experiment in one program, in chunks, with the files of single runs.

Each fold gets its own folder with model.json, metrics.jsonl, weights, and predictions.csv, which is
written last and marks the fold as finished. Only the current chunk has checkpoints, in
`folds_in_progress`; a killed run resumes with that chunk.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jax_me.data.device_images import HOST_PLATFORMS, DeviceImages
from jax_me.data.folds import Fold
from jax_me.data.pipeline import make_sampler
from jax_me.evaluation.predictions import PREDICTIONS_FILE
from jax_me.experiment.experiment import Experiment, crops_stored
from jax_me.experiment.fold_training import FoldTraining, Interrupted, make_initialiser
from jax_me.models import model_folder
from jax_me.progress import Progress
from jax_me.run_folder import is_finished
from jax_me.training.batches import FoldBatches
from jax_me.training.fold_chunks import (
  CHECKPOINT_BYTES,
  FoldsDoNotFit,
  claim_folder,
  compile_chunk,
  equal_rows,
  remove_folder,
  state_bytes,
  unfinished_chunk,
)
from jax_me.training.fold_program import FoldProgram, compile_folds
from jax_me.training.graceful_shutdown import StopSignal
from jax_me.training.logging.history import read_history
from jax_me.training.logging.metrics_log import METRICS_FILE
from jax_me.training.loop import TrainingResult, train
from jax_me.training.processes import is_writer
from jax_me.training.sharding import batch_sharding, replicated
from jax_me.training.state import State

CHUNK_FOLDER = "folds_in_progress"
MODE_NAMES = {"vmap": "in parallel", "map": "one after the other"}


def train_fold_batch(
  experiment: Experiment, folder: pathlib.Path, print_line: Callable[[str], None]
) -> frozenset[str]:
  """Trains the unfinished folds of an experiment in one program, if requested and possible.

  The remaining folds (all, or those that diverged) must be trained with `FoldTraining.train`.

  Args:
    experiment: with several folds.
    folder: of the run; each fold has a subfolder with its name.
    print_line: prints a line for the user.

  Returns:
    names of the folds that are finished now.

  Raises:
    Interrupted: a signal stopped the training.
    ValueError: `folds.parallel` requires the impossible.
    CheckpointError: a checkpoint cannot be written or read.
  """
  pending = pending_folds(experiment, folder)
  mode = choose_mode(experiment, len(pending))
  if mode == "off":
    if is_writer():
      remove_folder(folder / CHUNK_FOLDER)
    return frozenset()
  started, rows = _in_progress(experiment, pending, folder / CHUNK_FOLDER)
  # Sorted by length, so that the folds of a chunk finish at about the same time.
  rest = sorted(
    (fold for fold in pending if fold not in started),
    key=lambda fold: -experiment.cadence(fold).total,
  )
  try:
    program = _compile_program(experiment, mode, len(rest), rows=rows)
  except FoldsDoNotFit as error:
    if experiment.config.folds.parallel != "auto":
      raise
    print_line(f"{error}; training one fold after the other instead")
    return frozenset()
  chunks = [started] * bool(started)
  chunks += [rest[first : first + program.rows] for first in range(0, len(rest), program.rows)]
  print_line(f"{sum(map(len, chunks))} folds in {len(chunks)} program run(s), {MODE_NAMES[mode]}")
  finished: set[str] = set()
  total = sum(max(experiment.cadence(fold).total for fold in chunk) for chunk in chunks)
  experiment.expect_training(total)
  progress = Progress(f"{len(pending)} folds", total, unit="step")
  try:
    with StopSignal() as stop:
      for folds in chunks:
        result = _train_chunk(experiment, program, folds, folder, progress, stop)
        if result.interrupted:
          raise Interrupted("stopped")
        finished |= {fold.name for fold in folds} - result.diverged
  finally:
    progress.close()
  return frozenset(finished)


def choose_mode(experiment: Experiment, pending: int) -> str:
  """How to train the folds: "vmap" or "map" in one program, "off" one run each.

  Args:
    experiment: the experiment.
    pending: number of folds to train.

  Raises:
    ValueError: the setting `folds.parallel` requires the impossible.
  """
  config = experiment.config
  if config.folds.parallel == "off" or experiment.pretraining:
    return "off"
  if len(experiment.folds) < 2 or pending < 2:
    return "off"
  images = experiment.training_images
  mebibytes = len(images) * images.image_size**2 * 3 / 2**20
  problem = ""
  if jax.process_count() > 1:
    problem = "it works in one process only"
  elif config.mesh.fsdp > 1 or config.mesh.split_update > 1:
    problem = "each device keeps whole folds, so mesh.fsdp and mesh.split_update must be 1"
  elif crops_stored(config):
    problem = "its images are resized, so augment.crop_source must be read, not stored"
  elif mebibytes > config.data.resident_mib:
    problem = (
      f"the images need {mebibytes:.0f} MiB of each device, data.resident_mib is "
      f"{config.data.resident_mib}"
    )
  if config.folds.parallel == "auto":
    on_host = experiment.program.mesh.devices.flat[0].platform in HOST_PLATFORMS
    return "off" if problem else "map" if on_host else "vmap"
  if problem:
    raise ValueError(f"folds.parallel={config.folds.parallel} is impossible: {problem}. Use off")
  return config.folds.parallel


def pending_folds(experiment: Experiment, folder: pathlib.Path) -> list[Fold]:
  """Folds that are neither finished nor have own checkpoints, with which they resume alone."""
  workdirs = {fold.name: folder / fold.name for fold in experiment.folds}
  return [
    fold
    for fold in experiment.folds
    if not is_finished(workdirs[fold.name] / PREDICTIONS_FILE)
    and not model_folder.checkpoints_folder(workdirs[fold.name]).exists()
  ]


def _in_progress(
  experiment: Experiment, pending: Sequence[Fold], folder: pathlib.Path
) -> tuple[list[Fold], int]:
  """Folds and number of rows of an unfinished chunk; an unusable chunk is removed."""
  names, rows = unfinished_chunk(folder)
  by_name = {fold.name: fold for fold in experiment.folds}
  most = experiment.config.folds.chunk
  devices = experiment.program.mesh.size
  usable = rows and rows % devices == 0 and all(name in by_name for name in names)
  usable = usable and any(fold.name in names for fold in pending)
  if not usable or (most and rows > equal_rows(rows, most, devices)):
    remove_folder(folder)
    return [], 0
  return [by_name[name] for name in names], rows


def _compile_program(experiment: Experiment, mode: str, count: int, *, rows: int) -> FoldProgram:
  """Compiles the program for chunks of `rows` folds; 0 means as many of `count` as fit."""
  config, mesh = experiment.config, experiment.program.mesh
  source = experiment.training_source
  if not isinstance(source, DeviceImages):
    source = DeviceImages(experiment.training_images, batch_sharding(mesh))
  index = experiment.training_images.index
  columns: dict[str, Any] = {"label": index.label.astype(np.int32)}
  if index.targets is not None:
    columns["targets"] = index.targets
  if config.affect_weight:
    columns["affect"] = index.affect
  columns = jax.device_put(columns, replicated(mesh))

  def compile_rows(rows: int) -> FoldProgram:
    return compile_folds(
      experiment.program,
      rows=rows,
      mode=mode,
      batch_size=config.batch_size,
      images=source.array,
      columns=columns,
      run_parameters=experiment.run_parameters(experiment.folds[0]),
    )

  if rows:
    return compile_rows(rows)
  most = config.folds.chunk
  if not most and mode == "map":
    most = max(1, CHECKPOINT_BYTES // state_bytes(experiment.program))
  return compile_chunk(count, experiment.program, compile_rows, most=most)


def _train_chunk(
  experiment: Experiment,
  program: FoldProgram,
  folds: Sequence[Fold],
  folder: pathlib.Path,
  progress: Progress,
  stop: StopSignal,
) -> TrainingResult:
  """Trains or resumes a chunk, and saves the results of the folds that did not diverge."""
  config = experiment.config
  samplers = {
    fold.name: make_sampler(
      experiment.training_source,
      seed=config.seed,
      indices=fold.train,
      balanced=config.data.balanced,
    )
    for fold in folds
  }
  checkpoints = folder / CHUNK_FOLDER
  claim_folder(checkpoints, program.rows, samplers, config.batch_size)
  trainings = [FoldTraining(experiment, fold, folder / fold.name) for fold in folds]
  result = train(
    program,
    [training.make_run() for training in trainings],
    FoldBatches(list(samplers.values()), config.batch_size, program),
    folder=checkpoints,
    stop=stop,
    progress=progress,
    initialise=make_initialiser(experiment, folder),
    keep_checkpoints=1,
    save_last=False,
    duration=experiment.duration,
  )
  if not result.interrupted:
    for number, training in enumerate(trainings):
      if training.fold.name not in result.diverged:
        keeps = training.keeps_checkpoint
        _save_results(training, program.fold_state(result.state, number, optimizer=keeps))
    remove_folder(checkpoints)
  return result


def _save_results(training: FoldTraining, state: State) -> None:
  """Saves the weights, curves and, last, the predictions of a finished fold."""
  workdir = training.workdir
  training.finish_metrics()
  if training.keeps_checkpoint:
    training.save_checkpoint(state)
  training.save_model(state)
  # The trackers support one run at a time, so they get the whole log at the end.
  for writer in training.open_trackers():
    for row in read_history(workdir / METRICS_FILE):
      numbers = {k: float(v) for k, v in row.items() if k != "step" and isinstance(v, int | float)}
      writer.write(row["step"], numbers)
    writer.close()
  training.save_predictions(training.test(state))
