"""Text that commands print: tables and colours by rich on a terminal, plain text elsewhere."""

import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

GOOD, BAD, DOUBTFUL, HINT = "green", "bold red", "yellow", "bold cyan"


def program_name() -> str:
  """ "python -m jax_me" if the command was started from a checkout, else "jax-me"."""
  started = pathlib.Path(sys.argv[0]).name
  from_checkout = started in ("__main__.py", "run.py") or started.startswith("python -m")
  return "python -m jax_me" if from_checkout else "jax-me"


def styled(text: str, style: str, stream: TextIO) -> str:
  """The text with the codes of a style, if it is printed on a terminal with colours.

  Args:
    text: one line.
    style: in the words of rich, such as "bold red".
    stream: file that the text is printed to.

  Returns:
    the text, with or without codes.
  """
  if not stream.isatty():
    return text
  from rich.console import Console
  from rich.text import Text

  console = Console(file=stream)
  with console.capture() as captured:
    console.print(Text(text, style), end="", soft_wrap=True)
  return captured.get()


def print_error(message: object) -> None:
  """Prints a message of one line to standard error."""
  print(styled("error:", BAD, sys.stderr), message, file=sys.stderr, flush=True)


def format_table(
  header: Sequence[str], rows: Iterable[Sequence[Any]], stream: TextIO | None = None
) -> str:
  """Formats a table with columns of numbers aligned to the right.

  Args:
    header: names of the columns.
    rows: cells, of any type with a text.
    stream: file that it is printed to; by default standard output.

  Returns:
    lines without a final newline; on a terminal with a line below the header, and no wider.
  """
  cells = [list(map(str, row)) for row in rows]
  numeric = [all(map(_is_number, column)) for column in zip(*cells, strict=True)]
  numeric = numeric or [False] * len(header)
  stream = stream or sys.stdout
  if stream.isatty():
    return _drawn_table(header, cells, numeric, stream)
  lines = [list(header), *cells]
  width = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    "  ".join(
      cell.rjust(width[i]) if numeric[i] else cell.ljust(width[i]) for i, cell in enumerate(line)
    ).rstrip()
    for line in lines
  )


def _drawn_table(
  header: Sequence[str], cells: Iterable[Sequence[str]], numeric: Sequence[bool], stream: TextIO
) -> str:
  from rich import box
  from rich.console import Console
  from rich.table import Table
  from rich.text import Text

  table = Table(box=box.SIMPLE_HEAD, show_edge=False, header_style="bold")
  for name, right in zip(header, numeric, strict=True):
    table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
  for row in cells:
    table.add_row(*map(Text, row))
  console = Console(file=stream)
  with console.capture() as captured:
    console.print(table)
  return captured.get().rstrip("\n")


def _is_number(cell: str) -> bool:
  """Whether a cell has a number, perhaps with its unit or interval, or nothing."""
  return cell[:1].isdigit() or cell in ("", "-", "–")
