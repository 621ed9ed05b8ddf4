"""Figures of the dataset preview, drawn to PNG bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from jax_me.reports.colours import BLUE, DARK, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from jax_me.reports.figures import new_figure, shorten, style_axes, to_png

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
HATCHES = ("", "//", "..", "xx", "\\\\", "++")


def draw_counts(counts: Mapping[str, Mapping[str, int]]) -> bytes:
  """Draws a bar chart of images per class, with one bar per split.

  Args:
    counts: split -> class -> number; the same classes in every split.
  """
  splits, labels = list(counts), list(next(iter(counts.values())))
  names = [shorten(label, 24) for label in labels]
  thickness = 0.8 / len(splits)
  bar_height = 0.36 if len(splits) == 1 else 0.24  # inches
  figure = new_figure(5.2, 0.5 + bar_height * len(splits) * len(labels) + 0.3 * (len(splits) > 1))
  axes = figure.add_subplot()
  centers = np.arange(len(labels))
  for number, split in enumerate(splits):
    values = [counts[split][label] for label in labels]
    bars = axes.barh(
      centers + (number - (len(splits) - 1) / 2) * thickness,
      values,
      0.92 * thickness,
      color=COLOURS[number % len(COLOURS)],
      hatch=HATCHES[number % len(HATCHES)],
      edgecolor="white",
      linewidth=0,
      label=split,
    )
    axes.bar_label(bars, [f"{value:,}" for value in values], padding=4, color=DARK, fontsize=9)
  axes.set_yticks(centers, names, parse_math=False)
  axes.invert_yaxis()
  axes.margins(x=0.12, y=0.02)
  style_axes(axes)
  axes.grid(visible=False, axis="y")
  axes.set_xticks([])
  axes.spines["bottom"].set_visible(False)
  axes.tick_params(axis="y", length=0, labelsize=10, labelcolor=DARK)
  if len(splits) > 1:
    figure.legend(
      loc="outside upper right", ncols=len(splits), frameon=False, fontsize=9, labelcolor=DARK
    )
  return to_png(figure)


def draw_durations(frames: NDArray[np.int64], title: str) -> bytes:
  """Draws a histogram of durations in frames [N], N >= 1, with their median."""
  figure = new_figure(3.6, 2.5)
  axes = figure.add_subplot()
  low, high = int(frames.min()), int(frames.max())
  width = max(1, -(-(high - low + 1) // 20))  # whole frames, at most 20 bars
  edges = np.arange(low, high + width + 1, width) - 0.5
  axes.hist(frames, bins=edges.tolist(), color=BLUE, rwidth=0.9)
  median = float(np.median(frames))
  axes.axvline(median, color=VERMILION, linestyle="--", linewidth=1.5)
  axes.set_title(f"{title}: median {median:g}", loc="left", color=DARK, size=11, weight="bold")
  axes.set_xlabel("frames", color=GREY)
  axes.set_ylabel("clips", color=GREY)
  axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
  axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
  style_axes(axes)
  return to_png(figure)


def draw_flow_legend() -> bytes:
  """Draws the colour code of flow images: all motions, without and with strain."""
  side = np.linspace(-1, 1, 121)
  right, down = np.meshgrid(side, side)
  figure = new_figure(5.0, 2.7)
  for column, (strain, title) in enumerate(((0.0, "no strain"), (1.0, "maximum strain"))):
    axes = figure.add_subplot(1, 2, column + 1)
    colours = np.stack([(right + 1) / 2, (down + 1) / 2, np.full_like(right, strain)], -1)
    axes.imshow(colours, extent=(-1, 1, 1, -1))
    axes.set_title(title, size=10, color=DARK)
    axes.set_xticks([-1, 0, 1], ["left", "zero", "right"])
    axes.set_yticks([-1, 0, 1], ["up", "zero", "down"] if column == 0 else ["", "", ""])
    # Align the outer labels inwards, so that those of both axes do not overlap in the corners.
    across, upwards = axes.get_xticklabels(), axes.get_yticklabels()
    across[0].set_horizontalalignment("left")
    across[2].set_horizontalalignment("right")
    upwards[0].set_verticalalignment("top")
    upwards[2].set_verticalalignment("bottom")
    axes.tick_params(length=0, labelsize=9, labelcolor=DARK)
    axes.spines[:].set_visible(False)
  return to_png(figure)


def draw_contact_sheet(
  title: str, note: str, rows: Sequence[tuple[str, Sequence[tuple[NDArray[np.uint8], str]]]]
) -> bytes:
  """Draws the contact sheet, with a row of images per class.

  Args:
    title: title of the sheet.
    note: description of the images, or "".
    rows: (heading, [(image uint8 [H, W, 3], caption)]) of each class; captions of one or two lines.

  Returns:
    PNG bytes.
  """
  columns = max(len(images) for _, images in rows)
  side, head, foot, gap, margin = 1.15, 0.3, 0.34, 0.08, 0.15  # inches
  width = max(5.0, 2 * margin + columns * side + (columns - 1) * gap)
  note_lines = textwrap.wrap(note, int(14 * width))
  start = margin + 0.3 + 0.16 * len(note_lines)
  line = head + side + foot
  height = start + len(rows) * line + margin
  # No layout engine: it takes a minute for a few hundred images.
  figure = new_figure(width, height, layout=None)

  def write(text: str, left: float, top: float, **style: Any) -> None:
    figure.text(left / width, 1 - top / height, text, parse_math=False, va="top", **style)

  write(shorten(title, int(9 * width)), margin, margin, size=11, weight="bold", color=DARK)
  write("\n".join(note_lines), margin, margin + 0.28, size=8, color=GREY)
  for row, (heading, images) in enumerate(rows):
    top = start + row * line
    write(shorten(heading, int(10 * width)), margin, top + 0.1, size=9, weight="bold", color=DARK)
    for column, (image, caption) in enumerate(images):
      left = margin + column * (side + gap)
      bottom = top + head + side
      axes = figure.add_axes((left / width, 1 - bottom / height, side / width, side / height))
      axes.imshow(image)
      axes.set_axis_off()
      text = "\n".join(shorten(part, 18) for part in caption.split("\n"))
      write(text, left, bottom + 0.03, size=6.5, color=GREY)
  return to_png(figure)
