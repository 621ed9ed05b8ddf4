"""Pictures of explanations: one a face, and a contact sheet of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes

from jax_me.inference.explain.explainer import Explanation, HeatMap, Reconstruction
from jax_me.inference.explain.heat_map import overlay, relative
from jax_me.reports.figures import BLUE, INK, QUIET, SKY, new_figure, quiet_frame, shorten, to_png

TITLES = {"rollout": "attention rollout", "gradcam": "Grad-CAM"}
PANEL = 2.6  # inches
# More classes than these are not drawn: the bars would be thinner than their names.
MOST_CLASSES = 8
SHEET_COLUMNS = 9  # of pictures, several of them a face
SHEET_SIDE = 128  # pixels of a picture on the sheet


def coloured(heat: HeatMap) -> np.ndarray:
  """The map in [0, 1] as it is drawn: [S, S] float32.

  The mean of a rollout is the residual connections' doing, so its lowest value counts as nothing;
  of Grad-CAM zero does.
  """
  return relative(heat.pixels, from_zero=heat.method == "gradcam")


def draw_explanation(explanation: Explanation, title: str) -> bytes:
  """PNG: the face, each map laid over it with a line at half of its height, the scores."""
  maps = list(explanation.maps.values())
  panels = len(maps) + 2
  figure = new_figure(PANEL * panels, PANEL + 0.75)
  axes = figure.subplots(1, panels)
  figure.suptitle(
    shorten(title, 24 * panels), x=0.01, ha="left", fontsize=10, color=INK, parse_math=False
  )
  _show(axes[0], explanation.face.image, "what the model sees")
  for panel, heat in zip(axes[1:], maps, strict=False):
    shown = coloured(heat)
    laid = overlay(explanation.face.image, shown)
    name = TITLES[heat.method]
    if heat.method == "gradcam":
      name += f" of {shorten(explanation.label, 14)}"
    _show(panel, laid, name if shown.any() else f"{name}: nothing")
    if shown.any():
      fine = cv2.resize(shown, laid.shape[:2], interpolation=cv2.INTER_LINEAR)
      panel.contour(fine, levels=[0.5], colors="white", linewidths=1.0, linestyles="--")
  _bars(axes[-1], explanation)
  return to_png(figure)


def draw_reconstruction(reconstruction: Reconstruction, title: str) -> bytes:
  """PNG: masked, reconstructed and original side by side."""
  figure = new_figure(PANEL * 3, PANEL + 0.75)
  axes = figure.subplots(1, 3)
  figure.suptitle(shorten(title, 72), x=0.01, ha="left", fontsize=10, color=INK, parse_math=False)
  for panel, (name, image) in zip(axes, _triple(reconstruction), strict=True):
    _show(panel, image, name)
  return to_png(figure)


def strip(found: Explanation | Reconstruction) -> np.ndarray:
  """The pictures of a face side by side, small: uint8 [128, 128 * n, 3] RGB."""
  if isinstance(found, Reconstruction):
    images = [image for _, image in _triple(found)]
  else:
    images = [found.face.image]
    images += [overlay(found.face.image, coloured(heat)) for heat in found.maps.values()]
  size = (SHEET_SIDE, SHEET_SIDE)
  return np.concatenate([cv2.resize(i, size, interpolation=cv2.INTER_AREA) for i in images], 1)


def draw_sheet(strips: Sequence[tuple[np.ndarray, str]], heading: str) -> bytes:
  """PNG: strips below and beside one another, each with a line of text above it.

  Args:
    strips: (uint8 [128, W, 3] RGB, all of one width; its text), at least one.
    heading: what the pictures of a strip are, from left to right.
  """
  pictures = strips[0][0].shape[1] // SHEET_SIDE
  columns = min(len(strips), max(1, SHEET_COLUMNS // pictures))
  rows = -(-len(strips) // columns)
  width = 1.15 * pictures
  figure = new_figure(max(columns * width, 4.0), rows * 1.45 + 0.4)
  figure.suptitle(
    shorten(heading, 100), x=0.01, ha="left", fontsize=9, color=QUIET, parse_math=False
  )
  axes = figure.subplots(rows, columns, squeeze=False).ravel()
  for panel in axes[len(strips) :]:
    panel.set_axis_off()
  for panel, (image, text) in zip(axes, strips, strict=False):
    _show(panel, image, shorten(text, round(14 * width)), size=7)
  return to_png(figure)


def _triple(found: Reconstruction) -> list[tuple[str, np.ndarray]]:
  return [
    ("masked", found.masked),
    ("reconstructed", found.reconstructed),
    ("original", found.face.image),
  ]


def _show(axes: Axes, image: np.ndarray, title: str, size: int = 9) -> None:
  axes.imshow(image)
  axes.set_title(title, fontsize=size, color=INK, parse_math=False)
  axes.set_axis_off()


def _bars(axes: Axes, explanation: Explanation) -> None:
  ranked = sorted(explanation.scores.items(), key=lambda item: -item[1])[:MOST_CLASSES]
  if explanation.label not in dict(ranked):
    ranked[-1] = (explanation.label, explanation.scores[explanation.label])
  names, scores = zip(*ranked[::-1], strict=True)
  colours: Any = [BLUE if name == explanation.label else SKY for name in names]
  bars = axes.barh(range(len(names)), scores, color=colours, height=0.7)
  axes.bar_label(bars, [f"{score:.2f}" for score in scores], padding=3, fontsize=8, color=INK)
  quiet_frame(axes)
  axes.grid(visible=False)
  axes.set_yticks(range(len(names)), [shorten(name, 14) for name in names], parse_math=False)
  axes.set_ylim(len(names) - 0.4 - max(len(names), 4), len(names) - 0.5)  # few stand at the top
  axes.set_box_aspect(1)
  axes.set_xlim(0, 1.2)
  axes.set_xticks([0, 0.5, 1])
  axes.set_title("probabilities", fontsize=9, color=INK)
