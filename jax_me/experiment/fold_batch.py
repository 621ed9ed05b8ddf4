"""All folds of an experiment in one program, chunk by chunk, with the files of separate runs.

Each fold ends with its own folder: model.json, metrics.jsonl, weights, and predictions.csv, which
is written last and says that the fold is finished. Only a chunk in progress keeps checkpoints, in
`folds_in_progress`; a killed run goes on with that chunk.
"""

import dataclasses
import pathlib
import shutil
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
from jax_me.training.fold_loop import ChunkResult, FoldRun, begun, train_chunk
from jax_me.training.fold_program import FoldProgram, compile_folds
from jax_me.training.graceful_shutdown import StopSignal
from jax_me.training.logging.history import read_history
from jax_me.training.logging.metrics_log import METRICS_FILE, Progress
from jax_me.training.logging.writers import open_writers
from jax_me.training.processes import is_writer
from jax_me.training.sharding import batch_sharding, replicated
from jax_me.training.state import State

CHUNK_FOLDER = "folds_in_progress"
ORDERS = {"vmap": "side by side", "map": "one after the other"}


@dataclasses.dataclass(frozen=True)
class Together:
  """What was trained: names of the finished folds, and whether a signal stopped the rest."""

  finished: frozenset[str] = frozenset()
  interrupted: bool = False


def train_together(
  experiment: Experiment, folder: pathlib.Path, say: Callable[[str], None]
) -> Together:
  """Trains the unfinished folds of an experiment in one program, where that is wanted and possible.

  What it leaves (all folds, or those whose numbers stopped being finite) is for `Experiment.train`.

  Args:
    experiment: of several folds.
    folder: of the run; each fold has a folder of its name inside.
    say: tells the user a line.

  Raises:
    ValueError: `folds.parallel` insists on what cannot be.
    CheckpointError: a checkpoint cannot be written or read.
  """
  pending = pending_folds(experiment, folder)
  mode = choose_mode(experiment, len(pending))
  if mode == "off":
    if is_writer():
      shutil.rmtree(folder / CHUNK_FOLDER, ignore_errors=True)
    return Together()
  started, rows = _in_progress(experiment, pending, folder / CHUNK_FOLDER)
  # Folds of like length go together, so that few stand still.
  rest = sorted(
    (fold for fold in pending if fold not in started),
    key=lambda fold: -experiment.cadence(fold).total,
  )
  try:
    training = _Training(experiment, folder, mode, rows or len(rest), fixed=bool(rows))
  except FoldsDoNotFit as error:
    if experiment.config.folds.parallel != "auto":
      raise
    say(f"{error}; training one fold after the other instead")
    return Together()
  rows = training.program.rows
  chunks = [started] * bool(started)
  chunks += [rest[first : first + rows] for first in range(0, len(rest), rows)]
  say(f"{sum(map(len, chunks))} folds in {len(chunks)} program run(s), {ORDERS[mode]}")
  finished: set[str] = set()
  total = sum(max(experiment.cadence(fold).total for fold in chunk) for chunk in chunks)
  progress = Progress(total, description=f"{len(pending)} folds")
  try:
    with StopSignal() as stop:
      for chunk in chunks:
        result = training.run(chunk, progress, stop)
        if result.interrupted:
          return Together(frozenset(finished), interrupted=True)
        finished |= {fold.name for fold in chunk} - result.left
  finally:
    progress.close()
  return Together(frozenset(finished))


def choose_mode(experiment: Experiment, pending: int) -> str:
  """ "vmap", "map", or "off" where there is nothing to do together.

  Raises:
    ValueError: the setting insists on what cannot be.
  """
  config = experiment.config
  if config.folds.parallel == "off" or experiment.pretraining:
    return "off"
  if len(experiment.folds) < 2 or pending < 2:
    return "off"
  images = [experiment.read, *[experiment.shown] * (experiment.shown is not experiment.read)]
  mebibytes = sum(len(store) * store.image_size**2 * 3 for store in images) / 2**20
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
    raise ValueError(f"folds.parallel={config.folds.parallel} cannot be: {problem}. Use off")
  return config.folds.parallel


