"""`jax-me train` and `run.py`: training and evaluation with a recipe.

--config NAME|FILE[:ARGUMENT]  the recipe; any of its settings as --config.<key>=<value>
--workdir DIR                  folder of the run; repeating the command resumes it
--mode train|eval              train and evaluate, or only evaluate the newest checkpoint
--distributed auto|HOST:PORT   one run in several processes; see README, "TPU pod training"
"""

import logging
import pathlib
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from jax_me.training import recipes, settings

CONFIG = config_flags.DEFINE_config_file("config", help_string="Recipe, e.g. configs/quickstart.py")
WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of the run; default: runs/<recipe>_<argument>."
)
DISTRIBUTED = flags.DEFINE_string(
  "distributed",
  "",
  "Several processes: auto (TPU pod, Slurm, Open MPI), or host:port of process 0.",
)
PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes, where not detected.")
PROCESS = flags.DEFINE_integer("process", None, "Index of this process, from 0.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train and evaluate, or evaluate.")


def main(arguments: list[str]) -> None:
  """Runs a recipe and exits the process.

  Args:
    arguments: the command line, program name first.
  """
  app.run(_run, argv=arguments, flags_parser=_parse)


def _parse(arguments: list[str]) -> list[str]:
  """Parses flags; a misspelt setting gives a one-line message instead of a traceback."""
  program = pathlib.Path(arguments[0]).name
  arguments, extra = settings.take_open_overrides(arguments)
  sys.argv = arguments  # config_flags looks for overrides there.
  if any(a.lstrip("-").startswith("help") for a in arguments[1:]):
    listed = ", ".join(recipes.recipe_names())
    print(f"{__doc__}\nRecipes: {listed}\n{flags.FLAGS.module_help(__name__)}")
    sys.exit(0)
  try:
    arguments[:] = recipes.with_recipe_file(arguments)
    recipe = recipes.recipe_argument(arguments)
    settings.check_names(arguments, recipes.load_recipe(recipe))
  except settings.SettingsError as error:
    sys.exit(f"{program}: {error}")
  rest = app.parse_flags_with_usage(arguments)
  settings.apply(CONFIG.value, extra)
  return rest


def _run(_: list[str]) -> None:
  # Imported here to keep --help fast.
  from jax_me.experiment.run import run_experiment
  from jax_me.training.processes import DistributedError, connect

  if not any(a.lstrip("-").startswith("verbosity") for a in sys.argv):
    absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax logs every file that it writes.
    logging.getLogger("jax_me").setLevel(logging.INFO)

  try:
    connect(DISTRIBUTED.value, PROCESSES.value, PROCESS.value)
  except DistributedError as error:
    sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {error}")
  path, *variant = recipes.recipe_argument(sys.argv).split(":", 1)
  workdir = WORKDIR.value or "runs/" + "_".join([pathlib.Path(path).stem, *variant])
  sys.exit(run_experiment(CONFIG.value, workdir=workdir, mode=MODE.value))
