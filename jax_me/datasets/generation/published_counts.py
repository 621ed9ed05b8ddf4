"""Comparison of a copy of a dataset with its published number of images per class."""

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO, TypedDict

from jax_me.terminal import format_table

logger = logging.getLogger(__name__)

Counts = Mapping[str, Mapping[str, int]]

# "class" is a keyword, so the fields are declared by the functional form.
CountRow = TypedDict(
  "CountRow", {"split": str, "class": str, "expected": int, "found": int, "stored": int}
)


def compare_counts(known: Counts, found: Counts, stored: Counts) -> list[CountRow]:
  """Returns one row per class of every split with published numbers.

  Args:
    known: split -> class -> published number.
    found: the same for the annotations of this copy, whether or not their images could be used.
    stored: the same for the images of the built dataset.

  Returns:
    Rows {"split", "class", "expected", "found", "stored"}.
  """
  return [
    {
      "split": split,
      "class": label,
      "expected": number,
      "found": found.get(split, {}).get(label, 0),
      "stored": stored.get(split, {}).get(label, 0),
    }
    for split, classes in known.items()
    for label, number in classes.items()
  ]


def log_counts(name: str, rows: list[CountRow]) -> None:
  """Logs one line if all counts are as published, else a table."""
  if not rows:
    return
  if all(row["expected"] == row["found"] == row["stored"] for row in rows):
    logger.info("dataset %s: all %d class counts are as published", name, len(rows))
    return
  logger.warning(
    "dataset %s: this copy differs from the published numbers (images found in the annotations, "
    "and stored):\n%s",
    *(name, format_counts(rows, sys.stderr)),
  )


def format_counts(rows: Sequence[Mapping[str, Any]], stream: TextIO | None = None) -> str:
  """Formats published and actual class counts as a table, with the sum of each split."""
  columns = ("expected", "found", "stored")
  lines: list[tuple[Any, ...]] = []
  for split in dict.fromkeys(row["split"] for row in rows):
    of_split = [row for row in rows if row["split"] == split]
    total = {key: sum(row[key] for row in of_split) for key in columns}
    for row in [*of_split, {"class": "all", **total}]:
      counts = [row[key] for key in columns]
      lines.append((split, row["class"], *counts, "" if len(set(counts)) == 1 else "differs"))
  return format_table(("split", "class", *columns, ""), lines, stream)
