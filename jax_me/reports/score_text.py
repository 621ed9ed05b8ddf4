"""Scores as text: sentences for the report page and the terminal, and tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jax_me.evaluation.affect import AffectScore
from jax_me.evaluation.calibration import Calibration
from jax_me.evaluation.metrics import SCORE_NAMES, MainScores, ScoreName, Scores
from jax_me.evaluation.summary import IntervalScores, ScoreSummary
from jax_me.terminal import format_table

SCORE_TITLES: dict[ScoreName, str] = {"uf1": "UF1", "uar": "UAR", "accuracy": "Accuracy"}
SCORE_HEADER = ("UF1", "UAR", "accuracy", "examples")
AFFECT_HEADER = ("", "CCC", "RMSE", "examples")
CLASS_HEADER = ("class", "precision", "recall", "F1", "examples", "predicted")


def score_text(value: float | None) -> str:
  """Formats a score as "0.934", or a dash for None."""
  return "–" if value is None else f"{value:.3f}"


def interval_text(pair: Sequence[float] | None) -> str:
  """Formats an interval as "0.81–0.97", or "" for None."""
  return "" if pair is None else f"{pair[0]:.2f}–{pair[1]:.2f}"


def score_with_interval(scores: IntervalScores, name: ScoreName) -> str:
  """Formats a score and its interval, if any, as "0.934 (0.81–0.97)"."""
  interval = interval_text((scores["intervals"] or {}).get(name))
  return score_text(scores[name]) + (f" ({interval})" if interval else "")


def score_cells(scores: IntervalScores) -> list[str]:
  """UF1, UAR and accuracy with their intervals."""
  return [score_with_interval(scores, name) for name in SCORE_NAMES]


def class_rows(scores: Scores) -> list[list[str]]:
  """The scores of each class, in the order of `CLASS_HEADER`."""
  return [
    [
      row["label"],
      *map(score_text, (row["precision"], row["recall"], row["f1"])),
      str(row["support"]),
      str(row["predicted"]),
    ]
    for row in scores["per_class"]
  ]


def affect_rows(scores: Mapping[str, AffectScore]) -> list[list[str]]:
  """The scores of valence and arousal, in the order of `AFFECT_HEADER`."""
  rows = []
  for name, score in scores.items():
    interval = interval_text(score["ccc_interval"])
    ccc = score_text(score["ccc"]) + (f" ({interval})" if interval else "")
    rows.append([name, ccc, score_text(score["rmse"]), str(score["examples"])])
  return rows


def confusion_table(
  confusion: Sequence[Sequence[int]], labels: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
  """Header and rows of a confusion matrix [C][C] of counts, row = truth."""
  rows = [[name, *map(str, row)] for name, row in zip(labels, confusion, strict=True)]
  return ["true \\ predicted", *labels], rows


def describe_result(summary: ScoreSummary) -> str:
  """Gives the pooled scores with their intervals on one line."""
  pooled, bootstrap = summary["pooled"], summary["bootstrap"]
  scores = ", ".join(
    f"{title} {score_with_interval(pooled, k)}" for k, title in SCORE_TITLES.items()
  )
  folds = f" pooled over {len(summary['folds'])} folds" if summary["folds"] else ""
  level = f"{100 * bootstrap['level']:g}% intervals over {bootstrap['over']}"
  about = level if pooled["intervals"] else f"no intervals: only {bootstrap['over']}"
  if summary["affect"]:
    scores += "".join(f", CCC of {row[0]} {row[1]}" for row in affect_rows(summary["affect"]))
  return f"{scores}; {pooled['examples']} examples{folds}, {about}"


def describe_scores(summary: ScoreSummary) -> str:
  """Defines the three scores and says over which folds and databases they are pooled."""
  text = "UF1 is the mean F1 score of the classes, UAR their mean recall."
  parts = []
  if summary["folds"]:
    parts.append(f"all {len(summary['folds'])} folds")
  if summary["databases"]:
    parts.append(f"all {len(summary['databases'])} databases")
  if parts:
    text += (
      " All three scores are pooled: they are computed from one confusion matrix over "
      f"{' and '.join(parts)}."
    )
  return text


def describe_baseline(summary: ScoreSummary) -> str:
  """Gives the scores of always predicting the most frequent class."""
  majority = summary["majority"]
  return f"Always predicting “{majority['label']}” would give {_list_scores(majority)}."


def describe_intervals(summary: ScoreSummary) -> str:
  """Says how the intervals were computed, or why there are none."""
  bootstrap = summary["bootstrap"]
  over, level = bootstrap["over"], bootstrap["level"]
  if summary["pooled"]["intervals"] is None:
    return (
      f"There are no confidence intervals: the table contains only {over}, and the bootstrap needs "
      "at least two."
    )
  percentiles = f"{50 * (1 - level):g}th and {50 * (1 + level):g}th percentiles"
  note = (
    "each draws as many subjects with replacement, with all of their examples"
    if "subject" in over.split(" ")[1]
    else "the subjects are unknown, so the intervals may be too narrow"
  )
  return (
    f"{100 * level:g}% confidence intervals: {percentiles} of {bootstrap['repeats']} bootstrap "
    f"resamples of {over} (seed {bootstrap['seed']}; {note})."
  )


def describe_clip_scores(summary: ScoreSummary) -> str:
  """Gives the scores of one prediction per clip where the rows are frames, else ""."""
  scores = summary["per_clip"]
  if scores is None:
    return ""
  values = ", ".join(f"{t} {score_with_interval(scores, k)}" for k, t in SCORE_TITLES.items())
  return (
    "One prediction per clip (mean of the scores of its rows, or a majority vote without scores), "
    f"over {scores['examples']} clips: {values}. Compare these scores with published ones."
  )


def describe_mean_over_subjects(summary: ScoreSummary) -> str:
  """Gives the mean of the subjects' scores, marked as not comparable; "" without subjects."""
  mean = summary["mean_over_subjects"]
  if mean is None:
    return ""
  return (
    f"Mean over subjects, NOT comparable with the pooled scores: {_list_scores(mean)}. Each "
    "subject is scored alone, over the classes that it has. Some papers publish this mean."
  )


