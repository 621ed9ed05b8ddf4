"""Figures of explanations: one per face, and a contact sheet of many faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes

from jax_me.inference.explain.explainer import Explanation, HeatMap, Reconstruction
from jax_me.inference.explain.heat_map import overlay, scale_to_unit
from jax_me.reports.colours import BLUE, DARK, GREY, SKY
from jax_me.reports.figures import new_figure, shorten, style_axes, to_png
from jax_me.reports.saved_report import RECONSTRUCTION_IMAGES

TITLES = {"rollout": "attention rollout", "gradcam": "Grad-CAM"}
PANEL = 2.6  # inches
# With more classes the bars would be thinner than their labels.
MAX_CLASSES = 8
SHEET_COLUMNS = 9  # images per row of the sheet; a face takes several
THUMBNAIL_SIDE = 128  # pixels


def normalised_map(heat: HeatMap) -> np.ndarray:
  """The map scaled to [0, 1] for drawing: float32 [S, S].

  The residual connections add a constant to a rollout, so its smallest value is mapped to 0. For
  Grad-CAM, 0 stays 0.
  """
  return scale_to_unit(heat.pixels, from_zero=heat.method == "gradcam")


def draw_result(result: Explanation | Reconstruction, title: str) -> bytes:
  """PNG: the images of a result side by side.

  For an explanation, a contour shows each heat map at half its maximum, and bars show the scores.
  """
  images = result_images(result)
  count = len(images) + isinstance(result, Explanation)
  figure = new_figure(PANEL * count, PANEL + 0.75)
  axes = figure.subplots(1, count)
  figure.suptitle(
    shorten(title, 24 * count), x=0.01, ha="left", fontsize=10, color=DARK, parse_math=False
  )
  for panel, (name, image) in zip(axes, images, strict=False):
    _draw_image(panel, image, name)
  if isinstance(result, Explanation):
    for panel, heat in zip(axes[1:], result.maps.values(), strict=False):
      scaled = normalised_map(heat)
      if scaled.any():
        side = images[1][1].shape[:2]
        upsampled = cv2.resize(scaled, side, interpolation=cv2.INTER_LINEAR)
        panel.contour(upsampled, levels=[0.5], colors="white", linewidths=1.0, linestyles="--")
    _draw_scores(axes[-1], result)
  return to_png(figure)


def thumbnail_strip(result: Explanation | Reconstruction) -> np.ndarray:
  """Thumbnails of the images of one face, side by side: uint8 [128, 128 * n, 3] RGB."""
  size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
  return np.concatenate(
    [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for _, image in result_images(result)],
    axis=1,
  )


def draw_sheet(strips: Sequence[tuple[np.ndarray, str]], heading: str) -> bytes:
  """PNG: thumbnail strips on a grid, each with a caption above it.

  Args:
    strips: (uint8 [128, W, 3] RGB, all of one width; caption), at least one.
    heading: description of the images in a strip, from left to right.
  """
  images_per_strip = strips[0][0].shape[1] // THUMBNAIL_SIDE
  columns = min(len(strips), max(1, SHEET_COLUMNS // images_per_strip))
  rows = -(-len(strips) // columns)
  width = 1.15 * images_per_strip
  figure = new_figure(max(columns * width, 4.0), rows * 1.45 + 0.4)
  figure.suptitle(
    shorten(heading, 100), x=0.01, ha="left", fontsize=9, color=GREY, parse_math=False
  )
  axes = figure.subplots(rows, columns, squeeze=False).ravel()
  for panel in axes[len(strips) :]:
    panel.set_axis_off()
  for panel, (image, caption) in zip(axes, strips, strict=False):
    _draw_image(panel, image, shorten(caption, round(14 * width)), size=7)
  return to_png(figure)


def result_images(result: Explanation | Reconstruction) -> list[tuple[str, np.ndarray]]:
  """(title, uint8 [H, W, 3] RGB) of the images of a result, from left to right."""
  face = result.face.image
  if isinstance(result, Reconstruction):
    reconstruction = (result.masked, result.reconstructed, face)
    return list(zip(RECONSTRUCTION_IMAGES, reconstruction, strict=True))
  images = [("model input", face)]
  for method, heat in result.maps.items():
    scaled = normalised_map(heat)
    title = TITLES[method] + (f" of {shorten(result.label, 14)}" if method == "gradcam" else "")
    images.append((title if scaled.any() else f"{title}: all zero", overlay(face, scaled)))
  return images


def _draw_image(axes: Axes, image: np.ndarray, title: str, size: int = 9) -> None:
  axes.imshow(image)
  axes.set_title(title, fontsize=size, color=DARK, parse_math=False)
  axes.set_axis_off()


def _draw_scores(axes: Axes, explanation: Explanation) -> None:
  ranked = sorted(explanation.scores.items(), key=lambda item: -item[1])[:MAX_CLASSES]
  if explanation.label not in dict(ranked):
    ranked[-1] = (explanation.label, explanation.scores[explanation.label])
  names, scores = zip(*ranked[::-1], strict=True)
  colours: Any = [BLUE if name == explanation.label else SKY for name in names]
  bars = axes.barh(range(len(names)), scores, color=colours, height=0.7)
  axes.bar_label(bars, [f"{score:.2f}" for score in scores], padding=3, fontsize=8, color=DARK)
  style_axes(axes)
  axes.grid(visible=False)
  axes.set_yticks(range(len(names)), [shorten(name, 14) for name in names], parse_math=False)
  axes.set_ylim(
    len(names) - 0.4 - max(len(names), 4), len(names) - 0.5
  )  # a few bars start at the top
  axes.set_box_aspect(1)
  axes.set_xlim(0, 1.2)
  axes.set_xticks([0, 0.5, 1])
  axes.set_title("probabilities", fontsize=9, color=DARK)
