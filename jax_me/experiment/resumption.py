"""Settings of a run that is started again: those that may change, and more epochs.

A run keeps its settings in `config.json`. Those that change neither weights nor predictions may
differ when it is resumed. More epochs or steps extend a run, also a finished one, from its last
checkpoint: optimiser state and data position continue.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable

from ml_collections import ConfigDict

from jax_me.data.folds import Fold
from jax_me.evaluation.predictions import PREDICTIONS_FILE
from jax_me.experiment.experiment import Experiment
from jax_me.manifest import MANIFEST_FILE
from jax_me.models import model_folder
from jax_me.models.ensemble import ENSEMBLE_FOLDER, FOLDS_FILE
from jax_me.models.reference_check import REFERENCE_FILE
from jax_me.models.saved_model import FINAL
from jax_me.models.weight_files import stored_weights
from jax_me.run_folder import start_results
from jax_me.training import settings
from jax_me.training.checkpoint import JsonValue, changed_settings
from jax_me.training.processes import is_writer, wait_for_all
from jax_me.training.schedule import make_schedule
from jax_me.training.state import RunParameters

CONFIG_FILE = "config.json"
# These have the same result up to rounding, and the parts of a batch draw other random numbers.
ROUNDING = ("accum_steps", "remat")

Changes = dict[str, tuple[JsonValue, JsonValue]]  # {key: (stored, now)}


def changes_of(folder: pathlib.Path, config: ConfigDict) -> Changes:
  """Differences between the settings of a run and those of this command."""
  declared = settings.declared_settings()
  # A setting that an earlier version did not have was what is now its default.
  return {
    key: (old, new)
    for key, (old, new) in changed_settings(folder / CONFIG_FILE, config.to_dict()).items()
    if old is not None or key not in declared or new != json.loads(json.dumps(declared[key].value))
  }


def check_changes(folder: pathlib.Path, config: ConfigDict, changes: Changes) -> None:
  """Checks that a run may continue with changed settings.

  Args:
    folder: of the run.
    config: the recipe.
    changes: from `changes_of`.

  Raises:
    ValueError: a change would change what was trained so far; the message has all of them.
  """
  declared = settings.declared_settings()
  free = {key for key in changes if key in declared and declared[key].free}
  if config.select == "train":
    free.discard("evaluate_epochs")  # The evaluations are the choice.
  if _extends(config, changes):
    free.add(_length(config))
  if config.steps > 0 and "steps" not in changes.keys() - free:
    free.add("epochs")  # They mean nothing.
  refused = {key: pair for key, pair in changes.items() if key not in free}
  if refused:
    listed = "; ".join(f"{key} was {old!r}, is {new!r}" for key, (old, new) in refused.items())
    raise ValueError(f"{folder} was started with other settings ({listed}). Use another --workdir")


def _length(config: ConfigDict) -> str:
  """The setting that decides how long the run is."""
  return "steps" if config.steps > 0 else "epochs"


def _extends(config: ConfigDict, changes: Changes) -> bool:
  """Whether the changes make the run longer."""
  key = _length(config)
  old, new = changes.get(key, (0, 0))
  return 0 < (old or 0) < new and (key == "steps" or "steps" not in changes)


def apply_changes(
  experiment: Experiment,
  folder: pathlib.Path,
  changes: Changes,
  print_line: Callable[[str], None],
) -> None:
  """Makes a finished run ready to go on where more epochs are wanted, and says what changes.

  A kill leaves a run that the same command extends, or that the earlier one finishes again. All
  processes must call it.

  Args:
    experiment: of the new settings.
    folder: of the run.
    changes: from `changes_of`, after `check_changes`.
    print_line: prints a line for the user.

  Raises:
    ValueError: a finished fold has no checkpoint to go on from.
  """
  config = experiment.config
  extends = _extends(config, changes)
  others = {key: pair for key, pair in changes.items() if not extends or key != _length(config)}
  if others:
    listed = ", ".join(f"{key} {old!r} -> {new!r}" for key, (old, new) in others.items())
    print_line(f"settings changed since the run was started: {listed}")
  if any(key in others for key in ROUNDING):
    print_line(f"note: {' and '.join(ROUNDING)} change the last digits of the steps from here on")
  if not extends:
    return
  folders = [fold_folder(experiment, folder, fold) for fold in experiment.folds]
  finished = [path for path in (*folders, folder / FINAL) if _is_finished(path)]
  for path in finished:
    if not model_folder.checkpoint_steps(path):
      raise ValueError(
        f"{path} is finished and keeps no checkpoint from which it could go on "
        f"(folds.checkpoints={config.folds.checkpoints}). Use another --workdir"
      )
  for line in _describe_extension(experiment, changes[_length(config)]):
    print_line(line)
  wait_for_all("extension")
  if is_writer():
    (folder / ENSEMBLE_FOLDER / FOLDS_FILE).unlink(missing_ok=True)
    for path in finished:
      _reopen(path)
  wait_for_all("extended")


def fold_folder(experiment: Experiment, folder: pathlib.Path, fold: Fold) -> pathlib.Path:
  """Folder of a fold.

  Args:
    experiment: of the fold.
    folder: of the run.
    fold: one of the experiment.

  Returns:
    a folder in that of the run, which it is itself if the recipe has only one fold.
  """
  only = len(experiment.folds) == 1 and experiment.config.data.fold < 0
  return folder if only else folder / fold.name


def _is_finished(folder: pathlib.Path) -> bool:
  """Whether a fold has results; also if a kill left only some of them to be removed."""
  return (folder / PREDICTIONS_FILE).exists() or stored_weights(folder) is not None


def _reopen(folder: pathlib.Path) -> None:
  """Removes the results of a finished fold, which leaves an interrupted run."""
  weights = stored_weights(folder)
  start_results(folder)
  for name in (PREDICTIONS_FILE, MANIFEST_FILE, REFERENCE_FILE):
    (folder / name).unlink(missing_ok=True)
  if weights is not None:
    path = folder / weights
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _describe_extension(experiment: Experiment, lengths: tuple[JsonValue, JsonValue]) -> list[str]:
  """What becomes longer, and what the learning rate does where the run goes on."""
  config, fold = experiment.config, experiment.folds[0]
  before = config.copy_and_resolve_references()
  before[_length(config)] = lengths[0]
  earlier = dataclasses.replace(experiment, config=before)
  step, total = earlier.cadence(fold).total, experiment.cadence(fold).total
  was, now = (f"{value:g}" for value in lengths)
  return [
    f"extended from {was} to {now} {_length(config)} ({fold.name}: {step} to {total} steps)",
    _describe_schedule(
      config,
      earlier.run_parameters(fold),
      experiment.run_parameters(fold),
      step,
      f"{now} {_length(config)}",
    ),
  ]


def _describe_schedule(
  config: ConfigDict, old: RunParameters, new: RunParameters, step: int, length: str
) -> str:
  """What the learning rate does at the step from which a run is extended.

  Args:
    config: the recipe.
    old: run parameters of a fold before.
    new: run parameters of the fold now.
    step: at which the run ended.
    length: of the extended run, in words.

  Returns:
    one line of text.
  """
  cosine = config.optimizer.schedule == "cosine"
  same = old.warmup_steps == new.warmup_steps and old.milestones == new.milestones
  if same and not (cosine and old.total_steps != new.total_steps):
    return (
      f"learning rate: its schedule ({config.optimizer.schedule}) does not depend on the length; "
      f"the result is that of a run of {length} from the start"
    )
  schedule = make_schedule(config.optimizer.schedule, gamma=config.optimizer.gamma)
  rates = [float(schedule(step, parameters.arrays())) for parameters in (old, new)]
  ends = (
    f"the cosine ends at step {new.total_steps} instead of {old.total_steps}"
    if cosine
    else f"the warm-up takes {new.warmup_steps} steps instead of {old.warmup_steps}"
  )
  return (
    f"learning rate: {ends}; at step {step} it goes from {rates[0]:.3g} to {rates[1]:.3g}. The "
    f"result is not that of a run of {length} from the start: optimizer.schedule=constant and a "
    "fixed optimizer.cosine_epochs allow that"
  )
