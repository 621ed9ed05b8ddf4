"""Style of drawn figures and their encoding as PNG.

Figures are made without pyplot, so no global state is changed and several threads can draw at once.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb, to_rgba_array
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from jax_me.reports.colours import GREY, LIGHT_GREY, ON_DARK

DPI = 150


def new_figure(
  width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
  """Creates an empty white figure.

  Args:
    width: inches.
    height: inches.
    layout: layout engine of matplotlib; None for positions set by hand.

  Returns:
    The figure, on an Agg canvas.
  """
  figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
  FigureCanvasAgg(figure)
  return figure


def style_axes(axes: Axes) -> None:
  """Removes the upper and right spines; draws the others, ticks and a horizontal grid in grey."""
  axes.spines[["top", "right"]].set_visible(False)
  axes.spines[["left", "bottom"]].set_color(LIGHT_GREY)
  axes.tick_params(which="both", color=LIGHT_GREY, labelcolor=GREY, labelsize=8)
  axes.grid(axis="y", color=LIGHT_GREY, linewidth=0.6)
  axes.set_axisbelow(True)


def to_png(figure: Figure, *, dark: bool = False) -> bytes:
  """Encodes the figure as PNG with `DPI` pixels per inch; `dark` gives it the colours `ON_DARK`."""
  if dark:
    _recolour(figure)
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=DPI)
  return buffer.getvalue()


def _recolour(figure: Figure) -> None:
  """Replaces the colours of all artists but images."""
  for artist in figure.findobj():
    for name in ("color", "facecolor", "edgecolor", "markeredgecolor"):
      read, write = (getattr(artist, f"{verb}_{name}", None) for verb in ("get", "set"))
      if read is None or write is None:
        continue
      colours = to_rgba_array(read())
      changed = [
        (*to_rgb(ON_DARK.get(to_hex(colour), to_hex(colour))), colour[3]) for colour in colours
      ]
      if not np.array_equal(colours, changed):
        write(changed if len(changed) > 1 else changed[0])


def thumbnail(image: NDArray[np.uint8], side: int) -> bytes:
  """Encodes an image [H, W, 3] as PNG, shrunk to at most `side` pixels on its longer side."""
  small = Image.fromarray(image)
  small.thumbnail((side, side), Image.Resampling.LANCZOS)
  buffer = io.BytesIO()
  small.save(buffer, "PNG", optimize=True)
  return buffer.getvalue()


def shorten(text: object, length: int) -> str:
  """Formats text as one line of at most `length` characters, truncated with an ellipsis.

  Bytes that were not UTF-8 are shown as escapes, since fonts have no glyph for them.
  """
  line = " ".join(str(text).encode("utf-8", "backslashreplace").decode("utf-8").split())
  return line if len(line) <= length else line[: length - 1] + "…"


def luminance(colour: Sequence[float]) -> float:
  """Relative luminance (WCAG 2) of an RGB colour in [0, 1]; below 0.2 white text is legible."""
  linear = ((c / 12.92) if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
  return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))
