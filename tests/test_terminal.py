"""Tables, colours and names of commands, on a terminal and elsewhere."""

import io
import os
import re
import subprocess
import sys
import types

import pytest

from jax_me import terminal
from jax_me.__main__ import main

ROWS = [("convnextv2_atto", "3.7 M", 224), ("vit_base", "86.6 M", 1024)]
PLAIN = """\
model            parameters  input
convnextv2_atto       3.7 M    224
vit_base             86.6 M   1024"""


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def on_terminal(monkeypatch):
  """Standard output and error are a terminal of 80 columns with colours."""
  for name in ("NO_COLOR", "FORCE_COLOR"):
    monkeypatch.delenv(name, raising=False)
  for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "80")):
    monkeypatch.setenv(name, value)
  screen = types.SimpleNamespace(stdout=Terminal(), stderr=Terminal())
  monkeypatch.setattr(terminal, "sys", screen)
  return screen


def test_a_table_is_plain_text_where_no_terminal_is():
  assert terminal.format_table(("model", "parameters", "input"), ROWS) == PLAIN


def test_a_table_on_a_terminal_has_colours_and_fits(on_terminal, monkeypatch):
  table = terminal.format_table(("model", "parameters", "input"), ROWS)
  assert "\x1b[1m" in table and "─" in table and "convnextv2_atto" in table
  monkeypatch.setenv("COLUMNS", "24")
  narrow = terminal.format_table(("model", "parameters", "input"), ROWS)
  lines = re.sub(r"\x1b\[[\d;]*m", "", narrow).splitlines()
  assert max(map(len, lines)) <= 24
  assert "convnextv2_atto" in "".join(line.split("  ")[0].strip() for line in lines[2:])


def test_cells_are_not_taken_for_markup(on_terminal, monkeypatch):
  monkeypatch.setenv("NO_COLOR", "1")
  assert "[red]a[/red]" in terminal.format_table(("[b]",), [("[red]a[/red]",)])
  assert "[red]" in terminal.styled("[red]", terminal.BAD, on_terminal.stdout)


@pytest.mark.parametrize("rows", [[], [("", 1)]])
def test_tables_without_rows_or_texts(rows):
  assert terminal.format_table(("a", "b"), rows).splitlines()[0] == "a  b"


def test_words_are_coloured_on_a_terminal_only(on_terminal, monkeypatch):
  assert terminal.styled("error:", terminal.BAD, io.StringIO()) == "error:"
  assert terminal.styled("error:", terminal.BAD, on_terminal.stderr) == "\x1b[1;31merror:\x1b[0m"
  monkeypatch.setenv("NO_COLOR", "1")
  assert "\x1b[31" not in terminal.styled("error:", terminal.BAD, on_terminal.stderr)


def test_an_error_on_a_terminal_is_one_line(on_terminal):
  terminal.print_error("a.jpg: not an image, " + "x" * 200)
  assert on_terminal.stderr.getvalue().count("\n") == 1


@pytest.mark.parametrize(
  ("started", "name"),
  [
    ("/env/bin/jax-me", "jax-me"),
    ("run.py", "python -m jax_me"),
    ("/repository/jax_me/__main__.py", "python -m jax_me"),
    ("python -m jax_me train", "python -m jax_me"),
    ("jax-me train", "jax-me"),
  ],
)
def test_messages_name_the_program_that_was_started(monkeypatch, started, name):
  monkeypatch.setattr(sys, "argv", [started])
  assert terminal.program_name() == name


def test_the_list_of_models_is_plain_in_a_pipe(capsys):
  assert main(["models"]) == 0
  assert "\x1b" not in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.slow
def test_a_command_on_a_real_terminal_is_coloured(repository):
  import pty  # Windows has no such module.

  ours, theirs = pty.openpty()
  process = subprocess.Popen(
    [sys.executable, "-m", "jax_me", "models"],
    cwd=repository,
    stdout=theirs,
    stderr=subprocess.DEVNULL,
    env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
  )
  os.close(theirs)
  printed = b""
  try:
    while block := os.read(ours, 65536):
      printed += block
  except OSError:  # The other side is closed.
    pass
  os.close(ours)
  assert process.wait() == 0
  assert b"\x1b[1m" in printed and b"vit_base_patch16" in printed
