"""`python -m jax_me`: what it lists, and that every command can explain itself."""

import json

import pytest

from jax_me.__main__ import COMMANDS, main


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
  assert f"jax-me {name}" in printed
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


def test_unknown_options_are_told(capsys):
  with pytest.raises(SystemExit):
    main(["score", "predictions.csv", "--jsn"])
  assert "--jsn" in capsys.readouterr().err
