"""`jax-me train`, `jax-me evaluate` and `run.py`: training and evaluation with a recipe.

--config NAME|FILE[:ARGUMENT]  the recipe; any of its settings as --config.<key>=<value>
--list                         print all settings of the recipe with their meaning, and stop
--workdir DIR                  folder of the run; repeating the command resumes it
--mode train|eval|knn          train and evaluate, or only evaluate: the newest checkpoint of the
                               run, or the model of --checkpoint; knn: nearest neighbours on the
                               features of the model of --checkpoint, without training
--checkpoint SOURCE            with --mode eval or knn: a model folder, a run, a checkpoint file, or
                               a name (hf://OWNER/NAME, timm://NAME, release://FILE)
--labels A,B,C                 classes of your own images to use; with --checkpoint: names of the
                               model's classes
--allow-rare-labels            keep a label that occurs once beside a similar one (hapy, happy)
--final                        after the folds, train one model on everybody
--offline                      download no weights
--json                         with --mode eval or knn: print the scores as one JSON document,
                               and all else on standard error
--distributed auto|HOST:PORT   one run in several processes; see docs/distributed.md

examples: jax-me train --config finetune_images --config.data.manual_dir=FOLDER --epochs=50
          jax-me evaluate --config finetune_images --checkpoint runs/finetune_images
"""

import contextlib
import json
import logging
import pathlib
import sys
from typing import NoReturn

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from jax_me.bundled import import_bundled
from jax_me.command_errors import run_command
from jax_me.compilation_cache import use_compilation_cache
from jax_me.training import recipes, settings
from jax_me.training.setting_list import format_settings, list_settings, print_list

CONFIG = config_flags.DEFINE_config_file(
  "config",
  help_string="Recipe, e.g. configs/quickstart.py",
  lock_config=False,
  accept_new_attributes=True,
)
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
MODE = flags.DEFINE_enum(
  "mode", "train", ["train", "eval", "knn"], "Train and evaluate, or evaluate."
)
CHECKPOINT = flags.DEFINE_string(
  "checkpoint",
  None,
  "With --mode=eval or knn: model folder, run, checkpoint file or name of weights to evaluate.",
)
LABELS = flags.DEFINE_string(
  "labels",
  None,
  "Classes of your own images to use. With --mode=eval: names of the model's classes, in the order "
  "of its logits.",
)
LIST = flags.DEFINE_bool("list", False, "Print all settings of the recipe, and stop.")
OFFLINE = flags.DEFINE_bool("offline", False, "Download no weights.")
JSON = flags.DEFINE_bool(
  "json", False, "With --mode=eval or knn: print the scores as JSON, all else on standard error."
)


class _RecipeParser(flags.ArgumentParser):
  """Finds a recipe by path or name, and refuses overrides of settings that it does not have."""

  dataset = ""  # Of the recipe, before overrides.

  def parse(self, argument: str) -> ConfigDict:
    recipe = settings.accept_overrides(recipes.load_recipe(argument), sys.argv)
    self.dataset = recipe.data.name
    return recipe


_RECIPE_PARSER = _RecipeParser()
flags.FLAGS[CONFIG.name].parser = _RECIPE_PARSER


# Flags without a value -> the setting that they change.
SHORT_FLAGS = {
  "--allow-rare-labels": "data.allow_rare_labels=True",
  "--final": "final=all",
}


def main(arguments: list[str]) -> None:
  """Runs a recipe and exits the process.

  Args:
    arguments: the command line, program name first.
  """
  use_compilation_cache()

  def run(words: list[str]) -> None:
    app.run(_run, argv=words, flags_parser=_parse)

  sys.exit(run_command(run, arguments, pathlib.Path(arguments[0]).name))


