"""The command line: `jax-me <command>`, or `python -m jax_me <command>` in a checkout."""

import argparse
import dataclasses
import importlib
import sys
import types

from jax_me.bundled import import_bundled
from jax_me.command_errors import install_interrupts, run_command
from jax_me.compilation_cache import use_compilation_cache
from jax_me.freed_memory import use_one_heap
from jax_me.terminal import HINT, program_name, styled


@dataclasses.dataclass(frozen=True)
class Command:
  """One command of the command line.

  Attributes:
    module: its module, imported only when the command is chosen. `configure(parser)` declares the
      options, and `main(args)` returns the exit code. Its errors become one line and the exit
      code 1 (`run_command`).
    summary: one line for the list of commands.
    example: a command line, without the name of the program.
    extra: the extra of the package that it needs, "" when the base install is enough.
  """

  module: str
  summary: str
  example: str
  extra: str = ""

  def load(self) -> types.ModuleType:
    """Imports the command's module."""
    if self.module.startswith("convert."):
      return import_bundled(self.module)
    return importlib.import_module(self.module)


TRAIN, EVALUATE = "train", "evaluate"
COMMANDS = {
  "compare": Command(
    "jax_me.reports.compare_cli",
    "compare runs on the same test examples, with paired intervals",
    "compare runs/vit runs/t2t --output comparison",
  ),
  "convert": Command(
    "convert.torch_to_flax",
    "convert a checkpoint into a model folder (PyTorch files need the extra convert)",
    "convert mae.pth --model vit_base_patch16 --num_classes 7 --output vit",
  ),
  "data": Command(
    "jax_me.datasets.cli",
    "build, list, check and preview datasets",
    "data build casme2 --manual-dir CASME2 --input flow",
    "train",
  ),
  "demo": Command(
    "jax_me.demo.cli",
    "show a page on this computer to try a model with photographs and clips",
    "demo --checkpoint runs/faces",
    "demo",
  ),
  "doctor": Command(
    "jax_me.doctor",
    "check this installation, and with --checkpoint a model folder",
    "doctor --checkpoint runs/faces",
  ),
  EVALUATE: Command(
    "jax_me.experiment.cli",
    "score a trained or converted model by a recipe",
    "evaluate --config finetune_rafdb --checkpoint runs/rafdb",
    "train",
  ),
  "explain": Command(
    "jax_me.inference.explain.cli",
    "show which parts of a face a prediction depends on: heat maps, reconstructions",
    "explain photo.jpg --output heat_maps",
  ),
  "export": Command(
    "convert.flax_to_torch",
    "write a model as a PyTorch checkpoint, or as a StableHLO or ONNX program",
    "export --checkpoint runs/faces --format stablehlo --output program",
    "convert",
  ),
  "faces": Command(
    "jax_me.faces.cli",
    "find and align the faces of a folder of images or clips",
    "faces --input photos --output faces --size 224",
  ),
  "models": Command(
    "jax_me.models.cli",
    "list the models: size, work, input, released weights",
    "models t2t_vit_14 --image-size 112",
  ),
  "podcheck": Command(
    "jax_me.podcheck.cli",
    "compile a recipe's step for a TPU pod without having one: memory, work, least time",
    "podcheck --config mae_affectnet --topology v5e:4x4",
    "train",
  ),
  "predict": Command(
    "jax_me.inference.cli",
    "read the expressions in photographs, videos, a camera",
    "predict video.mp4 --output out --annotate",
  ),
  "push": Command(
    "jax_me.inference.sharing.cli",
    "upload a model with a model card to the Hugging Face hub",
    "push runs/faces/final OWNER/NAME --licence cc-by-nc-4.0",
    "hub",
  ),
  "report": Command(
    "jax_me.reports.report_cli",
    "write a run's report again from its results",
    "report runs/faces --groups subjects.csv",
  ),
  "score": Command(
    "jax_me.reports.score_cli",
    "score a table of predictions from any source",
    "score predictions.csv --output scores",
  ),
  "settings": Command(
    "jax_me.training.settings_cli",
    "list the settings of a recipe, with their meaning",
    "settings finetune_images learning rate",
    "train",
  ),
  "study": Command(
    "jax_me.inference.study.cli",
    "read all videos of a study, with a table of participants",
    "study recordings --participants participants.csv --output results",
  ),
  TRAIN: Command(
    "jax_me.experiment.cli", "train and evaluate by a recipe", "train --config quickstart", "train"
  ),
  "verify": Command(
    "jax_me.inference.verify_cli",
    "score released weights on a validation folder against the published accuracy",
    "verify release://71.7_T2T_ViT_7.pth.tar --data imagenet/val",
  ),
}


def main(arguments: list[str] | None = None) -> int:
  """Runs one command.

  Args:
    arguments: the command line without the program's name; None takes that of the process.

  Returns:
    the exit code.
  """
  if arguments is None:
    install_interrupts()
    arguments = sys.argv[1:]
  name = next((word for word in arguments if not word.startswith("-")), "")
  return run_command(_dispatch, arguments, f"{program_name()} {name}".strip())


def _dispatch(arguments: list[str]) -> int:
  name = arguments[0] if arguments else ""
  use_compilation_cache()
  try:
    # Their flags are absl's, so that recipes can be changed on the command line.
    if name in (TRAIN, EVALUATE):
      if name == TRAIN:
        use_one_heap()
      mode = ["--mode=eval"] if name == EVALUATE else []
      COMMANDS[name].load().main([f"{program_name()} {name}", *mode, *arguments[1:]])
      return 0
    return _run(name, arguments)
  except ModuleNotFoundError as error:
    extra = COMMANDS[name].extra if name in COMMANDS else ""
    if not extra or (error.name or "").partition(".")[0] in ("jax_me", "convert", "configs"):
      raise
    print(
      f"{program_name()} {name}: the package {error.name} is not installed; "
      f'pip install "jax_me[{extra}]"',
      file=sys.stderr,
    )
    return 2


def _run(name: str, arguments: list[str]) -> int:
  parser = argparse.ArgumentParser(
    prog=program_name(),
    description="Facial expression and micro-expression recognition in JAX.",
  )
  commands = parser.add_subparsers(dest="command", required=True, metavar="<command>")
  for listed, entry in COMMANDS.items():
    command = commands.add_parser(listed, help=entry.summary, description=entry.summary)
    # Only the chosen command's module is imported, so that `--help` answers at once.
    if listed == name:
      entry.load().configure(command)
      example = f"example: {program_name()} {entry.example}"
      command.epilog = "\n\n".join(filter(None, [command.epilog, example]))
  if not arguments:
    parser.print_help(sys.stderr)
    return 2
  parsed, rest = parser.parse_known_args(arguments)
  if hasattr(parsed, "overrides"):
    parsed.overrides = rest  # Settings of a recipe: the command reads them itself.
  elif rest:
    parser.error(f"unrecognized arguments: {' '.join(rest)}")
  module = COMMANDS[name].load()
  code = module.run(parsed) if hasattr(module, "run") else module.main(parsed)
  # On standard error: what scripts read on standard output is the result alone.
  if not code and not getattr(parsed, "json", False) and hasattr(module, "next_step"):
    if step := module.next_step(parsed):
      print(styled("next:", HINT, sys.stderr), program_name(), step, file=sys.stderr)
  return code


if __name__ == "__main__":
  sys.exit(main())
