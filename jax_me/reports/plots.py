"""The pictures of a report, each drawn to PNG bytes.

Texts that come from data are drawn as they are: a "$" in a label starts no formula.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from jax_me.evaluation.metrics import SCORE_NAMES
from jax_me.reports.figures import (
  BLUE,
  GREEN,
  INK,
  ORANGE,
  PURPLE,
  QUIET,
  RULE,
  SKY,
  VERMILION,
  luminance,
  new_figure,
  quiet_frame,
  shorten,
  to_png,
)
from jax_me.reports.training_history import numeric_keys, series

LINES = [(BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (PURPLE, ":"), (SKY, "-"), (ORANGE, "--")]
SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9fcbe8", BLUE, "#00304f"])


class Panel(NamedTuple):
  """One picture of learning curves and the logged values that it draws."""

  title: str
  keys: tuple[str, ...]


def draw_confusion(confusion: ArrayLike, labels: Sequence[str], title: str = "") -> bytes:
  """A confusion matrix [C, C]: each cell with its share of the row (colour, %) and its count."""
  counts = np.asarray(confusion)
  classes = len(counts)
  support = counts.sum(axis=1)
  share = counts / np.maximum(support, 1)[:, None]
  names = [shorten(label, 22) for label in labels]
  side = max(3.6, 0.62 * classes + 1.2)
  margin = 0.085 * max(map(len, names))
  figure = new_figure(side + margin + 1.1, side + margin + 0.4)
  axes = figure.add_subplot()
  axes.imshow(share, cmap=SHADES, vmin=0, vmax=1)
  size = 11 if classes <= 8 else 8 if classes <= 16 else 5
  for row in range(classes):
    for column in range(classes):
      colour = "white" if luminance(SHADES(share[row, column])) < 0.2 else INK
      if support[row] == 0:
        axes.text(column, row, "–", ha="center", va="center", color=QUIET, size=size)
        continue
      weight = "bold" if row == column else "normal"
      cell: dict[str, Any] = {
        "xy": (column, row),
        "textcoords": "offset points",
        "ha": "center",
        "color": colour,
      }
      percent, count = f"{100 * share[row, column]:.0f}%", f"{counts[row, column]}"
      texts = (
        axes.annotate(percent, xytext=(0, 0), va="bottom", size=size, weight=weight, **cell),
        axes.annotate(count, xytext=(0, -0.25 * size), va="top", size=0.8 * size, **cell),
      )
      for text in texts:
        text.set_in_layout(False)  # measuring hundreds of them takes seconds
  axes.set_xticks(range(classes), names, parse_math=False, color=INK)
  axes.set_yticks(
    range(classes),
    [f"{name}\nn = {n}" for name, n in zip(names, support, strict=True)],
    parse_math=False,
    color=INK,
  )
  if max(map(len, names)) > 60 // classes:
    axes.tick_params(axis="x", labelrotation=40)
    for tick in axes.get_xticklabels():
      tick.set_horizontalalignment("right")
      tick.set_rotation_mode("anchor")
  axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
  axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
  axes.grid(which="minor", color=RULE, linewidth=1)
  axes.tick_params(which="both", length=0)
  axes.spines[:].set_visible(False)
  axes.set_title(
    shorten(title, 40), loc="left", color=INK, size=11, weight="bold", parse_math=False
  )
  axes.set_xlabel("predicted", color=QUIET)
  axes.set_ylabel("true", color=QUIET)
  return to_png(figure)


def draw_reliability(bins: Sequence[Mapping[str, Any]]) -> bytes:
  """A reliability diagram from the bins of `calibration.calibration`, and the bins' sizes below."""
  figure = new_figure(4.8, 4.9)
  upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
  filled = [b for b in bins if b["examples"]]
  left, width = [b["low"] for b in filled], [b["high"] - b["low"] for b in filled]
  bars = {"align": "edge", "edgecolor": "white", "linewidth": 1}
  upper.bar(left, [b["accuracy"] for b in filled], width, color=SKY, **bars)
  upper.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1)
  sure, right = [b["confidence"] for b in filled], [b["accuracy"] for b in filled]
  upper.vlines(sure, right, sure, color=VERMILION, linewidth=1.2)
  upper.plot(sure, sure, "o", color=VERMILION, ms=5, clip_on=False)
  upper.set_ylim(0, 1)
  upper.set_ylabel("share that is right", color=QUIET)
  lower.bar(left, [b["examples"] for b in filled], width, color=QUIET, **bars)
  lower.set_xlim(0, 1)
  lower.set_xlabel("probability of the prediction", color=QUIET)
  lower.set_ylabel("examples", color=QUIET)
  lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
  for axes in (upper, lower):
    quiet_frame(axes)
  return to_png(figure)


