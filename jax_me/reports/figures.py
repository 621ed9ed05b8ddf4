"""What all drawn pictures share: colours, frames, and the way to PNG bytes.

Figures are made without pyplot, so nothing global is touched and threads may draw at once. Colours
are those of Okabe & Ito ("Color universal design", 2008), told apart by people with colour-blind
eyes; whatever a colour says, a line style, a sign or a word says too.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

INK, QUIET, RULE = "#1c2530", "#5a6673", "#d5dbe1"
BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE = (
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#56b4e9",
  "#e69f00",
)
DPI = 150


def new_figure(
  width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
  """An empty white figure of so many inches."""
  figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
  FigureCanvasAgg(figure)
  return figure


def quiet_frame(axes: Axes) -> None:
  """Leaves of the frame what is needed to read values off, in a colour that does not shout."""
  axes.spines[["top", "right"]].set_visible(False)
  axes.spines[["left", "bottom"]].set_color(RULE)
  axes.tick_params(which="both", color=RULE, labelcolor=QUIET, labelsize=8)
  axes.grid(axis="y", color=RULE, linewidth=0.6)
  axes.set_axisbelow(True)


def to_png(figure: Figure) -> bytes:
  """The figure as PNG bytes, 150 pixels an inch."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=DPI)
  return buffer.getvalue()


def thumbnail(image: NDArray[np.uint8], side: int) -> bytes:
  """An image [H, W, 3] as PNG bytes, shrunk until its longer side is at most `side` pixels."""
  picture = Image.fromarray(image)
  picture.thumbnail((side, side), Image.Resampling.LANCZOS)
  buffer = io.BytesIO()
  picture.save(buffer, "PNG", optimize=True)
  return buffer.getvalue()


def shorten(text: Any, length: int) -> str:
  """One line of at most `length` characters, the last an ellipsis where something is cut.

  Bytes that were no UTF-8 become visible, as fonts have no sign for them.
  """
  line = " ".join(str(text).encode("utf-8", "backslashreplace").decode("utf-8").split())
  return line if len(line) <= length else line[: length - 1] + "…"


def luminance(colour: Sequence[float]) -> float:
  """Relative luminance of WCAG 2; below 0.2 white text reads better on it than black."""
  linear = ((c / 12.92) if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
  return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))
