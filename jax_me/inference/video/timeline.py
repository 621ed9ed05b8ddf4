"""The picture of a video's course: faces along the axis, scores, motion, and what was found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import FuncFormatter, MaxNLocator

from jax_me.inference.video.decimated_series import Course
from jax_me.inference.video.spotting import Event, SpottingSettings
from jax_me.reports.figures import (
  BLUE,
  GREEN,
  INK,
  ORANGE,
  PURPLE,
  QUIET,
  RULE,
  SKY,
  VERMILION,
  new_figure,
  quiet_frame,
  shorten,
  to_png,
)

WIDTH = 12.0
FACES = 14
# People beyond these are not drawn: the picture would be taller than a screen shows.
MOST_PEOPLE = 6
MOST_CLASSES = 8
LINES = [
  (BLUE, "-"), (VERMILION, "-"), (GREEN, "-"), (PURPLE, "-"),
  (SKY, "--"), (ORANGE, "--"), (INK, "--"), (QUIET, ":"),
]  # fmt: skip
SHADE = "#f3e3b8"


@dataclasses.dataclass(frozen=True)
class Timeline:
  """What there is to draw.

  Attributes:
    title: of the picture.
    seconds: length of the video.
    labels: class names.
    people: number -> course.
    left_out: how many more people there were.
    events: of all people.
    lost: (from, to) in seconds, stretches in which nobody was seen.
    unreadable: likewise, stretches that could not be read.
    scores_at_rest: whether the scores mean something where nothing moves.
  """

  title: str
  seconds: float
  labels: Sequence[str]
  people: dict[int, Course]
  events: Sequence[Event]
  lost: Sequence[tuple[float, float]] = ()
  unreadable: Sequence[tuple[float, float]] = ()
  scores_at_rest: bool = True
  left_out: int = 0


def draw_timeline(timeline: Timeline) -> bytes:
  """PNG bytes."""
  numbers = sorted(timeline.people, key=lambda n: (-len(timeline.people[n]), n))
  drawn = sorted(numbers[:MOST_PEOPLE])
  heights: list[float] = []
  for _ in drawn:
    heights += [1.0, 1.9, 0.9]
  figure = new_figure(WIDTH, 1.1 + 0.9 * max(1.0, sum(heights)), layout=None)
  bottom, top = 0.55, 0.7
  total = figure.get_figheight()
  grid = figure.add_gridspec(
    max(1, len(heights)), 1, height_ratios=heights or [1.0], hspace=0.2,
    left=0.075, right=0.865, bottom=bottom / total, top=1 - top / total,
  )  # fmt: skip
  figure.text(
    0.075, 1 - 0.12 / total, shorten(timeline.title, 90), ha="left", va="top", size=12,
    weight="bold", color=INK, parse_math=False,
  )  # fmt: skip
  note = _note(timeline, timeline.left_out + len(numbers) - len(drawn))
  figure.text(0.075, 1 - 0.4 / total, note, ha="left", va="top", size=8.5, color=QUIET)
  if not drawn:
    axes = figure.add_subplot(grid[0])
    _time_axis(axes, timeline, last=True)
    axes.set_yticks([])
    axes.text(0.5, 0.5, "nobody was seen", transform=axes.transAxes, ha="center", color=QUIET)
    _shade_gaps(axes, timeline)
    return to_png(figure)
  for place, number in enumerate(drawn):
    rows = [figure.add_subplot(grid[3 * place + row]) for row in range(3)]
    _draw_person(figure, rows, timeline, number, last=place == len(drawn) - 1)
  return to_png(figure)


def _draw_person(
  figure: Figure, rows: list[Axes], timeline: Timeline, number: int, last: bool
) -> None:
  strip, scores, motion = rows
  course = timeline.people[number]
  points = course.points()
  events = [event for event in timeline.events if event.person == number]
  _draw_faces(figure, strip, course, timeline, number)
  for axes in (scores, motion):
    _shade_gaps(axes, timeline)
    for event in events:
      axes.axvspan(event.onset_seconds, event.offset_seconds, color=SHADE, linewidth=0)
      axes.axvline(event.apex_seconds, color=ORANGE, linewidth=0.8)
  faint = 1.0 if timeline.scores_at_rest else 0.22
  mean = np.nanmean(points.scores, axis=0) if len(points.scores) else np.zeros(0)
  chosen = sorted(np.argsort(-np.nan_to_num(mean))[:MOST_CLASSES])
  for place, (colour, style) in zip(chosen, LINES, strict=False):
    course_of_class = points.scores[:, place]
    scores.plot(
      points.seconds, course_of_class, style, color=colour, linewidth=1.3 if faint == 1 else 0.9,
      alpha=faint, solid_joinstyle="round",
    )  # fmt: skip
    if faint < 1:  # scores of motion say something only while something moves
      inside = np.zeros(len(points.seconds), bool)
      for event in events:
        inside |= (points.seconds >= event.onset_seconds) & (points.seconds <= event.apex_seconds)
      shown = np.where(inside, course_of_class, np.nan)
      scores.plot(points.seconds, shown, style, color=colour, linewidth=2)
  _name_lines(scores, [timeline.labels[place] for place in chosen])
  scores.set_ylim(-0.04, 1.04)
  scores.set_yticks([0, 0.5, 1])
  scores.set_ylabel("score", color=QUIET, size=9)
  known = points.motion[~np.isnan(points.motion)]
  threshold = 100 * SpottingSettings().motion_open
  if len(known):
    motion.fill_between(points.seconds, 0, 100 * points.motion, color=BLUE, alpha=0.25, lw=0)
    motion.plot(points.seconds, 100 * points.motion, color=BLUE, linewidth=0.9)
    motion.axhline(threshold, color=QUIET, linewidth=0.8, linestyle=":")
    highest = max(float(np.quantile(known, 0.999)) * 115, 3 * threshold)
    motion.set_ylim(0, highest)
    motion.text(
      1.008, threshold / highest, "threshold", transform=motion.transAxes, size=8, color=QUIET,
      va="center",
    )  # fmt: skip
  else:
    motion.set_ylim(0, 1)
    motion.text(0.5, 0.5, "not measured", transform=motion.transAxes, ha="center", color=QUIET)
  motion.yaxis.set_major_locator(MaxNLocator(3))
  motion.set_ylabel("motion, %\nof eye dist.", color=QUIET, size=9)
  _time_axis(scores, timeline, last=False)
  _time_axis(motion, timeline, last)
  _name_events(scores, events, timeline.seconds)


def _draw_faces(
  figure: Figure, strip: Axes, course: Course, timeline: Timeline, number: int
) -> None:
  strip.set_xlim(0, max(timeline.seconds, 1e-3))
  strip.set_ylim(0, 1)
  strip.set_axis_off()
  inches = strip.get_position().width * figure.get_figwidth() / FACES
  for at, face in course.faces(FACES, timeline.seconds):
    # OffsetImage counts in points of 1/72 inch.
    picture = OffsetImage(face, zoom=0.86 * inches * 72 / len(face))
    box = AnnotationBbox(picture, (at, 0.5), frameon=False, box_alignment=(0.5, 0.5))
    strip.add_artist(box)
  if len(timeline.people) > 1:
    strip.text(
      -0.075, 0.5, f"person {number}", transform=strip.transAxes, size=9.5, weight="bold",
      color=INK, va="center",
    )  # fmt: skip


def _name_lines(axes: Axes, names: Sequence[str]) -> None:
  """Names beside the plot, in the lines' colours and order."""
  step = 1 / max(len(names), 6)
  for place, (name, (colour, style)) in enumerate(zip(names, LINES, strict=False)):
    y = 1 - (place + 0.5) * step
    axes.plot(
      [1.008, 1.03], [y, y], style, color=colour, lw=2, transform=axes.transAxes, clip_on=False
    )
    axes.text(
      1.036, y, shorten(name, 16), transform=axes.transAxes, size=9, color=INK, va="center",
      parse_math=False,
    )  # fmt: skip


