"""Complete runs of run.py and their pooled scores."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCORES = ("uf1", "uar", "accuracy")


def run(recipe: str, workdir: pathlib.Path, *settings: str) -> None:
  """Trains the recipe "name.py:argument" of configs/, on the CPU unless JAX_PLATFORMS is set.

  Raises:
    CalledProcessError: the run failed; its error output is on the terminal.
  """
  command = [sys.executable, "run.py", f"--config=configs/{recipe}", f"--workdir={workdir}"]
  subprocess.run(
    [*command, *settings],
    cwd=ROOT,
    env={"JAX_PLATFORMS": "cpu", **os.environ},
    stdout=subprocess.DEVNULL,
    check=True,
  )


def scores(workdir: pathlib.Path) -> dict[str, float]:
  """Pooled scores of a finished run."""
  found = json.loads((workdir / "report/scores.json").read_text())
  return {name: round(found["pooled"][name], 4) for name in SCORES}
