"""Trains and evaluates by a recipe: `python run.py --config configs/quickstart.py`.

--config FILE[:ARGUMENT]   the recipe; any of its settings as --config.<key>=<value>
--workdir DIR              where the run lives; the same command again resumes it
--mode train|eval          train (and evaluate), or only evaluate the newest checkpoint
--distributed auto|HOST:PORT   one run in several processes; see README, "TPU pod training"
"""

import logging
import pathlib
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from jax_me.training import settings

CONFIG = config_flags.DEFINE_config_file("config", help_string="Recipe, e.g. configs/quickstart.py")
WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of the run; default: runs/<recipe>_<argument>."
)
DISTRIBUTED = flags.DEFINE_string(
  "distributed",
  "",
  "Several processes: auto (TPU pod, Slurm, Open MPI), or host:port of process 0.",
)
PROCESSES = flags.DEFINE_integer("processes", None, "Their number, where it is not found out.")
PROCESS = flags.DEFINE_integer("process", None, "Number of this one, from 0.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train and evaluate, or evaluate.")


def parse(arguments: list[str]) -> list[str]:
  """Parses flags; a misspelt setting ends with one line instead of a traceback."""
  arguments, extra = settings.take_open_overrides(arguments)
  sys.argv = arguments  # config_flags looks for overrides there.
  if any(a.lstrip("-").startswith("help") for a in arguments[1:]):
    return app.parse_flags_with_usage(arguments)
  try:
    recipe = settings.recipe_of(arguments)
    settings.check_names(arguments, settings.load_recipe(recipe))
  except settings.SettingsError as error:
    sys.exit(f"run.py: {error}")
  rest = app.parse_flags_with_usage(arguments)
  settings.apply(CONFIG.value, extra)
  return rest


def main(_: list[str]) -> None:
  # Imported here, so that --help answers at once.
  from jax_me.experiment.run import run_experiment
  from jax_me.training.processes import DistributedError, connect

  if not any(a.lstrip("-").startswith("verbosity") for a in sys.argv):
    absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax tells of every file it writes.
    logging.getLogger("jax_me").setLevel(logging.INFO)

  try:
    connect(DISTRIBUTED.value, PROCESSES.value, PROCESS.value)
  except DistributedError as error:
    sys.exit(f"run.py: {error}")
  recipe = settings.recipe_of(sys.argv)
  path, *variant = recipe.split(":", 1)
  workdir = WORKDIR.value or "runs/" + "_".join([pathlib.Path(path).stem, *variant])
  sys.exit(run_experiment(CONFIG.value, workdir=workdir, mode=MODE.value))


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