def curve_panels(rows: Sequence[Mapping[str, Any]]) -> list[Panel]:
  """What the history has to draw: loss, score, learning rate, images per second, where logged."""
  keys = sorted(numeric_keys(rows))
  losses = sorted((k for k in keys if k.split("/")[-1] == "loss"), reverse=True)  # train, test
  tracked = sorted((k for k in keys if k.split("/")[-1] in SCORE_NAMES), key=_score_order)
  panels = [
    Panel("loss", tuple(losses)),
    Panel("score", tuple(tracked)),
    Panel("learning rate", tuple(k for k in keys if k in ("lr", "learning_rate"))),
    Panel("images per second", tuple(k for k in keys if k == "images_per_second")),
  ]
  return [panel for panel in panels if panel.keys]


def draw_curves(rows: Sequence[Mapping[str, Any]], panels: Sequence[Panel]) -> bytes:
  """Learning curves over optimiser steps, one panel or several, two side by side.

  Args:
    rows: the merged history; see `history.merge_history`. Rows of several folds ("fold") give a
      faint line each and their mean.
    panels: from `curve_panels`, at least one.
  """
  columns = min(2, len(panels))
  lines = -(-len(panels) // columns)
  figure = new_figure(4.6 * columns, 3.0 * lines)
  last_step = max(row["step"] for row in rows)
  for place, panel in enumerate(panels):
    axes = figure.add_subplot(lines, columns, place + 1)
    courses = [series(rows, key) for key in panel.keys]
    smooth = panel.title != "learning rate"
    for key, course, (colour, style) in zip(panel.keys, courses, LINES, strict=False):
      _draw_series(axes, course, colour, style, key, smooth)
    folds = max(map(len, courses))
    title = panel.title + (f", mean of {folds} folds" if folds > 1 else "")
    axes.set_title(title, loc="left", color=INK, size=11, weight="bold")
    axes.set_xlabel(_step_label(rows), color=QUIET)
    axes.set_xlim(0, 1.02 * last_step or 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    quiet_frame(axes)
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    if panel.title == "score":
      axes.set_ylim(-0.02, 1.02)
    elif panel.title == "loss":
      # Not for one lucky batch: the bulk of the course has to span decades.
      if drawn.min() > 0 and np.quantile(drawn, 0.95) > 30 * np.quantile(drawn, 0.05):
        axes.set_yscale("log")
    else:
      axes.set_ylim(0, 1.08 * drawn.max() or 1)
      axes.yaxis.set_major_formatter("{x:.1e}" if drawn.max() < 0.01 else "{x:g}")
    if len(panel.keys) > 1 or "/" in panel.keys[0]:
      axes.legend(frameon=False, fontsize=8, labelcolor=INK, handlelength=2.6)
  return to_png(figure)


def draw_samples(samples: Sequence[Mapping[str, Any]], columns: int = 6) -> bytes:
  """Sample predictions as one sheet: `image`, `truth`, `prediction`, `score` of each.

  A wrong one has a thick dashed frame, a cross, and both labels below it; a right one a thin frame,
  a tick and one label.
  """
  columns = min(columns, len(samples))
  lines = -(-len(samples) // columns)
  figure = new_figure(1.75 * columns, 2.2 * lines)
  for place, sample in enumerate(samples):
    axes = figure.add_subplot(lines, columns, place + 1)
    axes.imshow(sample["image"])
    axes.set_xticks([])
    axes.set_yticks([])
    wrong = sample["truth"] != sample["prediction"]
    for spine in axes.spines.values():
      spine.set(color=VERMILION if wrong else GREEN, linewidth=3 if wrong else 1.5)
      spine.set_linestyle((0, (4, 2)) if wrong else "-")
    score = "" if sample.get("score") is None else f" {100 * sample['score']:.0f}%"
    text = f"{'✗' if wrong else '✓'} {shorten(sample['prediction'], 14)}{score}"
    below = f"truth: {shorten(sample['truth'], 16)}" if wrong else ""
    axes.set_xlabel(f"{text}\n{below}", parse_math=False, size=8.5, color=INK, linespacing=1.3)
  return to_png(figure)


def draw_reconstructions(
  masked: NDArray[np.uint8], reconstructed: NDArray[np.uint8], original: NDArray[np.uint8]
) -> bytes:
  """Masked, reconstructed and original images [N, H, W, 3] side by side, two examples a line."""
  examples = len(original)
  across = min(2, examples)
  lines = -(-examples // across)
  figure = new_figure(1.7 * 3 * across, 1.75 * lines + 0.3)
  grid = figure.add_gridspec(lines, across, wspace=0.06)
  names = ("masked", "reconstructed", "original")
  for example in range(examples):
    line, place = divmod(example, across)
    inner = grid[line, place].subgridspec(1, 3, wspace=0.02)
    for column, images in enumerate((masked, reconstructed, original)):
      axes = figure.add_subplot(inner[column])
      axes.imshow(images[example])
      axes.set_axis_off()
      if line == 0:
        axes.set_title(names[column], size=9, color=INK)
  return to_png(figure)


def _draw_series(
  axes: Axes,
  courses: Mapping[str, NDArray[np.float64]],
  colour: str,
  style: str,
  label: str,
  smooth: bool,
) -> None:
  if len(courses) == 1:
    (points,) = courses.values()
    step, value = points.T
    marker = "o" if len(step) <= 30 else ""
    if smooth and len(step) > 60:  # the raw course is noise: faint, behind its running mean
      axes.plot(step, value, color=colour, alpha=0.25, linewidth=0.8)
      value = _running_mean(value, len(value) // 60 + 1)
    axes.plot(step, value, color=colour, linestyle=style, marker=marker, ms=3, label=label)
    return
  for points in courses.values():
    axes.plot(*points.T, color=colour, alpha=0.25, linewidth=0.8)
  # The mean is drawn only as far as every fold has come.
  steps = np.unique(np.concatenate([points[:, 0] for points in courses.values()]))
  steps = steps[steps <= min(points[-1, 0] for points in courses.values())]
  mean = [np.interp(steps, *points.T) for points in courses.values()]
  axes.plot(steps, np.mean(mean, axis=0), color=colour, linestyle=style, label=label)


def _running_mean(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
  """Mean over the values at most `reach` places away, fewer at the ends."""
  total = np.concatenate([[0.0], np.cumsum(values)])
  index = np.arange(len(values))
  low, high = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
  return (total[high] - total[low]) / (high - low)


def _step_label(rows: Sequence[Mapping[str, Any]]) -> str:
  pairs = [(row["step"], row["epoch"]) for row in rows if row.get("epoch")]
  if not pairs or not all(isinstance(value, (int, float)) for pair in pairs for value in pair):
    return "step"
  step, epoch = max(pairs)
  return f"step ({step / epoch:.4g} an epoch)" if step else "step"


def _score_order(key: str) -> tuple[int, str]:
  return (SCORE_NAMES.index(key.split("/")[-1]), key)
