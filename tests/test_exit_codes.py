"""Exit codes of all commands, as docs/command_line.md lists them."""

import os
import re
import subprocess
import sys

import pytest

from jax_me.__main__ import COMMANDS, EVALUATE, TRAIN, main

# Arguments of each command with an input that does not exist, or is out of range.
# Those of `doctor` are a result, on standard output: see tests/test_doctor.py.
INVALID = {
  "compare": ["nothing.csv", "none.csv"],
  "convert": ["nothing.pth", "--output", "out"],
  "data": ["build", "labeled_images", "--manual-dir", "nothing"],
  "demo": ["--port", "0"],
  EVALUATE: ["--config", "nothing"],
  "explain": ["nothing.png", "--output", "out"],
  "export": ["--checkpoint", "nothing", "--output", "out"],
  "faces": ["--input", "nothing", "--output", "out"],
  "models": ["nothing"],
  "podcheck": ["--config", "nothing", "--topology", "v5e:2x2"],
  "predict": ["nothing.png"],
  "push": ["nothing", "OWNER/NAME"],
  "report": ["nothing"],
  "score": ["nothing.csv"],
  "settings": ["nothing"],
  "study": ["nothing", "--output", "out"],
  TRAIN: ["--config", "nothing"],
  "verify": ["release://nothing", "--data", "."],
}
RECIPE_FLAGS = (TRAIN, EVALUATE)  # Theirs are absl's, whose state is that of the process.


@pytest.fixture(scope="module")
def rows(repository):
  """The rows of the page: code -> meaning."""
  page = (repository / "docs" / "command_line.md").read_text(encoding="utf-8")
  return dict(re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE))


def assert_refused(name, code, printed, error, rows):
  assert code == (2 if f"`{name}`" in rows["2"] else 1)
  assert printed == "" and "Traceback" not in error
  assert error
  if name != "convert":  # It lists keys.
    assert len(error.splitlines()) == 1


def test_every_command_is_tested():
  assert INVALID.keys() | {"doctor"} == COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(INVALID.keys() - RECIPE_FLAGS))
def test_invalid_input(name, rows, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr("jax_me.faces.cli.print_license_notice", lambda: None)
  code = main([name, *INVALID[name]])
  assert_refused(name, code, *capsys.readouterr(), rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RECIPE_FLAGS))
def test_invalid_recipe(name, rows, repository, tmp_path):
  for arguments in (INVALID[name], ["--config", "quickstart", "--nothing"]):
    done = subprocess.run(
      [sys.executable, "-m", "jax_me", name, *arguments],
      cwd=tmp_path,
      env={**os.environ, "PYTHONPATH": str(repository)},
      capture_output=True,
      text=True,
    )
    assert_refused(name, done.returncode, done.stdout, done.stderr, rows)


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - RECIPE_FLAGS))
def test_an_unknown_option_is_wrong_usage(name):
  try:
    code = main([name, "--nothing"])
  except SystemExit as end:  # of argparse
    code = end.code
  assert code == 2
