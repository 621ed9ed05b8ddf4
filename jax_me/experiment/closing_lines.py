"""Last lines of a run on the terminal: its model, and the command that uses it."""

import pathlib
import shlex
import sys

from jax_me.datasets.quality.face_descriptors import MOTION_INPUTS
from jax_me.experiment.experiment import Experiment
from jax_me.manifest import MANIFEST_FILE
from jax_me.models.ensemble import ENSEMBLE_FOLDER, FOLDS_FILE
from jax_me.models.model_metadata import MODEL_FILE
from jax_me.models.saved_model import FINAL
from jax_me.terminal import HINT, program_name, styled


def closing_lines(experiment: Experiment, folder: pathlib.Path) -> list[str]:
  """The model of a finished run, and the next command to type.

  Args:
    experiment: of the run.
    folder: of the run.

  Returns:
    lines for the terminal.
  """
  following = styled("next:", HINT, sys.stdout)
  if experiment.pretraining:
    where = shlex.quote(str(folder))
    return [f"{following} fine-tune from it with --config.init_from={where}"]
  if (folder / FINAL / MANIFEST_FILE).exists():
    model, what = folder, f"the final model, trained on everybody (in {folder / FINAL})"
    if (folder / MODEL_FILE).exists():
      model, what = folder / FINAL, "the final model, trained on everybody"
  elif (folder / MANIFEST_FILE).exists():
    model, what = folder, "the tested model"
    if not len(experiment.folds[0].test):
      what = "trained on everybody"
  elif (folder / ENSEMBLE_FOLDER / FOLDS_FILE).exists():
    model, what = folder, f"mean of the probabilities of the {len(experiment.folds)} folds"
  else:
    return ["model: none; the weights of the folds are not kept (folds.weights=False)"]
  # A motion model compares frames; all others classify photographs too.
  motion = getattr(experiment.builder.options, "input", "") in MOTION_INPUTS
  source = "VIDEO" if motion else "PHOTO"
  lines = [f"model: {model}: {what}"]
  if experiment.config.final == "none" and experiment.config.data.split != "none":
    lines.append("to train one model on everybody: the same command with --config.final=all")
  where = shlex.quote(str(model))
  command = f"{program_name()} predict {source} --checkpoint {where} --output predictions"
  lines.append(f"{following} {command}")
  return lines
