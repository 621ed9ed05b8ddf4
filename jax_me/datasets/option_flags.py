"""Flags of the command line made from a builder's Options, so that each is declared only once."""

import argparse
import dataclasses
import inspect
import re
import textwrap
import types
import typing
from typing import Any

PREFIX = "option_"  # of the flags' names in a namespace, apart from the command's own


def add_option_flags(parser: argparse.ArgumentParser, options: type) -> None:
  """Declares a flag for every field of an Options dataclass.

  `on_no_face: str = "skip"` becomes `--on-no-face`, a bool `--align` and `--no-align`, a tuple of
  texts takes them with commas between. The help is that of the docstring's "Attributes" section.

  Args:
    parser: gets the flags.
    options: a dataclass with defaults, of bool, int, float, str or tuple[str, ...].

  Raises:
    TypeError: a field of another type.
  """
  described = attribute_texts(options)
  types_of = typing.get_type_hints(options)
  group = parser.add_argument_group("options, part of the dataset's identity")
  for field in dataclasses.fields(options):
    text = f"{described.get(field.name, '')} (default {shown(field.default)})".strip()
    group.add_argument(
      f"--{field.name.replace('_', '-')}",
      dest=PREFIX + field.name,
      default=argparse.SUPPRESS,
      help=text.replace("%", "%%"),
      **_reader(field.name, types_of[field.name]),
    )


def given_options(args: argparse.Namespace) -> dict[str, Any]:
  """The options that were given on the command line: field -> value."""
  return {
    name.removeprefix(PREFIX): value
    for name, value in vars(args).items()
    if name.startswith(PREFIX)
  }


def attribute_texts(options: type) -> dict[str, str]:
  """What the "Attributes" sections of a class and its bases say: field -> text on one line."""
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


def shown(value: Any) -> str:
  """A value of an option as one would write it after its flag."""
  if isinstance(value, bool):
    return "yes" if value else "no"
  if isinstance(value, list | tuple):
    return ",".join(map(str, value)) or "none"
  return "none" if value is None or value == "" else str(value)


def _reader(name: str, kind: Any) -> dict[str, Any]:
  """The keywords of `add_argument` that read a value of a type."""
  if typing.get_origin(kind) in (types.UnionType, typing.Union):
    (kind,) = [part for part in typing.get_args(kind) if part is not type(None)]
  if kind is bool:
    return {"action": argparse.BooleanOptionalAction}
  if kind in (int, float, str):
    return {"type": kind, "metavar": {int: "N", float: "X", str: "WORD"}[kind]}
  if kind == tuple[str, ...]:
    return {"type": _split, "metavar": "WORD,WORD"}
  raise TypeError(f"no flag can be made for option {name} of type {kind}")


def _split(text: str) -> tuple[str, ...]:
  return tuple(part.strip() for part in text.split(",") if part.strip())
