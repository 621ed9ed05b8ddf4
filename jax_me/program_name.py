"""Name of the running program, for the commands in its messages."""

import pathlib
import sys


def program_name() -> str:
  """ "python -m jax_me" if it was started from a checkout, else "jax-me"."""
  started = pathlib.Path(sys.argv[0]).name
  from_checkout = started in ("__main__.py", "run.py") or started.startswith("python -m")
  return "python -m jax_me" if from_checkout else "jax-me"
