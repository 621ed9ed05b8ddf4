"""A copy of a dataset against its published numbers of images, class by class."""

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

Counts = Mapping[str, Mapping[str, int]]


def compare_counts(known: Counts, found: Counts, stored: Counts) -> list[dict[str, Any]]:
  """One row a class of every split of which the numbers are known.

  Args:
    known: split -> class -> published number.
    found: the same for the annotations of this copy, whether or not their images could be used.
    stored: the same for the images that the built dataset holds.

  Returns:
    rows {"split", "class", "expected", "found", "stored"}.
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


def log_counts(name: str, rows: list[dict[str, Any]]) -> None:
  """Says whether this copy has what was published: a table where it differs, else one line."""
  if not rows:
    return
  if all(row["expected"] == row["found"] == row["stored"] for row in rows):
    logger.info("dataset %s: all %d class counts are as published", name, len(rows))
    return
  lines = [f"{'split':<12}{'class':<12}{'expected':>9}{'found':>9}{'stored':>9}"]
  for row in rows:
    line = f"{row['split']:<12}{row['class']:<12}{row['expected']:>9}{row['found']:>9}"
    differs = not row["expected"] == row["found"] == row["stored"]
    lines.append(f"{line}{row['stored']:>9}{'  differs' if differs else ''}")
  logger.warning(
    "dataset %s: this copy differs from the published numbers (images found in the annotations, "
    "and stored):\n%s",
    name,
    "\n".join(lines),
  )
