"""Scores in words and figures, the same on the page and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SCORE_TITLES = {"uf1": "UF1", "uar": "UAR", "accuracy": "Accuracy"}


def score_text(value: float | None) -> str:
  """ "0.934", a dash where there is none."""
  return "–" if value is None else f"{value:.3f}"


def interval_text(pair: Sequence[float] | None) -> str:
  """ "0.81–0.97", nothing where there is none."""
  return "" if pair is None else f"{pair[0]:.2f}–{pair[1]:.2f}"


def score_with_interval(part: Mapping[str, Any], name: str) -> str:
  """ "0.934 (0.81–0.97)" of a part of the summary that has `intervals`."""
  interval = interval_text((part["intervals"] or {}).get(name))
  return score_text(part[name]) + (f" ({interval})" if interval else "")


def pooling(summary: Mapping[str, Any]) -> str:
  """What the three scores are and how the folds and databases came into them."""
  text = "UF1 is the mean F1 of the classes, UAR their mean recall"
  parts = []
  if summary["folds"]:
    parts.append(f"all {len(summary['folds'])} folds")
  if summary["databases"]:
    parts.append(f"all {len(summary['databases'])} databases")
  if parts:
    text += f"; all three are pooled: one confusion matrix over {' and '.join(parts)}"
  return f"{text}."


def baseline(summary: Mapping[str, Any]) -> str:
  """What always giving one answer would score."""
  majority = summary["majority"]
  figures = ", ".join(f"{title} {score_text(majority[k])}" for k, title in SCORE_TITLES.items())
  return f"Always answering “{majority['label']}” would give {figures}."


def interval_method(summary: Mapping[str, Any]) -> str:
  """How the intervals were made, or why there are none."""
  bootstrap = summary["bootstrap"]
  over, level = bootstrap["over"], bootstrap["level"]
  if summary["pooled"]["intervals"] is None:
    return (
      f"There are no confidence intervals: the table holds only {over}, and drawing the same "
      "one again and again says nothing about other people."
    )
  ends = f"{50 * (1 - level):g}th and {50 * (1 + level):g}th percentile"
  who = (
    "each draws as many subjects as there are, with all of their examples"
    if "subject" in over.split(" ")[1]
    else "nothing says which of them show the same person, so they may be too narrow"
  )
  return (
    f"{100 * level:g}% intervals: {ends} of the scores of {bootstrap['repeats']} resamples over "
    f"{over} (seed {bootstrap['seed']}; {who})."
  )


def clip_scores(summary: Mapping[str, Any]) -> str:
  """The scores of one prediction a clip, where the rows are frames; "" where they are not."""
  part = summary["per_clip"]
  if part is None:
    return ""
  figures = ", ".join(f"{t} {score_with_interval(part, k)}" for k, t in SCORE_TITLES.items())
  return (
    "One prediction a clip (mean of its rows' scores, else their majority), over "
    f"{part['examples']} clips: {figures}. This is the score to compare with published ones."
  )


def mean_beside(summary: Mapping[str, Any]) -> str:
  """The mean of the subjects' own scores, said to be no score of the protocol; "" without."""
  mean = summary["mean_over_subjects"]
  if mean is None:
    return ""
  figures = ", ".join(f"{title} {score_text(mean[k])}" for k, title in SCORE_TITLES.items())
  return (
    f"Mean over subjects, NOT comparable with the pooled scores: {figures}. Each subject has few "
    "classes, so this mean is another quantity; it stands here because some papers publish it."
  )
