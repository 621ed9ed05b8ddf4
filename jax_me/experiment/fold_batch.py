"""Fold batch: all folds of an experiment in one program, in chunks, with the files of single runs.

Each fold gets its own folder with model.json, metrics.jsonl, weights, and predictions.csv, which is
written last and marks the fold as finished. Only the current chunk has checkpoints, in
`folds_in_progress`; a killed run resumes with that chunk.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import numpy as np
import orbax.checkpoint as ocp

from jax_me.data.device_images import HOST_PLATFORMS, DeviceImages
from jax_me.data.folds import Fold
from jax_me.data.pipeline import make_sampler
from jax_me.evaluation.predictions import PREDICTIONS_FILE, Predictions
from jax_me.experiment.experiment import Experiment, logged_scores
from jax_me.experiment.model_selection import Selection
from jax_me.models import model_folder
from jax_me.training.evaluation_step import evaluation_weights
from jax_me.training.fold_chunks import FoldsDoNotFit, compile_chunk, equal_rows
from jax_me.training.fold_loop import (
  ChunkResult,
  FoldRun,
  remove_chunk,
  train_chunk,
  unfinished_chunk,
)
from jax_me.training.fold_program import FoldProgram, compile_folds
from jax_me.training.graceful_shutdown import StopSignal
from jax_me.training.logging.history import read_history
from jax_me.training.logging.metrics_log import METRICS_FILE, Progress
from jax_me.training.logging.writers import open_writers
from jax_me.training.processes import is_writer
from jax_me.training.sharding import batch_sharding, replicated
from jax_me.training.state import State

CHUNK_FOLDER = "folds_in_progress"
MODE_NAMES = {"vmap": "in parallel", "map": "one after the other"}


@dataclasses.dataclass(frozen=True)
class FoldBatch:
  """Result of a fold batch: names of the finished folds, and whether a signal stopped the rest."""

  finished: frozenset[str] = frozenset()
  interrupted: bool = False


def train_fold_batch(
  experiment: Experiment, folder: pathlib.Path, print_line: Callable[[str], None]
) -> FoldBatch:
  """Trains the unfinished folds of an experiment in one program, if requested and possible.

  The remaining folds (all, or those that diverged) must be trained with `Experiment.train`.

  Args:
    experiment: with several folds.
    folder: of the run; each fold has a subfolder with its name.
    print_line: prints a line for the user.

  Returns:
    the finished folds.

  Raises:
    ValueError: `folds.parallel` requires the impossible.
    CheckpointError: a checkpoint cannot be written or read.
  """
  pending = pending_folds(experiment, folder)
  mode = choose_mode(experiment, len(pending))
  if mode == "off":
    if is_writer():
      remove_chunk(folder / CHUNK_FOLDER)
    return FoldBatch()
  started, rows = _in_progress(experiment, pending, folder / CHUNK_FOLDER)
  # Sorted by length, so that the folds of a chunk finish at about the same time.
  rest = sorted(
    (fold for fold in pending if fold not in started),
    key=lambda fold: -experiment.cadence(fold).total,
  )
  try:
    training = _FoldBatchTraining(experiment, folder, mode, rows or len(rest), fixed=bool(rows))
  except FoldsDoNotFit as error:
    if experiment.config.folds.parallel != "auto":
      raise
    print_line(f"{error}; training one fold after the other instead")
    return FoldBatch()
  rows = training.program.rows
  chunks = [started] * bool(started)
  chunks += [rest[first : first + rows] for first in range(0, len(rest), rows)]
  print_line(f"{sum(map(len, chunks))} folds in {len(chunks)} program run(s), {MODE_NAMES[mode]}")
  finished: set[str] = set()
  total = sum(max(experiment.cadence(fold).total for fold in chunk) for chunk in chunks)
  progress = Progress(total, description=f"{len(pending)} folds")
  try:
    with StopSignal() as stop:
      for chunk in chunks:
        result = training.run(chunk, progress, stop)
        if result.interrupted:
          return FoldBatch(frozenset(finished), interrupted=True)
        finished |= {fold.name for fold in chunk} - result.diverged
  finally:
    progress.close()
  return FoldBatch(frozenset(finished))


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
  stores = {id(s): s for s in (experiment.training_images, experiment.evaluation_images)}.values()
  mebibytes = sum(len(store) * store.image_size**2 * 3 for store in stores) / 2**20
  problem = ""
  if jax.process_count() > 1:
    problem = "it works in one process only"
  elif config.mesh.fsdp > 1:
    problem = f"each device keeps whole folds, so mesh.fsdp must be 1, not {config.mesh.fsdp}"
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
    if not (workdirs[fold.name] / PREDICTIONS_FILE).exists()
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
    remove_chunk(folder)
    return [], 0
  return [by_name[name] for name in names], rows


class _FoldBatchTraining:
  """The compiled program and the images on the devices, which all chunks share."""

  def __init__(
    self, experiment: Experiment, folder: pathlib.Path, mode: str, count: int, *, fixed: bool
  ):
    config, mesh = experiment.config, experiment.program.mesh
    self._experiment, self._folder = experiment, folder
    self._images = _device_images(experiment).array
    self._evaluation_images = (
      self._images
      if experiment.evaluation_images is experiment.training_images
      else DeviceImages(experiment.evaluation_images, batch_sharding(mesh)).array
    )
    index = experiment.training_images.index
    columns = {"label": index.label.astype(np.int32)}
    if index.targets is not None:
      columns["targets"] = index.targets
    self._columns = jax.device_put(columns, replicated(mesh))
    run_parameters = experiment.run_parameters(experiment.folds[0])

    def compile_rows(rows: int) -> FoldProgram:
      return compile_folds(
        experiment.program,
        experiment.classifier,
        rows=rows,
        mode=mode,
        batch_size=config.batch_size,
        images=self._images,
        columns=self._columns,
        run_parameters=run_parameters,
      )

    self.program = (
      compile_rows(count)
      if fixed
      else compile_chunk(count, experiment.program, compile_rows, most=config.folds.chunk)
    )

  def run(self, folds: Sequence[Fold], progress: Progress, stop: StopSignal) -> ChunkResult:
    """Trains or resumes a chunk and saves its results.

    Args:
      folds: of the chunk.
      progress: progress bar.
      stop: signal to stop early.

    Returns:
      the final state of the chunk.
    """
    experiment, config = self._experiment, self._experiment.config
    runs = []
    for fold in folds:
      workdir, run_parameters = self._folder / fold.name, experiment.run_parameters(fold)
      experiment.write_metadata(fold, run_parameters, workdir)
      sampler = make_sampler(
        experiment.training_source,
        seed=config.seed,
        indices=fold.train,
        balanced=config.data.balanced,
      )
      runs.append(FoldRun(fold.name, workdir, sampler, run_parameters, experiment.cadence(fold)))
    evaluator = _FoldEvaluator(
      experiment, self.program, folds, [run.workdir for run in runs], self._evaluation_images
    )
    chunk_folder = self._folder / CHUNK_FOLDER
    result = train_chunk(
      self.program,
      runs,
      images=self._images,
      columns=self._columns,
      batch_size=config.batch_size,
      folder=chunk_folder,
      create_state=self._create_state,
      evaluator=evaluator.evaluate,
      progress=progress,
      stop=stop,
    )
    if result.interrupted:
      return result
    rows = [row for row, fold in enumerate(folds) if fold.name not in result.diverged]
    if config.folds.weights and not experiment.selects:
      self._save_weights(result.state, {row: runs[row].workdir for row in rows})
    for row, predictions in evaluator.test_predictions(result.state, rows).items():
      self._send_history(folds[row], runs[row].workdir)
      predictions.save(runs[row].workdir / PREDICTIONS_FILE)
    remove_chunk(chunk_folder)
    return result

  def _create_state(self, key: jax.Array) -> State:
    experiment = self._experiment
    state = experiment.program.create(key)
    initialise = experiment.initialiser(self._folder)
    return state if initialise is None else initialise(state)

  def _save_weights(self, state: State, workdirs: Mapping[int, pathlib.Path]) -> None:
    weights = evaluation_weights(state)
    with ocp.StandardCheckpointer() as checkpointer:
      for row, workdir in workdirs.items():
        target = (workdir / model_folder.WEIGHTS_FOLDER).absolute()
        checkpointer.save(target, self.program.select_fold(weights, row), force=True)

  def _send_history(self, fold: Fold, workdir: pathlib.Path) -> None:
    """Sends the log of a finished fold to the trackers, which support one run at a time."""
    config = self._experiment.config
    name = self._experiment.run_name(fold, workdir)
    for writer in open_writers(config.trackers, workdir, config.to_dict(), run_name=name):
      for row in read_history(workdir / METRICS_FILE):
        numbers = {k: float(v) for k, v in row.items() if k != "step" and _is_number(v)}
        writer.write(row["step"], numbers)
      writer.close()


class _FoldEvaluator:
  """Evaluates the folds of a chunk in one program, each on its own examples."""

  def __init__(
    self,
    experiment: Experiment,
    program: FoldProgram,
    folds: Sequence[Fold],
    workdirs: Sequence[pathlib.Path],
    images: jax.Array,
  ):
    self._experiment, self._program = experiment, program
    self._folds, self._workdirs, self._images = folds, workdirs, images
    # Test predictions of folds at their last step, if they were already made for the log.
    self._last: dict[int, Predictions] = {}

  def evaluate(self, state: State, steps: Mapping[int, int]) -> dict[int, Mapping[str, float]]:
    """Scores for the log: of the test side, or of the validation side for model selection."""
    selects, folds = self._experiment.selects, self._folds
    sides = {row: folds[row].validation if selects else folds[row].test for row in steps}
    scores: dict[int, Mapping[str, float]] = {}
    for row, predictions in self._predict(state, sides).items():
      scores[row] = logged_scores(predictions, "validation" if selects else "test")
      if selects:
        weights = self._program.select_fold(evaluation_weights(state), row)
        Selection(self._workdirs[row]).offer(weights, steps[row], scores[row]["validation/uf1"])
      elif steps[row] == self._experiment.cadence(folds[row]).total:
        self._last[row] = predictions
    return scores

  def test_predictions(self, state: State, rows: Iterable[int]) -> dict[int, Predictions]:
    """Test predictions of finished folds."""
    if self._experiment.selects:
      return {row: self._predict_selected(state, row) for row in rows}
    missing = {row: self._folds[row].test for row in rows if row not in self._last}
    predictions = {**self._last, **(self._predict(state, missing) if missing else {})}
    return {row: predictions[row] for row in rows}

  def _predict_selected(self, state: State, row: int) -> Predictions:
    fold = self._folds[row]
    selected = self._experiment.with_selected_weights(
      self._program.select_fold(state, row), self._workdirs[row]
    )
    return self._experiment.predict(fold, selected)

  def _predict(self, state: State, sides: Mapping[int, np.ndarray]) -> dict[int, Predictions]:
    size = self._experiment.evaluation_batch
    rounds = -(-max(map(len, sides.values())) // size)
    positions = np.full((self._program.rows, rounds * size), -1, np.int32)
    for row, side in sides.items():
      positions[row, : len(side)] = side
    spread = batch_sharding(self._program.mesh)
    weights, run_parameters = evaluation_weights(state), state["run_parameters"]
    parts = []
    for first in range(0, rounds * size, size):
      part = positions[:, first : first + size]
      batch = jax.device_put((part, part[:, 0] >= 0), spread)
      parts.append(self._program.classify(weights, run_parameters, self._images, *batch))
    scores = np.concatenate(jax.device_get(parts), axis=1)
    return {
      row: self._experiment.make_predictions(self._folds[row], side, scores[row, : len(side)])
      for row, side in sides.items()
    }


def _device_images(experiment: Experiment) -> DeviceImages:
  source = experiment.training_source
  if isinstance(source, DeviceImages):
    return source
  return DeviceImages(experiment.training_images, batch_sharding(experiment.program.mesh))


def _is_number(value: object) -> bool:
  return isinstance(value, int | float)
