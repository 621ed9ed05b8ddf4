"""Report sections for the scores, their calibration, and the scores of groups of subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jax_me.evaluation.affect import AffectScore
from jax_me.evaluation.calibration import Calibration
from jax_me.evaluation.metrics import SCORE_NAMES, ClassScores, MainScores, Scores
from jax_me.evaluation.predictions import Predictions
from jax_me.evaluation.summary import GroupScores, ScoreSummary
from jax_me.reports.csv_tables import file_names
from jax_me.reports.document import Block, Figure, KeyFigures, Section, Table, Text
from jax_me.reports.plots import draw_confusion, draw_reliability
from jax_me.reports.score_text import (
  AFFECT_HEADER,
  CLASS_HEADER,
  SCORE_TITLES,
  affect_rows,
  class_rows,
  confusion_table,
  describe_baseline,
  describe_calibration,
  describe_clip_scores,
  describe_intervals,
  describe_mean_over_subjects,
  describe_scores,
  interval_text,
  score_cells,
  score_text,
)

LONG_TABLE = 12  # Rows above which a table is collapsed.


def headline(summary: ScoreSummary) -> list[Block]:
  """Builds the top of the page: pooled scores with intervals, explanations and warnings."""
  pooled = summary["pooled"]
  intervals = pooled["intervals"] or {}
  notes = {
    k: f"95% CI: {interval_text(intervals[k])}" if k in intervals else "" for k in SCORE_TITLES
  }
  values = [(title, score_text(pooled[k]), notes[k]) for k, title in SCORE_TITLES.items()]
  over = summary["bootstrap"]["over"]
  subjects = over if "subject" in over else "subjects unknown"
  values.append(("Examples", str(pooled["examples"]), subjects))
  blocks: list[Block] = [KeyFigures(values)]
  if clips := describe_clip_scores(summary):
    blocks.append(Text(clips))
  blocks.append(Text(f"{describe_scores(summary)} {describe_baseline(summary)}"))
  blocks.append(Text(describe_intervals(summary), warning=not intervals))
  if mean := describe_mean_over_subjects(summary):
    blocks.append(Text(mean))
  return blocks + [Text(note, warning=True) for note in [*summary["cautions"], *pooled["notes"]]]


def score_sections(predictions: Predictions, summary: ScoreSummary) -> list[Section]:
  """Builds sections for confusion matrix and classes, and for everything else in the summary."""
  labels = predictions.labels
  confusion, pooled = summary["confusion"], summary["pooled"]
  sections = [
    Section(
      "Confusion matrix",
      [
        Figure(
          "confusion_matrix.png",
          draw_confusion(np.array(confusion), labels),
          _describe_confusion(pooled["per_class"], confusion),
          "Each row is a true class. A cell shows the share and the number of its examples that "
          "were predicted as the class of the column.",
        ),
        Table(
          "The counts as a table (row: true class, column: predicted class)",
          *confusion_table(confusion, labels),
          collapsed=True,
        ),
      ],
    ),
    Section(
      "Classes",
      [
        Table(
          "Scores of each class, its number of examples, and how often it was predicted",
          CLASS_HEADER,
          class_rows(pooled),
        )
      ],
    ),
  ]
  if summary["affect"]:
    sections.append(_affect_section(summary["affect"]))
  if summary["databases"]:
    sections.append(_database_section(summary, labels))
  folds, mean = summary["folds"], summary["mean_over_folds"]
  if mean and not _is_leave_one_subject_out(predictions):
    sections.append(Section("Folds", _part_blocks("fold", folds, mean, len(labels))))
  subjects, mean = summary["subjects"], summary["mean_over_subjects"]
  if mean:
    sections.append(Section("Subjects", _part_blocks("subject", subjects, mean, len(labels))))
  if summary["calibration"]:
    sections.append(_calibration_section(summary["calibration"]))
  if summary["groups"]:
    sections.append(Section("Groups of subjects", group_blocks(summary["groups"])))
  return sections


def _affect_section(scores: Mapping[str, AffectScore]) -> Section:
  text = (
    "Both are in [-1, 1]. CCC is the concordance correlation coefficient (Lin 1989): 1 for equal "
    "values, and unlike Pearson's correlation lowered by another mean or spread. RMSE is the root "
    "mean square error. Only examples whose true values are known are counted."
  )
  caption = "Scores of valence and arousal, with 95% confidence intervals of the CCC"
  return Section(
    "Valence and arousal", [Text(text), Table(caption, AFFECT_HEADER, affect_rows(scores))]
  )


def _database_section(summary: ScoreSummary, labels: Sequence[str]) -> Section:
  parts = {"composite": summary["pooled"], **summary["databases"]}
  rows = [(name, str(part["examples"]), *score_cells(part)) for name, part in parts.items()]
  header = ("database", "examples", "UF1", "UAR", "accuracy")
  caption = "Scores over all databases (composite) and in each, with 95% confidence intervals"
  blocks: list[Block] = [Table(caption, header, rows)]
  names = file_names(summary["databases"])
  for name, scores in summary["databases"].items():
    image = draw_confusion(scores["confusion"], labels, title=name)
    alt = f"{name}: {_describe_confusion(scores['per_class'], scores['confusion'])}"
    blocks.append(Figure(f"confusion_matrix_{names[name]}.png", image, alt))
  return Section("Databases", blocks)


def _part_blocks(
  kind: str, parts: Mapping[str, Scores], mean: MainScores, num_classes: int
) -> list[Block]:
  """Blocks for the scores of each fold or subject, with their mean in the last row."""
  rows = []
  for name, scores in parts.items():
    present = sum(row["support"] > 0 for row in scores["per_class"])
    rows.append(
      (
        name,
        *(score_text(scores[key]) for key in SCORE_NAMES),
        str(scores["examples"]),
        f"{present} of {num_classes}",
      )
    )
  rows.append(
    (
      f"mean over {kind}s, not comparable with the pooled scores",
      *(score_text(mean[key]) for key in SCORE_NAMES),
      "",
      "",
    )
  )
  header = (kind, "UF1", "UAR", "accuracy", "examples", "classes present")
  long = len(parts) > LONG_TABLE
  caption = f"Scores within each {kind}" + (f" ({len(parts)} {kind}s)" if long else "")
  return [
    Text(
      f"Each {kind} is scored separately, over the classes that it contains. The mean of these "
      "scores is not the score of the protocol."
    ),
    Table(caption, header, rows, collapsed=long, separate_last_row=True),
  ]


def _is_leave_one_subject_out(predictions: Predictions) -> bool:
  folds, units = predictions.rows_by("fold"), predictions.bootstrap_units
  return len(folds) == len(set(units)) and all(
    len({units[row] for row in rows}) == 1 for rows in folds.values()
  )


def _describe_confusion(
  per_class: Sequence[ClassScores], confusion: Sequence[Sequence[int]]
) -> str:
  parts = [
    f"{row['label']}: {counts[c]} of {row['support']} correct"
    for c, (row, counts) in enumerate(zip(per_class, confusion, strict=True))
  ]
  return f"Confusion matrix. {'; '.join(parts)}."


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


def group_blocks(groups_by_attribute: Mapping[str, Mapping[str, GroupScores]]) -> list[Block]:
  """Tables of the scores of each group, one per attribute."""
  blocks: list[Block] = [
    Text(
      "Scores of the same predictions, pooled within each group of subjects. A class without "
      "examples in a group is excluded from its means, so groups that contain different classes "
      "are not comparable."
    )
  ]
  for attribute, groups in groups_by_attribute.items():
    rows = [
      (name, str(part["subjects"]), str(part["examples"]), *score_cells(part))
      for name, part in groups.items()
    ]
    header = (attribute, "subjects", "examples", "UF1", "UAR", "accuracy")
    blocks.append(Table(f"Scores by {attribute}, with 95% confidence intervals", header, rows))
    for name, scores in groups.items():
      blocks += [Text(f"{name}: {note}", warning=True) for note in scores["notes"]]
  return blocks
