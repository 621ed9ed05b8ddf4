"""Figures of a report, each drawn as PNG: confusion matrix, reliability, images.

Texts from data are drawn literally: a "$" in a label does not start a formula.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from jax_me.evaluation.calibration import CalibrationBin
from jax_me.reports.colours import BLUE, DARK, GREEN, GREY, LIGHT_GREY, SKY, VERMILION
from jax_me.reports.figures import luminance, new_figure, shorten, style_axes, to_png
from jax_me.reports.saved_report import RECONSTRUCTION_IMAGES, SamplePrediction

SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9fcbe8", BLUE, "#00304f"])


def draw_confusion(confusion: ArrayLike, labels: Sequence[str], title: str = "") -> bytes:
  """Draws a confusion matrix; each cell shows its share of the row (colour, %) and its count.

  Args:
    confusion: [C, C] counts, row = truth.
    labels: C class names.
    title: heading of the figure.

  Returns:
    PNG bytes.
  """
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
      colour = "white" if luminance(SHADES(share[row, column])) < 0.2 else DARK
      if support[row] == 0:
        axes.text(column, row, "–", ha="center", va="center", color=GREY, size=size)
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
        text.set_in_layout(False)  # Measuring hundreds of texts takes seconds.
  axes.set_xticks(range(classes), names, parse_math=False, color=DARK)
  axes.set_yticks(
    range(classes),
    [f"{name}\nn = {n}" for name, n in zip(names, support, strict=True)],
    parse_math=False,
    color=DARK,
  )
  if max(map(len, names)) > 60 // classes:
    axes.tick_params(axis="x", labelrotation=40)
    for tick in axes.get_xticklabels():
      tick.set_horizontalalignment("right")
      tick.set_rotation_mode("anchor")
  axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
  axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
  axes.grid(which="minor", color=LIGHT_GREY, linewidth=1)
  axes.tick_params(which="both", length=0)
  axes.spines[:].set_visible(False)
  axes.set_title(
    shorten(title, 40), loc="left", color=DARK, size=11, weight="bold", parse_math=False
  )
  axes.set_xlabel("predicted", color=GREY)
  axes.set_ylabel("true", color=GREY)
  return to_png(figure)


def draw_reliability(bins: Sequence[CalibrationBin]) -> bytes:
  """Draws a reliability diagram, with the number of examples per bin below."""
  figure = new_figure(4.8, 4.9)
  upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
  filled = [b for b in bins if b["examples"]]
  left, width = [b["low"] for b in filled], [b["high"] - b["low"] for b in filled]
  bars = {"align": "edge", "edgecolor": "white", "linewidth": 1}
  accuracy = np.array([b["accuracy"] for b in filled])
  upper.bar(left, accuracy, width, color=SKY, **bars)
  upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
  confidence = np.array([b["confidence"] for b in filled])
  upper.vlines(confidence, accuracy, confidence, color=VERMILION, linewidth=1.2)
  upper.plot(confidence, confidence, "o", color=VERMILION, ms=5, clip_on=False)
  upper.set_ylim(0, 1)
  upper.set_ylabel("accuracy", color=GREY)
  lower.bar(left, [b["examples"] for b in filled], width, color=GREY, **bars)
  lower.set_xlim(0, 1)
  lower.set_xlabel("confidence (probability of the prediction)", color=GREY)
  lower.set_ylabel("examples", color=GREY)
  lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
  for axes in (upper, lower):
    style_axes(axes)
  return to_png(figure)


def draw_samples(samples: Sequence[SamplePrediction]) -> bytes:
  """Draws sample predictions as a contact sheet.

  A wrong prediction has a thick dashed frame, a cross and both labels below; a correct one a thin
  frame, a tick and one label.
  """
  columns = min(6, len(samples))
  lines = -(-len(samples) // columns)
  figure = new_figure(1.75 * columns, 2.2 * lines)
  for number, sample in enumerate(samples, start=1):
    axes = figure.add_subplot(lines, columns, number)
    axes.imshow(sample.image)
    axes.set_xticks([])
    axes.set_yticks([])
    wrong = not sample.correct
    for spine in axes.spines.values():
      spine.set(color=VERMILION if wrong else GREEN, linewidth=3 if wrong else 1.5)
      spine.set_linestyle((0, (4, 2)) if wrong else "-")
    score = "" if sample.score is None else f" {100 * sample.score:.0f}%"
    prediction = f"{'✗' if wrong else '✓'} {shorten(sample.prediction, 14)}{score}"
    truth = f"truth: {shorten(sample.truth, 16)}" if wrong else ""
    axes.set_xlabel(
      f"{prediction}\n{truth}", parse_math=False, size=8.5, color=DARK, linespacing=1.3
    )
  return to_png(figure)


def draw_reconstructions(images: Mapping[str, NDArray[np.uint8]]) -> bytes:
  """Draws the RECONSTRUCTION_IMAGES [N, H, W, 3] side by side, two examples per line, as PNG."""
  examples = len(images["original"])
  across = min(2, examples)
  lines = -(-examples // across)
  figure = new_figure(1.7 * 3 * across, 1.75 * lines + 0.3)
  grid = figure.add_gridspec(lines, across, wspace=0.06)
  for example in range(examples):
    line, column = divmod(example, across)
    inner = grid[line, column].subgridspec(1, 3, wspace=0.02)
    for position, name in enumerate(RECONSTRUCTION_IMAGES):
      axes = figure.add_subplot(inner[position])
      axes.imshow(images[name][example])
      axes.set_axis_off()
      if line == 0:
        axes.set_title(name, size=9, color=DARK)
  return to_png(figure)
