"""Learning curves: panels of logged values, of one run or as mean and band over folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from jax_me.evaluation.metrics import SCORE_NAMES
from jax_me.reports.colours import BLUE, DARK, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from jax_me.reports.figures import new_figure, style_axes, to_png
from jax_me.training.logging.history import HistoryRow, numeric_keys, series

LINES = [(BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (PURPLE, ":"), (SKY, "-"), (ORANGE, "--")]
BAND = (10, 90)  # Percentiles of the folds between which the band is drawn.
LONG = 60  # Points above which a noisy curve is smoothed.
FoldSeries = Mapping[str, NDArray[np.float64]]  # Fold -> [points, 2] of (step or epoch, value).


class Panel(NamedTuple):
  """One diagram of learning curves and the keys of the logged values in it."""

  title: str
  keys: tuple[str, ...]


def curve_panels(rows: Sequence[HistoryRow]) -> list[Panel]:
  """Selects the panels for the logged values: loss, scores, learning rate, images per second."""
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


def draw_curves(rows: Sequence[HistoryRow], panels: Sequence[Panel]) -> bytes:
  """Draws learning curves in a grid of two columns.

  Args:
    rows: the history from `merge_history`. With several folds ("fold"), the mean of the folds is a
      line, the range from the 10th to the 90th percentile a band. A value that each fold has only
      once is a point per fold, with mean and range beside them.
    panels: from `curve_panels`, at least one.

  Returns:
    PNG bytes.
  """
  columns = min(2, len(panels))
  lines = -(-len(panels) // columns)
  figure = new_figure(4.6 * columns, 3.0 * lines)
  axis = _horizontal_axis(rows)
  for number, panel in enumerate(panels, start=1):
    axes = figure.add_subplot(lines, columns, number)
    style_axes(axes)
    curves = [series(rows, key, axis) for key in panel.keys]
    folds = max(map(len, curves))
    mean = folds > 1 and panel.title != "images per second"  # That is of all folds already.
    title = panel.title + (f", mean of {folds} folds" if mean else "")
    axes.set_title(title, loc="left", color=DARK, size=11, weight="bold")
    single = [folds > 1 and max(map(len, by_fold.values())) == 1 for by_fold in curves]
    if all(single):
      _draw_only_points(axes, panel.keys, curves)
    else:
      _draw_panel(axes, panel, curves, single)
      axes.set_xlabel(_step_label(rows) if axis == "step" else "epoch", color=GREY)
      axes.set_xlim(0, 1.02 * max(row.get(axis, 0) for row in rows) or 1)
      axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
      if len(panel.keys) > 1 or "/" in panel.keys[0]:
        axes.legend(frameon=False, fontsize=8, labelcolor=DARK, handlelength=2.6)
    _set_value_axis(
      axes, panel.title, np.concatenate([p[:, 1] for c in curves for p in c.values()])
    )
  return to_png(figure)


def describe_panel(rows: Sequence[HistoryRow], panel: Panel) -> str:
  """Gives the first and the last value of each curve, with several folds of their mean."""
  ends = []
  for key in panel.keys:
    by_fold = series(rows, key)
    first = np.mean([points[0, 1] for points in by_fold.values()])
    last = np.array([points[-1, 1] for points in by_fold.values()])
    once = max(map(len, by_fold.values())) == 1
    text = f"{last.mean():.3g}" if once else f"from {first:.3g} to {last.mean():.3g}"
    if len(by_fold) > 1:
      text = (
        f"mean of {len(by_fold)} folds {text} ({last.min():.3g} to {last.max():.3g} at the end)"
      )
    ends.append(f"{key} {text}")
  return f"{panel.title}: {', '.join(ends)}"


def describe_bands(rows: Sequence[HistoryRow]) -> str:
  """Explains bands and points of several folds; "" for one."""
  folds = {row["fold"] for row in rows if "fold" in row}
  if len(folds) < 2:
    return ""
  return (
    f"Lines: mean of {len(folds)} folds; bands: from the {BAND[0]}th to the {BAND[1]}th percentile "
    "of the folds. Values that a fold has only once are drawn as a point per fold. The mean of the "
    "folds' scores is not the pooled score. Images per second are those of all folds that train "
    "together."
  )


def _draw_panel(
  axes: Axes, panel: Panel, curves: Sequence[FoldSeries], single: Sequence[bool]
) -> None:
  """Curves over steps or epochs; values that each fold has only once as points at their step."""
  smooth = panel.title != "learning rate"
  # Points of several keys are drawn side by side, left of their step.
  last = max(points[-1, 0] for by_fold in curves for points in by_fold.values())
  places = iter(0.03 + 0.045 * np.arange(sum(single))[::-1])
  for key, by_fold, once, (colour, style) in zip(panel.keys, curves, single, LINES, strict=False):
    if once:
      points = np.concatenate(list(by_fold.values()))
      place = points[:, 0].mean() - next(places) * last
      _draw_points(axes, place, 0.008 * last, points[:, 1], colour, key)
    elif len(by_fold) > 1:
      _draw_band(axes, by_fold, colour, style, key, smooth)
    else:
      (points,) = by_fold.values()
      _draw_series(axes, points, colour, style, key, smooth)


def _draw_series(
  axes: Axes, points: NDArray[np.float64], colour: str, style: str, label: str, smooth: bool
) -> None:
  """Draws one curve; noisy values are drawn faintly behind their running mean."""
  step, value = points.T
  marker = "o" if len(step) <= 30 else ""
  if smooth and len(step) > LONG:
    axes.plot(step, value, color=colour, alpha=0.25, linewidth=0.8)
    value = _running_mean(value, len(value) // LONG + 1)
  axes.plot(step, value, color=colour, linestyle=style, marker=marker, ms=3, label=label)


def _draw_band(
  axes: Axes, by_fold: FoldSeries, colour: str, style: str, label: str, smooth: bool
) -> None:
  """Draws the mean of the folds and a band, as far as all folds have values."""
  places = np.unique(np.concatenate([points[:, 0] for points in by_fold.values()]))
  end = min(points[-1, 0] for points in by_fold.values())
  places = np.append(places[places < end], end)
  values = np.stack([np.interp(places, *points.T) for points in by_fold.values()])
  curves = np.stack([values.mean(axis=0), *np.percentile(values, BAND, axis=0)])
  if smooth and len(places) > LONG:
    curves = np.stack([_running_mean(curve, len(curve) // LONG + 1) for curve in curves])
  mean, low, high = curves
  axes.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)
  marker = "o" if len(places) <= 30 else ""
  axes.plot(places, mean, color=colour, linestyle=style, marker=marker, ms=3, label=label)


def _draw_only_points(axes: Axes, keys: Sequence[str], curves: Sequence[FoldSeries]) -> None:
  """Draws a column of points per key, where no key has more than one value per fold."""
  for place, (by_fold, (colour, _)) in enumerate(zip(curves, LINES, strict=False)):
    values = np.concatenate(list(by_fold.values()))[:, 1]
    _draw_points(axes, place, 0.12, values, colour)
  axes.set_xticks(range(len(keys)), keys)
  axes.set_xlim(-0.6, len(keys) - 0.4)


def _draw_points(
  axes: Axes,
  place: float,
  spread: float,
  values: NDArray[np.float64],
  colour: str,
  label: str | None = None,
) -> None:
  """Draws a point per fold, spread by a fixed pattern, with their mean and range beside them."""
  offsets = spread * (np.arange(len(values)) % 5 - 2) / 2
  axes.plot(place + offsets, values, "o", color=colour, ms=3, alpha=0.35, markeredgewidth=0)
  mean, (low, high) = values.mean(), np.percentile(values, BAND)
  axes.errorbar(
    place + 2 * spread,
    mean,
    yerr=[[max(mean - low, 0)], [max(high - mean, 0)]],
    color=colour,
    marker="D",
    ms=5,
    capsize=3,
    label=label,
  )


def _set_value_axis(axes: Axes, title: str, drawn: NDArray[np.float64]) -> None:
  if title == "score":
    axes.set_ylim(-0.02, 1.02)
  elif title == "loss":
    # Logarithmic only if most of the curve spans decades, not because of a single batch.
    if drawn.min() > 0 and np.quantile(drawn, 0.95) > 30 * np.quantile(drawn, 0.05):
      axes.set_yscale("log")
  else:
    axes.set_ylim(0, 1.08 * drawn.max() or 1)
    axes.yaxis.set_major_formatter("{x:.1e}" if drawn.max() < 0.01 else "{x:g}")


def _running_mean(values: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
  """Centred mean over 2 `radius` + 1 values, fewer at the ends."""
  total = np.concatenate([[0.0], np.cumsum(values)])
  index = np.arange(len(values))
  low, high = np.maximum(index - radius, 0), np.minimum(index + radius + 1, len(values))
  return (total[high] - total[low]) / (high - low)


def _horizontal_axis(rows: Sequence[HistoryRow]) -> str:
  """ "step", or "epoch" for folds that end at different steps of the same epoch."""
  last: dict[str, float] = {}
  for row in rows:
    last[row.get("fold", "")] = max(last.get(row.get("fold", ""), 0), row["step"])
  known = all(isinstance(row.get("epoch"), (int, float)) for row in rows)
  return "epoch" if known and len(set(last.values())) > 1 else "step"


def _step_label(rows: Sequence[HistoryRow]) -> str:
  pairs = [(row["step"], row["epoch"]) for row in rows if row.get("epoch")]
  if not pairs or not all(isinstance(value, (int, float)) for pair in pairs for value in pair):
    return "step"
  step, epoch = max(pairs)
  return f"step ({step / epoch:.4g} per epoch)" if step else "step"


def _score_order(key: str) -> tuple[int, str]:
  return (SCORE_NAMES.index(key.split("/")[-1]), key)