def pending_folds(experiment: Experiment, folder: pathlib.Path) -> list[Fold]:
  """Those neither finished nor begun alone: a fold with checkpoints of its own goes on alone."""
  homes = {fold.name: folder / fold.name for fold in experiment.folds}
  return [
    fold
    for fold in experiment.folds
    if not (homes[fold.name] / PREDICTIONS_FILE).exists()
    and not model_folder.checkpoints_folder(homes[fold.name]).exists()
  ]


def _in_progress(
  experiment: Experiment, pending: Sequence[Fold], folder: pathlib.Path
) -> tuple[list[Fold], int]:
  """The chunk that an earlier call began, and its rows; a chunk that cannot go on is removed."""
  names, rows = begun(folder)
  by_name = {fold.name: fold for fold in experiment.folds}
  most = experiment.config.folds.chunk
  devices = experiment.program.mesh.size
  usable = rows and rows % devices == 0 and all(name in by_name for name in names)
  usable = usable and any(fold.name in names for fold in pending)
  if not usable or (most and rows > equal_rows(rows, most, devices)):
    shutil.rmtree(folder, ignore_errors=True)
    return [], 0
  return [by_name[name] for name in names], rows


class _Training:
  """What the chunks of one call share: the compiled program and the images on the devices."""

  def __init__(
    self, experiment: Experiment, folder: pathlib.Path, mode: str, count: int, *, fixed: bool
  ):
    config, mesh = experiment.config, experiment.program.mesh
    self._experiment, self._folder = experiment, folder
    self._images = _on_devices(experiment).array
    self._shown = (
      self._images
      if experiment.shown is experiment.read
      else DeviceImages(experiment.shown, batch_sharding(mesh)).array
    )
    index = experiment.read.index
    columns = {"label": index.label.astype(np.int32)}
    if index.targets is not None:
      columns["targets"] = index.targets
    self._columns = jax.device_put(columns, replicated(mesh))
    constants = experiment.constants(experiment.folds[0])

    def compile_rows(rows: int) -> FoldProgram:
      return compile_folds(
        experiment.program,
        experiment.classifier,
        rows=rows,
        mode=mode,
        batch_size=config.batch_size,
        images=self._images,
        columns=self._columns,
        constants=constants,
      )

    self.program = (
      compile_rows(count)
      if fixed
      else compile_chunk(count, experiment.program, compile_rows, most=config.folds.chunk)
    )

  def run(self, folds: Sequence[Fold], progress: Progress, stop: StopSignal) -> ChunkResult:
    """Trains a chunk, or goes on with it, and keeps its results."""
    experiment, config = self._experiment, self._experiment.config
    runs = []
    for fold in folds:
      home, constants = self._folder / fold.name, experiment.constants(fold)
      experiment.write_card(fold, constants, home)
      order = make_sampler(
        experiment.feed, seed=config.seed, indices=fold.train, balanced=config.data.balanced
      )
      runs.append(FoldRun(fold.name, home, order, constants, experiment.cadence(fold)))
    judge = _Judge(experiment, self.program, folds, [run.home for run in runs], self._shown)
    chunk_folder = self._folder / CHUNK_FOLDER
    result = train_chunk(
      self.program,
      runs,
      images=self._images,
      columns=self._columns,
      batch_size=config.batch_size,
      folder=chunk_folder,
      fresh=self._fresh,
      evaluator=judge.evaluate,
      progress=progress,
      stop=stop,
    )
    if result.interrupted:
      return result
    rows = [row for row, fold in enumerate(folds) if fold.name not in result.left]
    if config.folds.weights and not experiment.selects:
      self._keep_weights(result.state, {row: runs[row].home for row in rows})
    for row, predictions in judge.tested(result.state, rows).items():
      self._draw_curves(runs[row].home)
      predictions.save(runs[row].home / PREDICTIONS_FILE)
    shutil.rmtree(chunk_folder)
    return result

  def _fresh(self, key: jax.Array) -> State:
    experiment = self._experiment
    state = experiment.program.create(key)
    initialise = experiment.initialiser(self._folder)
    return state if initialise is None else initialise(state)

  def _keep_weights(self, state: State, homes: Mapping[int, pathlib.Path]) -> None:
    weights = evaluation_weights(state)
    with ocp.StandardCheckpointer() as checkpointer:
      for row, home in homes.items():
        target = (home / model_folder.WEIGHTS_FOLDER).absolute()
        checkpointer.save(target, self.program.fold(weights, row), force=True)

  def _draw_curves(self, home: pathlib.Path) -> None:
    """Hands the finished log to the trackers, which know one run at a time."""
    config = self._experiment.config
    for writer in open_writers(config.trackers, home, config.to_dict()):
      for row in read_history(home / METRICS_FILE):
        numbers = {k: float(v) for k, v in row.items() if k != "step" and _is_number(v)}
        writer.write(row["step"], numbers)
      writer.close()


