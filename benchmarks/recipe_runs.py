"""Whole calls of run.py, and what they scored."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCORES = ("uf1", "uar", "accuracy")


def run(recipe: str, workdir: pathlib.Path, *settings: str) -> None:
  """Trains "name.py:argument" of configs/ as a user would, on the CPU where nothing else is said.

  Raises:
    CalledProcessError: it failed; its own words are on the terminal.
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
