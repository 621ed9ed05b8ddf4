"""`python -m jax_me`: what it lists, and that every command can explain itself."""

import argparse
import json
import re

import pytest

from jax_me.__main__ import COMMANDS, EVALUATE, main


def test_without_a_command_it_lists_them(capsys):
  assert main([]) == 2
  listed = capsys.readouterr().err
  assert all(name in listed for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name, capsys):
  with pytest.raises(SystemExit) as end:
    main([name, "--help"])
  assert end.value.code == 0
  printed = capsys.readouterr().out
  assert re.search(rf"jax[-_]me {name}\b", printed)  # `python -m jax_me` under `python -m pytest`.
  assert "example" in printed and COMMANDS[name].example.startswith(f"{name} ")


def test_a_command_ends_with_the_next_step(tmp_path, capsys):
  table = tmp_path / "predictions.csv"
  table.write_text("truth,prediction,subject\na,a,s1\nb,a,s2\n")
  assert main(["score", str(table), "--resamples", "20"]) == 0
  assert f"next: jax-me score {table} --output" in capsys.readouterr().err.replace(
    "python -m jax_me", "jax-me"
  )
  assert main(["score", str(table), "--resamples", "20", "--json"]) == 0
  printed = capsys.readouterr()
  assert json.loads(printed.out) and "next:" not in printed.err


def test_the_page_lists_the_commands_with_json(repository):
  def with_json(name, parser):
    for action in parser._actions:
      if isinstance(action, argparse._SubParsersAction):
        for word, child in action.choices.items():
          yield from with_json(f"{name} {word}", child)
      elif "--json" in action.option_strings and action.nargs == 0:  # not with a FILE
        yield name

  found = {EVALUATE}  # Its flags are absl's.
  for name, command in COMMANDS.items():
    module = command.load()
    if hasattr(module, "configure"):
      parser = argparse.ArgumentParser()
      module.configure(parser)
      found.update(with_json(name, parser))
  page = (repository / "docs" / "command_line.md").read_text(encoding="utf-8")
  assert set(re.findall(r"^\| `([\w ]+) --json` \|", page, re.MULTILINE)) == found


def test_unknown_options_are_told(capsys):
  with pytest.raises(SystemExit):
    main(["score", "predictions.csv", "--jsn"])
  assert "--jsn" in capsys.readouterr().err
