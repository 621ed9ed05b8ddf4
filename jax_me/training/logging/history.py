"""Reads back a metrics log (`metrics.jsonl`): one JSON object a line, each with a "step"."""

import json
import math
import os
from typing import Any

Row = dict[str, Any]


def read_history(path: str | os.PathLike[str]) -> list[Row]:
  """The rows of a metrics log.

  A process that is killed leaves its last line torn, and the next one appends behind it; lines that
  are not objects with a finite "step" are passed over. A missing file is an empty history.
  """
  rows = []
  try:
    with open(path, encoding="utf-8", errors="replace") as file:
      for line in file:
        try:
          row = json.loads(line)
        except ValueError:
          continue
        if isinstance(row, dict) and _is_step(row.get("step")):
          rows.append(row)
  except FileNotFoundError:
    return []
  return rows


def _is_step(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
