"""`python -m jax_me`: what it lists, and that every command can explain itself."""

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
  assert f"jax-me {name}" in capsys.readouterr().out


def test_unknown_options_are_told(capsys):
  with pytest.raises(SystemExit):
    main(["score", "predictions.csv", "--jsn"])
  assert "--jsn" in capsys.readouterr().err