def _name_events(axes: Axes, events: Sequence[Event], seconds: float) -> None:
  """A name above each event, in two rows; left out where both are taken."""
  wide, free = max(seconds, 1e-3), [-1.0, -1.0]
  for event in sorted(events, key=lambda event: event.apex_seconds):
    name = "expression" if event.label is None else shorten(event.label, 16)
    text = name if event.kind == "micro" else f"{name}, macro"
    at, half = event.apex_seconds / wide, 0.0032 * len(text)
    row = next((row for row, end in enumerate(free) if at - half >= end), None)
    if row is None:
      continue
    free[row] = at + half + 0.004
    axes.annotate(
      text, (event.apex_seconds, 1), xycoords=("data", "axes fraction"), xytext=(0, 2 + 9.5 * row),
      textcoords="offset points", size=7.5, color=INK, ha="center", va="bottom", parse_math=False,
    )  # fmt: skip


def _shade_gaps(axes: Axes, timeline: Timeline) -> None:
  for spans, colour, hatch in ((timeline.lost, RULE, ""), (timeline.unreadable, VERMILION, "///")):
    for start, end in spans:
      axes.axvspan(
        start, end, facecolor=colour if not hatch else "none", edgecolor=colour, hatch=hatch,
        linewidth=0 if not hatch else 0.5, alpha=0.45,
      )  # fmt: skip


def _time_axis(axes: Axes, timeline: Timeline, last: bool) -> None:
  quiet_frame(axes)
  axes.set_xlim(0, max(timeline.seconds, 1e-3))
  axes.xaxis.set_major_locator(MaxNLocator(12, steps=[1, 2, 5, 10]))
  if timeline.seconds > 90:
    axes.xaxis.set_major_formatter(
      FuncFormatter(lambda at, _: f"{int(at) // 60}:{int(at) % 60:02d}")
    )
  if last:
    axes.set_xlabel(
      "time, minutes" if timeline.seconds > 90 else "time, seconds", color=QUIET, size=9
    )
  else:
    axes.tick_params(axis="x", labelbottom=False)


def _note(timeline: Timeline, left_out: int) -> str:
  micro = sum(event.kind == "micro" for event in timeline.events)
  macro = len(timeline.events) - micro
  parts = [f"{micro} micro- and {macro} macro-expressions (shaded; the line is the apex)"]
  if timeline.lost:
    parts.append("grey: nobody seen")
  if timeline.unreadable:
    parts.append("hatched: broken frames")
  if left_out:
    parts.append(f"{left_out} more people in predictions.csv")
  return "   ".join(parts)