def _parse(arguments: list[str]) -> list[str]:
  """Parses flags; a misspelt setting gives a one-line message instead of a traceback."""
  if any(a.lstrip("-").startswith("help") for a in arguments[1:]):
    listed = ", ".join(recipes.recipe_names())
    print(f"{__doc__}\nRecipes: {listed}\n{flags.FLAGS.module_help(__name__)}")
    sys.exit(0)
  arguments = [
    f"--{CONFIG.name}.{SHORT_FLAGS[word]}" if word in SHORT_FLAGS else word for word in arguments
  ]
  sys.argv = arguments  # config_flags looks for overrides there.
  no_recipe = "give a recipe, for example --config configs/quickstart.py"
  try:
    rest = flags.FLAGS(arguments)[1:]
    problem = f"unknown argument {rest[0]!r}" if rest else ""
    problem = no_recipe if CONFIG.value is None else problem
    if not problem and CHECKPOINT.value and MODE.value == "train":
      problem = "--checkpoint needs --mode eval or knn; to train from it, --config.init_from"
    if not problem and JSON.value and MODE.value == "train":
      problem = "--json needs --mode eval or knn; training writes report/scores.json"
    if not problem and LABELS.value and MODE.value != "eval":
      if CONFIG.value.data.name != "labeled_images":
        problem = "--labels needs --mode eval, or your own images (data.name=labeled_images)"
  except flags.UnrecognizedFlagError as error:
    name = error.flagname.partition("=")[0]
    near = settings.nearest_settings(name)
    problem = f"unknown flag --{name}"
    if name.startswith(f"{CONFIG.name}."):  # The settings of a recipe are unknown without it.
      problem = no_recipe
    elif near:
      flag = f"--{CONFIG.name}."
      problem += f"; a setting is changed with {' or '.join(f'{flag}{key}=...' for key in near)}"
  except flags.Error as error:
    problem = settings.describe_flag_error(error)
  if problem:
    _refuse(problem)
  if CONFIG.value.data.name != _RECIPE_PARSER.dataset:
    _drop_options_of_other_dataset(CONFIG.value, arguments)
  CONFIG.value.lock()
  if LIST.value:
    recipe = config_flags.get_config_filename(flags.FLAGS[CONFIG.name])
    print_list(format_settings(list_settings(CONFIG.value), recipe))
    sys.exit(0)
  return arguments


def _refuse(problem: object) -> NoReturn:
  print(f"{pathlib.Path(sys.argv[0]).name}: {problem}", file=sys.stderr)
  sys.exit(2)


def _drop_options_of_other_dataset(config: ConfigDict, arguments: list[str]) -> None:
  """Drops the recipe's options for its own dataset that the chosen dataset does not have."""
  from jax_me.datasets import catalog  # Imported here to keep --help fast.

  if config.data.name not in catalog.BUILDERS:
    return  # Reported with the other settings.
  known = catalog.describe(config.data.name).options
  for name in list(config.data.options):
    given = any(a.lstrip("-").startswith(f"config.data.options.{name}") for a in arguments)
    if name not in known and not given:
      del config.data.options[name]


class _MessageFormatter(logging.Formatter):
  """The message alone; warnings and errors with their level before it."""

  def format(self, record: logging.LogRecord) -> str:
    level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
    return level + super().format(record)


def _run(_: list[str]) -> None:
  if not any(a.lstrip("-").startswith("verbosity") for a in sys.argv):
    absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax logs every file that it writes.
    logging.getLogger("jax_me").setLevel(logging.INFO)
  if not DISTRIBUTED.value:  # Logs of several processes keep the time and the process.
    absl_logging.get_absl_handler().setFormatter(_MessageFormatter())
  # Imported here to keep --help fast, and below the settings of the log: Matplotlib writes to it.
  from jax_me.reports.run_report import read_scores
  from jax_me.training.processes import DistributedError, connect, is_writer

  try:
    connect(DISTRIBUTED.value, PROCESSES.value, PROCESS.value)
  except DistributedError as error:
    _refuse(error)
  recipe = config_flags.get_config_filename(flags.FLAGS[CONFIG.name])
  path, *variant = recipe.split(":", 1)
  name = [pathlib.Path(path).stem, *variant]
  if CHECKPOINT.value:
    CONFIG.value.init_from = CHECKPOINT.value
    name += [MODE.value, pathlib.Path(CHECKPOINT.value).absolute().name]
  if OFFLINE.value:
    import_bundled("convert.weight_names").go_offline()
  workdir = WORKDIR.value or "runs/" + "_".join(name)
  with contextlib.redirect_stdout(sys.stderr) if JSON.value else contextlib.nullcontext():
    code = _run_mode(workdir)
  if JSON.value and not code and is_writer():
    print(json.dumps(read_scores(workdir), indent=2))
  sys.exit(code)


def _run_mode(workdir: str) -> int:
  if MODE.value == "knn":
    from jax_me.experiment.nearest_neighbours import run_neighbours

    return run_neighbours(CONFIG.value, workdir=workdir)
  from jax_me.experiment.run import run_experiment

  labels = [label.strip() for label in LABELS.value.split(",")] if LABELS.value else None
  if labels and MODE.value == "train":
    with CONFIG.value.unlocked():
      CONFIG.value.data.options.labels = tuple(labels)
    labels = None
  return run_experiment(CONFIG.value, workdir=workdir, mode=MODE.value, labels=labels)
