"""Command-line flags generated from the fields of a builder's Options dataclass."""

import argparse
import dataclasses
import inspect
import re
import textwrap
import types
import typing
from typing import Any

PREFIX = "option_"  # of destinations in the namespace, to separate them from other flags


def add_option_flags(parser: argparse.ArgumentParser, options: type) -> None:
  """Adds a flag for every field of an Options dataclass.

  `on_no_face: str = "skip"` becomes `--on-no-face`; a bool becomes `--align` and `--no-align`; a
  tuple of strings takes comma-separated values. The help texts are those of the docstring's
  "Attributes" section.

  Args:
    parser: parser to extend.
    options: a dataclass with defaults, of bool, int, float, str or tuple[str, ...].

  Raises:
    TypeError: a field of another type.
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
      **_argument_settings(field.name, types_of[field.name]),
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


def _argument_settings(name: str, kind: Any) -> dict[str, Any]:
  """Keyword arguments of `add_argument` for a value of a type."""
  if typing.get_origin(kind) in (types.UnionType, typing.Union):
    (kind,) = [part for part in typing.get_args(kind) if part is not type(None)]
  if kind is bool:
    return {"action": argparse.BooleanOptionalAction}
  if kind in (int, float, str):
    return {"type": kind, "metavar": {int: "N", float: "X", str: "WORD"}[kind]}
  if kind == tuple[str, ...]:
    return {"type": _split_words, "metavar": "WORD,WORD"}
  raise TypeError(f"option {name} has type {kind}, which is not supported as a flag")


def _split_words(text: str) -> tuple[str, ...]:
  return tuple(part.strip() for part in text.split(",") if part.strip())