class _Judge:
  """Judges the folds of a chunk, all in one program, each on its own examples."""

  def __init__(
    self,
    experiment: Experiment,
    program: FoldProgram,
    folds: Sequence[Fold],
    homes: Sequence[pathlib.Path],
    images: jax.Array,
  ):
    self._experiment, self._program = experiment, program
    self._folds, self._homes, self._images = folds, homes, images
    # Test predictions of folds at their last step, when the log had to know them anyway.
    self._last: dict[int, Predictions] = {}

  def evaluate(self, state: State, steps: Mapping[int, int]) -> dict[int, Mapping[str, float]]:
    """Scores for the log: of the test side, or of the validation side where that selects."""
    selects, folds = self._experiment.selects, self._folds
    sides = {row: folds[row].validation if selects else folds[row].test for row in steps}
    scores: dict[int, Mapping[str, float]] = {}
    for row, predictions in self._predictions(state, sides).items():
      scores[row] = logged_scores(predictions, "validation" if selects else "test")
      if selects:
        weights = self._program.fold(evaluation_weights(state), row)
        Selection(self._homes[row]).offer(weights, steps[row], scores[row]["validation/uf1"])
      elif steps[row] == self._experiment.cadence(folds[row]).total:
        self._last[row] = predictions
    return scores

  def tested(self, state: State, rows: Iterable[int]) -> dict[int, Predictions]:
    """The test predictions of folds at their end."""
    if self._experiment.selects:
      return {row: self._selected(state, row) for row in rows}
    missing = {row: self._folds[row].test for row in rows if row not in self._last}
    known = {**self._last, **(self._predictions(state, missing) if missing else {})}
    return {row: known[row] for row in rows}

  def _selected(self, state: State, row: int) -> Predictions:
    fold = self._folds[row]
    own = self._experiment.judged(self._program.fold(state, row), self._homes[row])
    return self._experiment.predict(fold, own)

  def _predictions(self, state: State, sides: Mapping[int, np.ndarray]) -> dict[int, Predictions]:
    size = self._experiment.evaluation_batch
    rounds = -(-max(map(len, sides.values())) // size)
    positions = np.full((self._program.rows, rounds * size), -1, np.int32)
    for row, side in sides.items():
      positions[row, : len(side)] = side
    spread = batch_sharding(self._program.mesh)
    weights, constants = evaluation_weights(state), state["constants"]
    parts = []
    for first in range(0, rounds * size, size):
      part = positions[:, first : first + size]
      batch = jax.device_put((part, part[:, 0] >= 0), spread)
      parts.append(self._program.classify(weights, constants, self._images, *batch))
    scores = np.concatenate(jax.device_get(parts), axis=1)
    return {
      row: self._experiment.table(self._folds[row], side, scores[row, : len(side)])
      for row, side in sides.items()
    }


def _on_devices(experiment: Experiment) -> DeviceImages:
  feed = experiment.feed
  if isinstance(feed, DeviceImages):
    return feed
  return DeviceImages(experiment.read, batch_sharding(experiment.program.mesh))


def _is_number(value: object) -> bool:
  return isinstance(value, int | float)
