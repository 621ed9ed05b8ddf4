"""The pictures of a dataset's preview, each drawn to PNG bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from jax_me.reports.figures import (
  BLUE,
  GREEN,
  INK,
  ORANGE,
  PURPLE,
  QUIET,
  SKY,
  VERMILION,
  new_figure,
  quiet_frame,
  shorten,
  to_png,
)

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
HATCHES = ("", "//", "..", "xx", "\\\\", "++")


def draw_counts(counts: Mapping[str, Mapping[str, int]]) -> bytes:
  """Bars of examples per class, one for each split.

  Args:
    counts: split -> class -> number; the same classes in every split.
  """
  splits, labels = list(counts), list(next(iter(counts.values())))
  names = [shorten(label, 24) for label in labels]
  thick = 0.8 / len(splits)
  bar = 0.36 if len(splits) == 1 else 0.24  # inches
  figure = new_figure(5.2, 0.5 + bar * len(splits) * len(labels) + 0.3 * (len(splits) > 1))
  axes = figure.add_subplot()
  places = np.arange(len(labels))
  for number, split in enumerate(splits):
    values = [counts[split][label] for label in labels]
    bars = axes.barh(
      places + (number - (len(splits) - 1) / 2) * thick,
      values,
      0.92 * thick,
      color=COLOURS[number % len(COLOURS)],
      hatch=HATCHES[number % len(HATCHES)],
      edgecolor="white",
      linewidth=0,
      label=split,
    )
    axes.bar_label(bars, [f"{value:,}" for value in values], padding=4, color=INK, fontsize=9)
  axes.set_yticks(places, names, parse_math=False)
  axes.invert_yaxis()
  axes.margins(x=0.12, y=0.02)
  quiet_frame(axes)
  axes.grid(visible=False, axis="y")
  axes.set_xticks([])
  axes.spines["bottom"].set_visible(False)
  axes.tick_params(axis="y", length=0, labelsize=10, labelcolor=INK)
  if len(splits) > 1:
    figure.legend(
      loc="outside upper right", ncols=len(splits), frameon=False, fontsize=9, labelcolor=INK
    )
  return to_png(figure)


def draw_durations(frames: NDArray[np.int64], title: str) -> bytes:
  """A histogram of lengths in frames [N], with their median; N is at least 1."""
  figure = new_figure(3.6, 2.5)
  axes = figure.add_subplot()
  low, high = int(frames.min()), int(frames.max())
  width = max(1, -(-(high - low + 1) // 20))  # whole frames, at most 20 bars
  edges = np.arange(low, high + width + 1, width) - 0.5
  axes.hist(frames, bins=edges.tolist(), color=BLUE, rwidth=0.9)
  median = float(np.median(frames))
  axes.axvline(median, color=VERMILION, linestyle="--", linewidth=1.5)
  axes.set_title(f"{title}: median {median:g}", loc="left", color=INK, size=11, weight="bold")
  axes.set_xlabel("frames", color=QUIET)
  axes.set_ylabel("clips", color=QUIET)
  axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
  axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
  quiet_frame(axes)
  return to_png(figure)


def draw_flow_legend() -> bytes:
  """The colours of flow images: every motion, without and with strain."""
  side = np.linspace(-1, 1, 121)
  right, down = np.meshgrid(side, side)
  figure = new_figure(5.0, 2.7)
  for place, (strain, title) in enumerate(((0.0, "no strain"), (1.0, "strongest strain"))):
    axes = figure.add_subplot(1, 2, place + 1)
    picture = np.stack([(right + 1) / 2, (down + 1) / 2, np.full_like(right, strain)], -1)
    axes.imshow(picture, extent=(-1, 1, 1, -1))
    axes.set_title(title, size=10, color=INK)
    axes.set_xticks([-1, 0, 1], ["left", "still", "right"])
    axes.set_yticks([-1, 0, 1], ["up", "still", "down"] if place == 0 else ["", "", ""])
    # Towards the middle, or the words of two axes would meet in the corners.
    across, upwards = axes.get_xticklabels(), axes.get_yticklabels()
    across[0].set_horizontalalignment("left")
    across[2].set_horizontalalignment("right")
    upwards[0].set_verticalalignment("top")
    upwards[2].set_verticalalignment("bottom")
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.spines[:].set_visible(False)
  return to_png(figure)


def draw_sheet(
  title: str, note: str, rows: Sequence[tuple[str, Sequence[tuple[NDArray[np.uint8], str]]]]
) -> bytes:
  """The contact sheet: a line of pictures for each class.

  Args:
    title: stands above all.
    note: what the pictures show, "" when that is plain.
    rows: (heading, [(image uint8 [H, W, 3], caption)]) of each class; captions of one or two lines.
  """
  columns = max(len(pictures) for _, pictures in rows)
  side, head, foot, gap, margin = 1.15, 0.3, 0.34, 0.08, 0.15  # inches
  width = max(5.0, 2 * margin + columns * side + (columns - 1) * gap)
  note_lines = textwrap.wrap(note, int(14 * width))
  start = margin + 0.3 + 0.16 * len(note_lines)
  line = head + side + foot
  height = start + len(rows) * line + margin
  # Placed by hand: a layout engine takes a minute for some hundred pictures.
  figure = new_figure(width, height, layout=None)

  def write(text: str, left: float, top: float, **style: Any) -> None:
    figure.text(left / width, 1 - top / height, text, parse_math=False, va="top", **style)

  write(shorten(title, int(9 * width)), margin, margin, size=11, weight="bold", color=INK)
  write("\n".join(note_lines), margin, margin + 0.28, size=8, color=QUIET)
  for row, (heading, pictures) in enumerate(rows):
    top = start + row * line
    write(shorten(heading, int(10 * width)), margin, top + 0.1, size=9, weight="bold", color=INK)
    for column, (image, caption) in enumerate(pictures):
      left = margin + column * (side + gap)
      bottom = top + head + side
      axes = figure.add_axes((left / width, 1 - bottom / height, side / width, side / height))
      axes.imshow(image)
      axes.set_axis_off()
      text = "\n".join(shorten(part, 18) for part in caption.split("\n"))
      write(text, left, bottom + 0.03, size=6.5, color=QUIET)
  return to_png(figure)
