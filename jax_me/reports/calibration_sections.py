"""Report sections for calibration and for groups of subjects."""

from __future__ import annotations

from collections.abc import Mapping

from jax_me.evaluation.calibration import Calibration
from jax_me.evaluation.metrics import SCORE_NAMES
from jax_me.evaluation.summary import GroupScores, ScoreSummary
from jax_me.reports.document import Block, Figure, Section, Table, Text
from jax_me.reports.plots import draw_reliability
from jax_me.reports.score_text import (
  describe_calibration,
  interval_text,
  score_text,
  score_with_interval,
)


def calibration_and_group_sections(summary: ScoreSummary) -> list[Section]:
  """Builds the sections for which the summary has data."""
  sections = []
  if summary["calibration"]:
    sections.append(_calibration_section(summary["calibration"]))
  if summary["groups"]:
    sections.append(Section("Groups of subjects", _group_blocks(summary["groups"])))
  return sections


def _calibration_section(calibration: Calibration) -> Section:
  bins = calibration["bins"]
  filled = [b for b in bins if b["examples"]]
  description = "; ".join(
    f"confidence {score_text(b['confidence'])}: accuracy {score_text(b['accuracy'])}, "
    f"{b['examples']} examples"
    for b in filled
  )
  rows = [
    (
      interval_text((b["low"], b["high"])),
      str(b["examples"]),
      score_text(b["confidence"]),
      score_text(b["accuracy"]),
    )
    for b in filled
  ]
  method = (
    f"Predictions are sorted into {len(bins)} bins of equal width by their probability (Guo et al. "
    "2017, arXiv:1706.04599). The ECE is the mean absolute difference between the accuracy and the "
    "mean confidence of a bin, weighted by its number of examples."
  )
  caption = (
    "Top: accuracy (bars) and mean confidence (circles) of the predictions in each bin. On the "
    "dashed line the two are equal. Bottom: number of predictions in each bin."
  )
  return Section(
    "Calibration",
    [
      Text(f"{describe_calibration(calibration)} {method}"),
      Figure(
        "reliability.png", draw_reliability(bins), f"Reliability diagram. {description}.", caption
      ),
      Table(
        "The bins as a table",
        ("probability", "examples", "mean confidence", "accuracy"),
        rows,
        collapsed=True,
      ),
    ],
  )


def _group_blocks(groups_by_attribute: Mapping[str, Mapping[str, GroupScores]]) -> list[Block]:
  blocks: list[Block] = [
    Text(
      "Scores of the same predictions, pooled within each group of subjects. A class without "
      "examples in a group is excluded from its means, so groups that contain different classes "
      "are not comparable."
    )
  ]
  for attribute, groups in groups_by_attribute.items():
    rows = [
      (
        name,
        str(scores["subjects"]),
        str(scores["examples"]),
        *(score_with_interval(scores, key) for key in SCORE_NAMES),
      )
      for name, scores in groups.items()
    ]
    header = (attribute, "subjects", "examples", "UF1", "UAR", "accuracy")
    blocks.append(Table(f"Scores by {attribute}, with 95% confidence intervals", header, rows))
    for name, scores in groups.items():
      blocks += [Text(f"{name}: {note}", warning=True) for note in scores["notes"]]
  return blocks
