"""Report sections for the scores: key figures, confusion matrix, classes, databases, subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jax_me.evaluation.metrics import SCORE_NAMES, ClassScores, MainScores, Scores
from jax_me.evaluation.predictions import Predictions
from jax_me.evaluation.summary import ScoreSummary
from jax_me.reports.csv_tables import file_names
from jax_me.reports.document import Block, Figure, KeyFigures, Section, Table, Text
from jax_me.reports.plots import draw_confusion
from jax_me.reports.score_text import (
  SCORE_TITLES,
  describe_baseline,
  describe_clip_scores,
  describe_intervals,
  describe_mean_over_subjects,
  describe_scores,
  interval_text,
  score_text,
  score_with_interval,
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
  """Builds sections for confusion matrix, classes, and databases, folds, subjects if several."""
  labels = predictions.labels
  confusion = summary["confusion"]
  per_class = [
    (
      row["label"],
      *(score_text(value) for value in (row["precision"], row["recall"], row["f1"])),
      str(row["support"]),
      str(row["predicted"]),
    )
    for row in summary["pooled"]["per_class"]
  ]
  sections = [
    Section(
      "Confusion matrix",
      [
        Figure(
          "confusion_matrix.png",
          draw_confusion(np.array(confusion), labels),
          _describe_confusion(summary["pooled"]["per_class"], confusion),
          "Each row is a true class. A cell shows the share and the number of its examples that "
          "were predicted as the class of the column.",
        ),
        Table(
          "The counts as a table (row: true class, column: predicted class)",
          ("true \\ predicted", *labels),
          [(label, *map(str, row)) for label, row in zip(labels, confusion, strict=True)],
          collapsed=True,
        ),
      ],
    ),
    Section(
      "Classes",
      [
        Table(
          "Scores of each class, its number of examples, and how often it was predicted",
          ("class", "precision", "recall", "F1", "examples", "predicted"),
          per_class,
        )
      ],
    ),
  ]
  if summary["databases"]:
    sections.append(_database_section(summary, labels))
  folds, mean = summary["folds"], summary["mean_over_folds"]
  if mean and not _is_leave_one_subject_out(predictions):
    sections.append(Section("Folds", _part_blocks("fold", folds, mean, len(labels))))
  subjects, mean = summary["subjects"], summary["mean_over_subjects"]
  if mean:
    sections.append(Section("Subjects", _part_blocks("subject", subjects, mean, len(labels))))
  return sections


def _database_section(summary: ScoreSummary, labels: Sequence[str]) -> Section:
  parts = {"composite": summary["pooled"], **summary["databases"]}
  rows = [
    (name, str(scores["examples"]), *(score_with_interval(scores, key) for key in SCORE_NAMES))
    for name, scores in parts.items()
  ]
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
