"""Timeline figure of a video: faces, scores, facial motion and spotted expressions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import FuncFormatter, MaxNLocator

from jax_me.inference.video.decimated_series import DecimatedSeries
from jax_me.inference.video.spotting import ExpressionEvent, SpottingSettings
from jax_me.reports.colours import (
  BLUE,
  DARK,
  GREEN,
  GREY,
  HIGHLIGHT,
  LIGHT_GREY,
  ORANGE,
  PURPLE,
  SKY,
  VERMILION,
)
from jax_me.reports.figures import new_figure, shorten, style_axes, to_png

WIDTH = 12.0
FACES = 14
# With more people the figure would be taller than a screen.
MAX_PEOPLE = 6
MAX_CLASSES = 8
LINE_STYLES = [
  (BLUE, "-"), (VERMILION, "-"), (GREEN, "-"), (PURPLE, "-"),
  (SKY, "--"), (ORANGE, "--"), (DARK, "--"), (GREY, ":"),
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Timeline:
  """Contents of the figure.

  Attributes:
    title: title of the figure.
    seconds: length of the video.
    labels: class names.
    people: {person: time series}.
    events: expressions of all people.
    no_face: (start, end) in seconds of intervals without a face.
    unreadable: (start, end) in seconds of intervals with unreadable frames.
    scores_at_rest: whether the scores are meaningful without motion; False for motion models.
    omitted: number of people who are not in `people`.
  """

  title: str
  seconds: float
  labels: Sequence[str]
  people: Mapping[int, DecimatedSeries]
  events: Sequence[ExpressionEvent]
  no_face: Sequence[tuple[float, float]] = ()
  unreadable: Sequence[tuple[float, float]] = ()
  scores_at_rest: bool = True
  omitted: int = 0


def draw_timeline(timeline: Timeline, *, dark: bool = False) -> bytes:
  """Draws the figure, also for a dark page; returns PNG bytes."""
  numbers = sorted(timeline.people, key=lambda n: (-len(timeline.people[n]), n))
  drawn = sorted(numbers[:MAX_PEOPLE])
  heights = [1.0, 1.9, 0.9] * len(drawn)
  figure = new_figure(WIDTH, 1.1 + 0.9 * max(1.0, sum(heights)), layout=None)
  bottom, top = 0.55, 0.7
  total = figure.get_figheight()
  grid = figure.add_gridspec(
    max(1, len(heights)), 1, height_ratios=heights or [1.0], hspace=0.2,
    left=0.075, right=0.865, bottom=bottom / total, top=1 - top / total,
  )  # fmt: skip
  figure.text(
    0.075, 1 - 0.12 / total, shorten(timeline.title, 90), ha="left", va="top", size=12,
    weight="bold", color=DARK, parse_math=False,
  )  # fmt: skip
  note = _note(timeline, timeline.omitted + len(numbers) - len(drawn))
  figure.text(0.075, 1 - 0.4 / total, note, ha="left", va="top", size=8.5, color=GREY)
  if not drawn:
    axes = figure.add_subplot(grid[0])
    _time_axis(axes, timeline, last=True)
    axes.set_yticks([])
    axes.text(0.5, 0.5, "no faces detected", transform=axes.transAxes, ha="center", color=GREY)
    _shade_gaps(axes, timeline)
    return to_png(figure, dark=dark)
  for index, number in enumerate(drawn):
    rows = [figure.add_subplot(grid[3 * index + row]) for row in range(3)]
    _draw_person(figure, rows, timeline, number, last=index == len(drawn) - 1)
  return to_png(figure, dark=dark)


def _draw_person(
  figure: Figure, rows: list[Axes], timeline: Timeline, number: int, last: bool
) -> None:
  strip, scores, motion = rows
  series = timeline.people[number]
  points = series.points()
  events = [event for event in timeline.events if event.person == number]
  _draw_faces(figure, strip, series, timeline, number)
  for axes in (scores, motion):
    _shade_gaps(axes, timeline)
    for event in events:
      axes.axvspan(event.onset_seconds, event.offset_seconds, color=HIGHLIGHT, linewidth=0)
      axes.axvline(event.apex_seconds, color=ORANGE, linewidth=0.8)
  alpha = 1.0 if timeline.scores_at_rest else 0.22
  mean = np.nanmean(points.scores, axis=0) if len(points.scores) else np.zeros(0)
  chosen = sorted(np.argsort(-np.nan_to_num(mean))[:MAX_CLASSES])
  for index, (colour, style) in zip(chosen, LINE_STYLES, strict=False):
    class_scores = points.scores[:, index]
    scores.plot(
      points.seconds, class_scores, style, color=colour, linewidth=1.3 if alpha == 1 else 0.9,
      alpha=alpha, solid_joinstyle="round",
    )  # fmt: skip
    if alpha < 1:  # highlights the rise of each expression
      inside = np.zeros(len(points.seconds), bool)
      for event in events:
        inside |= (points.seconds >= event.onset_seconds) & (points.seconds <= event.apex_seconds)
      highlighted = np.where(inside, class_scores, np.nan)
      scores.plot(points.seconds, highlighted, style, color=colour, linewidth=2)
  _draw_legend(scores, [timeline.labels[index] for index in chosen])
  scores.set_ylim(-0.04, 1.04)
  scores.set_yticks([0, 0.5, 1])
  scores.set_ylabel("score", color=GREY, size=9)
  measured = points.motion[~np.isnan(points.motion)]
  threshold = 100 * SpottingSettings().motion_open
  if len(measured):
    motion.fill_between(points.seconds, 0, 100 * points.motion, color=BLUE, alpha=0.25, lw=0)
    motion.plot(points.seconds, 100 * points.motion, color=BLUE, linewidth=0.9)
    motion.axhline(threshold, color=GREY, linewidth=0.8, linestyle=":")
    highest = max(float(np.quantile(measured, 0.999)) * 115, 3 * threshold)
    motion.set_ylim(0, highest)
    motion.text(
      1.008, threshold / highest, "threshold", transform=motion.transAxes, size=8, color=GREY,
      va="center",
    )  # fmt: skip
  else:
    motion.set_ylim(0, 1)
    motion.text(0.5, 0.5, "not measured", transform=motion.transAxes, ha="center", color=GREY)
  motion.yaxis.set_major_locator(MaxNLocator(3))
  motion.set_ylabel("motion, %\nof eye dist.", color=GREY, size=9)
  _time_axis(scores, timeline, last=False)
  _time_axis(motion, timeline, last)
  _label_events(scores, events, timeline.seconds)


def _draw_faces(
  figure: Figure, strip: Axes, series: DecimatedSeries, timeline: Timeline, number: int
) -> None:
  strip.set_xlim(0, max(timeline.seconds, 1e-3))
  strip.set_ylim(0, 1)
  strip.set_axis_off()
  inches = strip.get_position().width * figure.get_figwidth() / FACES
  for time, face in series.faces(FACES, timeline.seconds):
    # OffsetImage uses points of 1/72 inch.
    image = OffsetImage(face, zoom=0.86 * inches * 72 / len(face))
    box = AnnotationBbox(image, (time, 0.5), frameon=False, box_alignment=(0.5, 0.5))
    strip.add_artist(box)
  if len(timeline.people) > 1:
    strip.text(
      -0.075, 0.5, f"person {number}", transform=strip.transAxes, size=9.5, weight="bold",
      color=DARK, va="center",
    )  # fmt: skip


def _draw_legend(axes: Axes, names: Sequence[str]) -> None:
  """Legend beside the plot, in the order of the lines."""
  step = 1 / max(len(names), 6)
  for index, (name, (colour, style)) in enumerate(zip(names, LINE_STYLES, strict=False)):
    y = 1 - (index + 0.5) * step
    axes.plot(
      [1.008, 1.03], [y, y], style, color=colour, lw=2, transform=axes.transAxes, clip_on=False
    )
    axes.text(
      1.036, y, shorten(name, 16), transform=axes.transAxes, size=9, color=DARK, va="center",
      parse_math=False,
    )  # fmt: skip


def _label_events(axes: Axes, events: Sequence[ExpressionEvent], seconds: float) -> None:
  """A label above each event, in two rows; omitted if both rows are occupied."""
  length, row_ends = max(seconds, 1e-3), [-1.0, -1.0]
  for event in sorted(events, key=lambda event: event.apex_seconds):
    name = "expression" if event.label is None else shorten(event.label, 16)
    text = name if event.kind == "micro" else f"{name}, macro"
    centre, half = event.apex_seconds / length, 0.0032 * len(text)
    row = next((row for row, end in enumerate(row_ends) if centre - half >= end), None)
    if row is None:
      continue
    row_ends[row] = centre + half + 0.004
    axes.annotate(
      text, (event.apex_seconds, 1), xycoords=("data", "axes fraction"), xytext=(0, 2 + 9.5 * row),
      textcoords="offset points", size=7.5, color=DARK, ha="center", va="bottom", parse_math=False,
    )  # fmt: skip


def _shade_gaps(axes: Axes, timeline: Timeline) -> None:
  for spans, colour, hatch in (
    (timeline.no_face, LIGHT_GREY, ""),
    (timeline.unreadable, VERMILION, "///"),
  ):
    for start, end in spans:
      axes.axvspan(
        start, end, facecolor=colour if not hatch else "none", edgecolor=colour, hatch=hatch,
        linewidth=0 if not hatch else 0.5, alpha=0.45,
      )  # fmt: skip


def _time_axis(axes: Axes, timeline: Timeline, last: bool) -> None:
  style_axes(axes)
  axes.set_xlim(0, max(timeline.seconds, 1e-3))
  axes.xaxis.set_major_locator(MaxNLocator(12, steps=[1, 2, 5, 10]))
  if timeline.seconds > 90:
    axes.xaxis.set_major_formatter(
      FuncFormatter(lambda seconds, _: f"{int(seconds) // 60}:{int(seconds) % 60:02d}")
    )
  if last:
    axes.set_xlabel(
      "time, minutes" if timeline.seconds > 90 else "time, seconds", color=GREY, size=9
    )
  else:
    axes.tick_params(axis="x", labelbottom=False)


def _note(timeline: Timeline, omitted: int) -> str:
  micro = sum(event.kind == "micro" for event in timeline.events)
  macro = len(timeline.events) - micro
  parts = [f"{micro} micro-expressions, {macro} macro-expressions (shaded; line: apex)"]
  if timeline.no_face:
    parts.append("grey: no face")
  if timeline.unreadable:
    parts.append("hatched: unreadable frames")
  if omitted:
    parts.append(f"{omitted} more people in predictions.csv")
  return "   ".join(parts)
