"""The scores of a report: headline, confusion matrix, tables by class, database, fold, subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_me.evaluation.metrics import SCORE_NAMES
from jax_me.evaluation.plots import draw_confusion
from jax_me.evaluation.predictions import Predictions
from jax_me.page import Block, Figures, Picture, Section, Table, Text


def headline(summary: Mapping[str, Any]) -> list[Block]:
  """The pooled scores with their intervals, how they were made, and what they are beside."""
  pooled, majority = summary["pooled"], summary["majority"]
  intervals = pooled["intervals"] or {}
  names = {"uf1": "UF1", "uar": "UAR", "accuracy": "Accuracy"}
  figures = [
    (name, _score(pooled[key]), _interval(intervals.get(key))) for key, name in names.items()
  ]
  over = summary["interval_over"]
  people = over if "subjects" in over else "subjects unknown"
  figures.append(("Examples", str(pooled["examples"]), people))
  blocks: list[Block] = [Figures(figures)]
  how = "UF1 is the mean F1 of the classes, UAR their mean recall"
  if summary["folds"]:
    how += f"; all three are pooled: one confusion matrix over all {len(summary['folds'])} folds"
  baseline = ", ".join(f"{name} {_score(majority[key])}" for key, name in names.items())
  blocks.append(Text(f"{how}. Always answering “{majority['label']}” would give {baseline}."))
  if intervals:
    blocks.append(
      Text(
        f"The 95% intervals come from a bootstrap over {over}: "
        + (
          "a subject is drawn with all of their examples."
          if "subjects" in over
          else "nothing says which of them show the same person, so they may be too narrow."
        )
      )
    )
  blocks += [Text(note, warning=True) for note in pooled["notes"]]
  return blocks


def score_sections(predictions: Predictions, summary: Mapping[str, Any]) -> list[Section]:
  """Sections for the confusion matrix, classes, and databases, folds and subjects if several."""
  labels = predictions.labels
  confusion = np.array(summary["confusion"])
  per_class = [
    (
      row["label"],
      *(_score(row[key]) for key in ("precision", "recall", "f1")),
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
          _describe_confusion(summary),
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
    rows = [
      (
        name,
        str(part["examples"]),
        *(
          f"{_score(part[key])} {_interval((part['intervals'] or {}).get(key), short=True)}".strip()
          for key in SCORE_NAMES
        ),
      )
      for name, part in summary["databases"].items()
    ]
    caption = "The same predictions, pooled within each database"
    table = Table(caption, ("database", "examples", "UF1", "UAR", "accuracy"), rows)
    sections.append(Section("Databases", [table]))
  folds, subjects = summary["folds"], summary["subjects"]
  if folds and not _leaves_one_subject_out(predictions):
    mean = summary["mean_over_folds"]
    sections.append(Section("Folds", _group_blocks("fold", folds, mean, len(labels))))
  if subjects:
    mean = summary["mean_over_subjects"]
    sections.append(Section("Subjects", _group_blocks("subject", subjects, mean, len(labels))))
  return sections


def _group_blocks(
  kind: str, groups: Mapping[str, Any], mean: Mapping[str, float], classes: int
) -> list[Block]:
  rows = []
  for name, part in groups.items():
    present = sum(row["support"] > 0 for row in part["per_class"])
    rows.append(
      (
        name,
        *(_score(part[key]) for key in SCORE_NAMES),
        str(part["examples"]),
        f"{present} of {classes}",
      )
    )
  rows.append(
    (
      f"mean over {kind}s, not comparable with the pooled scores",
      *(_score(mean[key]) for key in SCORE_NAMES),
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


def _describe_confusion(summary: Mapping[str, Any]) -> str:
  parts = [
    f"{row['label']}: {counts[c]} of {row['support']} right"
    for c, (row, counts) in enumerate(
      zip(summary["pooled"]["per_class"], summary["confusion"], strict=True)
    )
  ]
  return f"Confusion matrix. {'; '.join(parts)}."


def _score(value: float | None) -> str:
  return "–" if value is None else f"{value:.3f}"


def _interval(pair: Sequence[float] | None, short: bool = False) -> str:
  if pair is None:
    return ""
  text = f"{pair[0]:.2f}–{pair[1]:.2f}"
  return f"({text})" if short else f"95%: {text}"
