"""Command-line flags generated from the fields of a builder's Options dataclass."""

import argparse
import dataclasses
import inspect
import re
import textwrap
import typing
from typing import Any

PREFIX = "option_"  # of destinations in the namespace, to separate them from other flags


def _split_words(text: str) -> tuple[str, ...]:
  return tuple(part.strip() for part in text.split(",") if part.strip())


# Type of a field -> keyword arguments of `add_argument`.
_ARGUMENTS: dict[Any, dict[str, Any]] = {
  bool: {"action": argparse.BooleanOptionalAction},
  int: {"type": int, "metavar": "N"},
  float: {"type": float, "metavar": "X"},
  str: {"type": str, "metavar": "WORD"},
  str | None: {"type": str, "metavar": "WORD"},
  tuple[str, ...]: {"type": _split_words, "metavar": "WORD,WORD"},
}


def add_option_flags(parser: argparse.ArgumentParser, options: type) -> None:
  """Adds a flag for every field of an Options dataclass.

  `on_no_face: str = "skip"` becomes `--on-no-face`; a bool becomes `--align` and `--no-align`; a
  tuple of strings takes comma-separated values. The help texts are those of the docstring's
  "Attributes" section.

  Args:
    parser: parser to extend.
    options: a dataclass with defaults, of bool, int, float, str or tuple[str, ...].
  """
  descriptions = attribute_docs(options)
  types_of = typing.get_type_hints(options)
  group = parser.add_argument_group("options that change the content of the dataset")
  for field in dataclasses.fields(options):
    text = f"{descriptions.get(field.name, '')} (default {format_value(field.default)})".strip()
    group.add_argument(
      f"--{field.name.replace('_', '-')}",
      dest=PREFIX + field.name,
      default=argparse.SUPPRESS,
      help=text.replace("%", "%%"),
      **_ARGUMENTS[types_of[field.name]],
    )


def given_options(args: argparse.Namespace) -> dict[str, object]:
  """Options given on the command line: field -> value."""
  return {
    name.removeprefix(PREFIX): value
    for name, value in vars(args).items()
    if name.startswith(PREFIX)
  }


def attribute_docs(options: type) -> dict[str, str]:
  """Parses the "Attributes" sections of a class and its bases: field -> text on one line."""
  found: dict[str, str] = {}
  for cls in reversed(options.__mro__):
    section = re.search(
      r"^Attributes:\n((?:[ ]+.*\n|\n)*)", inspect.cleandoc(cls.__doc__ or "") + "\n", re.MULTILINE
    )
    if section:
      entries = re.split(r"^(\w+(?:, \w+)*): ", textwrap.dedent(section[1]), flags=re.MULTILINE)
      for names, text in zip(entries[1::2], entries[2::2], strict=True):
        found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
  return found


def format_value(value: object) -> str:
  """Formats an option's value as it is written on the command line."""
  if isinstance(value, bool):
    return "yes" if value else "no"
  if isinstance(value, list | tuple):
    return ",".join(map(str, value)) or "none"
  return "none" if value is None or value == "" else str(value)
