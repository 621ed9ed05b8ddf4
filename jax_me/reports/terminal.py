"""The scores of a table as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax_me.evaluation.metrics import SCORE_NAMES
from jax_me.reports.calibration_sections import calibration_text
from jax_me.reports.score_text import (
  baseline,
  clip_scores,
  interval_method,
  mean_beside,
  pooling,
  score_text,
  score_with_interval,
)

SCORE_HEADER = ("UF1", "UAR", "accuracy", "examples")


def describe(summary: Mapping[str, Any], labels: Sequence[str]) -> str:
  """Pooled scores first, then databases, classes, confusion matrix, groups and what to beware."""
  pooled = summary["pooled"]
  parts = {"composite" if summary["databases"] else "pooled": pooled, **summary["databases"]}
  blocks = [
    _aligned(("", *SCORE_HEADER), [(name, *_scores(part)) for name, part in parts.items()]),
    "\n".join([pooling(summary), baseline(summary), interval_method(summary)]),
    _aligned(
      ("class", "precision", "recall", "F1", "examples", "predicted"),
      [
        (
          row["label"],
          *(score_text(row[key]) for key in ("precision", "recall", "f1")),
          str(row["support"]),
          str(row["predicted"]),
        )
        for row in pooled["per_class"]
      ],
    ),
    _aligned(
      ("truth \\ prediction", *labels),
      [(name, *map(str, row)) for name, row in zip(labels, summary["confusion"], strict=True)],
    ),
  ]
  for division, groups in summary["groups"].items():
    rows = [(name, *_scores(part), str(part["subjects"])) for name, part in groups.items()]
    blocks.append(_aligned((division, *SCORE_HEADER, "subjects"), rows))
  if summary["calibration"]:
    blocks.append(calibration_text(summary["calibration"]))
  if clips := clip_scores(summary):
    blocks.insert(1, clips)
  if beside := mean_beside(summary):
    blocks.append(beside)
  warnings = [*summary["cautions"], *pooled["notes"]]
  if warnings:
    blocks.append("\n".join(f"warning: {sentence}" for sentence in warnings))
  return "\n\n".join(blocks)


def _scores(part: Mapping[str, Any]) -> list[str]:
  return [*(score_with_interval(part, name) for name in SCORE_NAMES), str(part["examples"])]


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  lines = [header, *rows]
  widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
  return "\n".join(
    "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    for line in lines
  )
