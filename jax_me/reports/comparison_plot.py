"""Figure of a comparison: scores of the runs and their differences, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from jax_me.evaluation.comparison import Comparison, PairComparison
from jax_me.evaluation.metrics import ScoreName
from jax_me.evaluation.summary import IntervalScores
from jax_me.reports.colours import BLUE, DARK, GREY, VERMILION
from jax_me.reports.figures import new_figure, shorten, style_axes, to_png
from jax_me.reports.score_text import SCORE_TITLES

ROW = 0.34  # Height of a run or pair, inches.
Interval = tuple[float, float] | None


def draw_comparison(comparison: Comparison, names: Sequence[ScoreName]) -> bytes:
  """Draws one column per score: the runs above, the differences of all pairs below.

  Args:
    comparison: the scores.
    names: the scores to draw.

  Returns:
    PNG bytes.
  """
  runs, pairs = comparison["runs"], comparison["pairs"]
  heights = [len(runs) + 0.6, len(pairs) + 0.6]
  figure = new_figure(1.5 + 2.2 * len(names), 1.1 + ROW * sum(heights))
  grid = figure.subplots(2, len(names), squeeze=False, height_ratios=heights)
  for column, name in enumerate(names):
    upper, lower = grid[:, column]
    _draw_rows(upper, [(run, *_score(scores, name)) for run, scores in runs.items()], BLUE, "o")
    upper.set_title(SCORE_TITLES[name], loc="left", color=DARK, size=11, weight="bold")
    _draw_rows(lower, [(_pair_name(p), *_difference(p, name)) for p in pairs], VERMILION, "D")
    lower.axvline(0, color=GREY, linewidth=1, linestyle="--")
    lower.set_xlabel("difference", color=GREY, size=9)
    if column:
      for axes in (upper, lower):
        axes.set_yticklabels([])
  return to_png(figure)


def _draw_rows(
  axes: Axes, rows: Sequence[tuple[str, float, Interval]], colour: str, marker: str
) -> None:
  """A point with its interval for each (name, value, interval), the first on top."""
  for place, (_, value, interval) in enumerate(rows):
    if interval is not None:
      axes.plot(interval, (place, place), color=colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot(value, place, marker, color=colour, ms=5)
  style_axes(axes)
  axes.grid(axis="y", visible=False)
  axes.set_ylim(len(rows) - 0.4, -0.6)
  axes.set_yticks(
    range(len(rows)), [shorten(name, 29) for name, _, _ in rows], parse_math=False, color=DARK
  )
  axes.tick_params(axis="y", length=0)
  axes.xaxis.set_major_locator(MaxNLocator(4))


def _score(scores: IntervalScores, name: ScoreName) -> tuple[float, Interval]:
  return scores[name], (scores["intervals"] or {}).get(name)


def _difference(pair: PairComparison, name: ScoreName) -> tuple[float, Interval]:
  return pair["difference"][name], (pair["intervals"] or {}).get(name)


def _pair_name(pair: PairComparison) -> str:
  return f"{shorten(pair['second'], 13)} − {shorten(pair['first'], 13)}"