def describe_calibration(calibration: Calibration) -> str:
  """Gives the calibration error, its direction and its value expected by chance."""
  confidence, accuracy = calibration["confidence"], calibration["accuracy"]
  excess = confidence - accuracy
  direction = "overconfident" if excess > 0 else "underconfident"
  text = (
    f"Expected calibration error (ECE) {score_text(calibration['ece'])}: mean confidence "
    f"{score_text(confidence)}, accuracy {score_text(accuracy)}"
  )
  text += f", {direction} by {abs(excess):.3f}" if abs(excess) >= 0.0005 else ""
  if calibration["by_chance"] is not None:
    text += (
      ". With this number of examples, a perfectly calibrated model would have an ECE of "
      f"{score_text(calibration['by_chance'])} by chance"
    )
  return f"{text}."


def format_scores(summary: ScoreSummary, labels: Sequence[str]) -> str:
  """Formats a summary for the terminal: pooled scores first, warnings last."""
  pooled = summary["pooled"]
  parts = {"composite" if summary["databases"] else "pooled": pooled, **summary["databases"]}
  blocks = [
    format_table(
      ("", *SCORE_HEADER),
      [(name, *score_cells(part), str(part["examples"])) for name, part in parts.items()],
    ),
    "\n".join([describe_scores(summary), describe_baseline(summary), describe_intervals(summary)]),
    format_table(CLASS_HEADER, class_rows(pooled)),
    format_table(*confusion_table(summary["confusion"], labels)),
  ]
  for attribute, groups in summary["groups"].items():
    rows = [
      (name, *score_cells(part), str(part["examples"]), str(part["subjects"]))
      for name, part in groups.items()
    ]
    blocks.append(format_table((attribute, *SCORE_HEADER, "subjects"), rows))
  if summary["affect"]:
    blocks.append(format_table(AFFECT_HEADER, affect_rows(summary["affect"])))
  if summary["calibration"]:
    blocks.append(describe_calibration(summary["calibration"]))
  if clips := describe_clip_scores(summary):
    blocks.insert(1, clips)
  if mean := describe_mean_over_subjects(summary):
    blocks.append(mean)
  if warnings := [*summary["cautions"], *pooled["notes"]]:
    blocks.append("\n".join(f"warning: {sentence}" for sentence in warnings))
  return "\n\n".join(blocks)


def _list_scores(scores: MainScores) -> str:
  return ", ".join(f"{title} {score_text(scores[name])}" for name, title in SCORE_TITLES.items())
