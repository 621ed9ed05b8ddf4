"""What reviewers ask for beside the scores: calibration, and whether groups are served alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jax_me.evaluation.metrics import SCORE_NAMES
from jax_me.reports.document import Block, Picture, Section, Table, Text
from jax_me.reports.plots import draw_reliability
from jax_me.reports.score_text import interval_text, score_text, score_with_interval


def check_sections(summary: Mapping[str, Any]) -> list[Section]:
  """A section for calibration and one for groups of subjects, where the summary has them."""
  sections = []
  if summary["calibration"]:
    sections.append(_calibration(summary["calibration"]))
  if summary["groups"]:
    sections.append(Section("Groups of subjects", _groups(summary["groups"])))
  return sections


def calibration_text(calibration: Mapping[str, Any]) -> str:
  """The calibration error and which way it points, in a sentence or two."""
  sure, right = calibration["confidence"], calibration["accuracy"]
  over = sure - right
  way = "overconfident" if over > 0 else "underconfident"
  chance = calibration["by_chance"]
  text = (
    f"Expected calibration error (ECE) {score_text(calibration['ece'])}: mean confidence "
    f"{score_text(sure)}, accuracy {score_text(right)}"
  )
  text += f", {way} by {abs(over):.3f}" if abs(over) >= 0.0005 else ""
  if chance is not None:
    text += (
      f". On so many examples, a perfectly calibrated model would show {score_text(chance)} by "
      "chance"
    )
  return f"{text}."


def _calibration(calibration: Mapping[str, Any]) -> Section:
  bins = calibration["bins"]
  filled = [b for b in bins if b["examples"]]
  told = "; ".join(
    f"confidence {b['confidence']:.2f}: {100 * b['accuracy']:.0f}% of {b['examples']} right"
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
  how = (
    f"Predictions are put into {len(bins)} bins of equal width by their probability (Guo et al. "
    "2017, arXiv:1706.04599); the error is the mean distance between a bin's accuracy and its mean "
    "confidence, weighted by its examples."
  )
  caption = (
    "Bars: how often the predictions of a bin are right. Circles: how often their probabilities "
    "say so. On the dashed line both would be equal. Below: how many predictions a bin holds."
  )
  return Section(
    "Calibration",
    [
      Text(f"{calibration_text(calibration)} {how}"),
      Picture("reliability.png", draw_reliability(bins), f"Reliability diagram. {told}.", caption),
      Table(
        "The bins as a table",
        ("probability", "examples", "mean confidence", "accuracy"),
        rows,
        folded=True,
      ),
    ],
  )


def _groups(divisions: Mapping[str, Any]) -> list[Block]:
  blocks: list[Block] = [
    Text(
      "The same predictions, pooled within each group of subjects. A class that a group lacks is "
      "left out of its means, so groups with different classes do not compare."
    )
  ]
  for division, parts in divisions.items():
    rows = [
      (
        name,
        str(part["subjects"]),
        str(part["examples"]),
        *(score_with_interval(part, key) for key in SCORE_NAMES),
      )
      for name, part in parts.items()
    ]
    header = (division, "subjects", "examples", "UF1", "UAR", "accuracy")
    blocks.append(Table(f"Scores by {division}", header, rows))
    for name, part in parts.items():
      blocks += [Text(f"{name}: {note}", warning=True) for note in part["notes"]]
  return blocks
