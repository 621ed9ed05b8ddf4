"""`python -m jax_me <command>`: one line a command; each lives in the room it belongs to."""

import argparse
import importlib
import sys

# name -> (module with configure(parser) and main(args) -> exit code, what it does)
COMMANDS = {
  "data": ("jax_me.datasets.cli", "build, list, check and preview datasets"),
  "explain": (
    "jax_me.inference.explain.cli",
    "show what a model's answers depend on: heat maps, reconstructions",
  ),
  "faces": ("jax_me.faces.cli", "find and align the faces of a folder of pictures or clips"),
  "podcheck": (
    "jax_me.podcheck.cli",
    "compile a recipe's step for a TPU pod that is not there: memory, work, least time",
  ),
  "predict": ("jax_me.inference.cli", "read the expressions of photographs, videos, a camera"),
  "report": ("jax_me.reports.report_cli", "write a run's report again from its results"),
  "score": ("jax_me.reports.score_cli", "score a table of predictions, anyone's"),
}


def main(arguments: list[str] | None = None) -> int:
  arguments = sys.argv[1:] if arguments is None else arguments
  parser = argparse.ArgumentParser(
    prog="python -m jax_me",
    description="Facial expression and micro-expression recognition in JAX.",
  )
  commands = parser.add_subparsers(dest="command", required=True, metavar="<command>")
  for name, (module, summary) in COMMANDS.items():
    command = commands.add_parser(name, help=summary, description=summary)
    # Only the chosen command's room is imported: `--help` stays instant.
    if arguments and arguments[0] == name:
      importlib.import_module(module).configure(command)
  if not arguments:
    parser.print_help(sys.stderr)
    return 2
  parsed, rest = parser.parse_known_args(arguments)
  if hasattr(parsed, "overrides"):
    parsed.overrides = rest  # Settings of a recipe: the command reads them itself.
  elif rest:
    parser.error(f"unrecognized arguments: {' '.join(rest)}")
  return importlib.import_module(COMMANDS[parsed.command][0]).main(parsed)


if __name__ == "__main__":
  sys.exit(main())
