"""The scores of a report: headline, confusion matrix, tables by class, database, fold, subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_me.evaluation.metrics import SCORE_NAMES
from jax_me.evaluation.predictions import Predictions
from jax_me.reports.csv_tables import file_names
from jax_me.reports.document import Block, Figures, Picture, Section, Table, Text
from jax_me.reports.plots import draw_confusion
from jax_me.reports.score_text import (
  SCORE_TITLES,
  baseline,
  clip_scores,
  interval_method,
  interval_text,
  mean_beside,
  pooling,
  score_text,
  score_with_interval,
)


def headline(summary: Mapping[str, Any]) -> list[Block]:
  """The pooled scores with their intervals, how they were made, and what they are beside."""
  pooled = summary["pooled"]
  intervals = pooled["intervals"] or {}
  notes = {k: f"95%: {interval_text(intervals[k])}" if k in intervals else "" for k in SCORE_TITLES}
  figures = [(title, score_text(pooled[k]), notes[k]) for k, title in SCORE_TITLES.items()]
  over = summary["bootstrap"]["over"]
  people = over if "subject" in over else "subjects unknown"
  figures.append(("Examples", str(pooled["examples"]), people))
  method = interval_method(summary)
  blocks: list[Block] = [Figures(figures), Text(f"{pooling(summary)} {baseline(summary)}")]
  blocks.append(Text(method, warning=not intervals))
  if clips := clip_scores(summary):
    blocks.insert(1, Text(clips))
  if beside := mean_beside(summary):
    blocks.append(Text(beside))
  return blocks + [Text(note, warning=True) for note in [*summary["cautions"], *pooled["notes"]]]


def score_sections(predictions: Predictions, summary: Mapping[str, Any]) -> list[Section]:
  """Sections for the confusion matrix, classes, and databases, folds and subjects if several."""
  labels = predictions.labels
  confusion = np.array(summary["confusion"])
  per_class = [
    (
      row["label"],
      *(score_text(row[key]) for key in ("precision", "recall", "f1")),
      str(row["support"]),
      str(row["predicted"]),
    )
    for row in summary["pooled"]["per_class"]
  ]
  sections = [
    Section(
      "Confusion matrix",
      [
        Picture(
          "confusion_matrix.png",
          draw_confusion(confusion, labels),
          _describe_confusion(summary["pooled"]["per_class"], summary["confusion"]),
          "Each row is a true class: the share of it, and the number of examples, taken for each "
          "class.",
        ),
        Table(
          "The counts as a table (row: true, column: predicted)",
          ("true", *labels),
          [(label, *map(str, row)) for label, row in zip(labels, confusion, strict=True)],
          folded=True,
        ),
      ],
    ),
    Section(
      "Classes",
      [Table("", ("class", "precision", "recall", "F1", "examples", "predicted"), per_class)],
    ),
  ]
  if summary["databases"]:
    sections.append(_databases(summary, labels))
  folds, subjects = summary["folds"], summary["subjects"]
  if folds and not _leaves_one_subject_out(predictions):
    mean = summary["mean_over_folds"]
    sections.append(Section("Folds", _group_blocks("fold", folds, mean, len(labels))))
  if subjects:
    mean = summary["mean_over_subjects"]
    sections.append(Section("Subjects", _group_blocks("subject", subjects, mean, len(labels))))
  return sections


def _databases(summary: Mapping[str, Any], labels: Sequence[str]) -> Section:
  """All databases together, which is what the headline says, and each of them."""
  parts = {"composite": summary["pooled"], **summary["databases"]}
  rows = [
    (name, str(part["examples"]), *(score_with_interval(part, key) for key in SCORE_NAMES))
    for name, part in parts.items()
  ]
  header = ("database", "examples", "UF1", "UAR", "accuracy")
  caption = "The same predictions, pooled over all databases and within each"
  blocks: list[Block] = [Table(caption, header, rows)]
  names = file_names(summary["databases"])
  for name, part in summary["databases"].items():
    picture = draw_confusion(part["confusion"], labels, title=name)
    told = _describe_confusion(part["per_class"], part["confusion"])
    blocks.append(Picture(f"confusion_matrix_{names[name]}.png", picture, f"{name}: {told}"))
  return Section("Databases", blocks)


def _group_blocks(
  kind: str, groups: Mapping[str, Any], mean: Mapping[str, float], classes: int
) -> list[Block]:
  rows = []
  for name, part in groups.items():
    present = sum(row["support"] > 0 for row in part["per_class"])
    rows.append(
      (
        name,
        *(score_text(part[key]) for key in SCORE_NAMES),
        str(part["examples"]),
        f"{present} of {classes}",
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
  long = len(groups) > 12
  caption = f"Scores within each {kind}" + (f": {len(groups)} {kind}s" if long else "")
  return [
    Text(
      f"Each {kind} scored alone, over the classes it has; the mean of these is not the score of "
      "the protocol."
    ),
    Table(caption, header, rows, folded=long, last_apart=True),
  ]


def _leaves_one_subject_out(predictions: Predictions) -> bool:
  folds, people = predictions.groups("fold"), predictions.people
  return len(folds) == len(set(people)) and all(
    len({people[row] for row in rows}) == 1 for rows in folds.values()
  )


def _describe_confusion(
  per_class: Sequence[Mapping[str, Any]], confusion: Sequence[Sequence[int]]
) -> str:
  parts = [
    f"{row['label']}: {counts[c]} of {row['support']} right"
    for c, (row, counts) in enumerate(zip(per_class, confusion, strict=True))
  ]
  return f"Confusion matrix. {'; '.join(parts)}."
