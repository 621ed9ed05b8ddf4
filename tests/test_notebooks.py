"""The notebooks in docs/notebooks run from top to bottom."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import pytest

from jax_me import bundled
from tests.test_documented_commands import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb"))


def code_of(notebook: pathlib.Path) -> list[str]:
  cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
  return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_are_python_without_stored_outputs(notebook):
  for code in code_of(notebook):
    ast.parse(code)
  for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
    assert not cell.get("outputs")


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_run_in_order(notebook, tmp_path):
  pytest.importorskip("pandas", reason="the notebooks use pandas")
  if "jax_me.load()" in notebook.read_text(encoding="utf-8"):
    if not bundled.EXPRESSION_MODEL.exists():
      pytest.skip("this version has no expression model")
  script = tmp_path / "cells.py"
  script.write_text("\n\n".join(code_of(notebook)), encoding="utf-8")
  environment = {
    **os.environ,
    "PYTHONPATH": str(REPOSITORY),
    "JAX_PLATFORMS": "cpu",
    "MPLBACKEND": "Agg",
  }
  run = subprocess.run(
    [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True
  )
  assert run.returncode == 0, run.stderr
