"""Summary of the expressions of each person in a video: times, shares and changes of the labels."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jax_me.inference.video.frame_stream import FrameDetections
from jax_me.inference.video.spotting import ExpressionEvent

# Frames in a row with the same label after which it counts as a change of expression, as in
# ViT_MicroExpression.
HELD_FRAMES = 4
# Longest time that a frame stands for, unless frames are farther apart.
MAX_FRAME_SECONDS = 1.0

# Summary of one person: column -> value.
SummaryRow = dict[str, Any]


def summary_columns(labels: Sequence[str]) -> list[str]:
  """Columns of a summary after those that name the video and the person."""
  each = [f"{name}_{label}" for label in labels for name in ("frames", "share", "mean_seconds")]
  return ["frames", "seconds_seen", "micro", "macro", "changes", "sequence", *each]


@dataclasses.dataclass
class _PersonTimes:
  """Counts of one person so far.

  Attributes:
    frames: label -> number of frames.
    seconds: label -> time.
    runs: label -> number of uninterrupted runs.
    sequence: labels that were held for HELD_FRAMES frames, neighbours different.
    label: index of the label in the last frame; None after an absence.
    held: number of frames in a row with it.
  """

  frames: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
  seconds: dict[int, float] = dataclasses.field(
    default_factory=lambda: collections.defaultdict(float)
  )
  runs: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
  sequence: list[int] = dataclasses.field(default_factory=list)
  label: int | None = None
  held: int = 0

  def push(self, label: int) -> None:
    self.frames[label] += 1
    self.runs[label] += label != self.label
    self.held = self.held + 1 if label == self.label else 1
    self.label = label
    if self.held >= HELD_FRAMES and self.sequence[-1:] != [label]:
      self.sequence.append(label)


class ExpressionSummary:
  """Sums up the labels of each person, frame by frame.

  A frame stands for the time until the next one that is neither skipped nor unreadable.

  Args:
    labels: class names.
    interval: seconds between two such frames.
    scores_at_rest: whether the labels are meaningful without motion. Otherwise, as for motion
      models, labels are those of the spotted expressions instead of those of the frames.
  """

  def __init__(self, labels: Sequence[str], interval: float, scores_at_rest: bool = True):
    self._labels = tuple(labels)
    self._interval = interval
    self._scores_at_rest = scores_at_rest
    self._people: dict[int, _PersonTimes] = {}
    self._visible: list[int] = []
    self._seconds = 0.0

  def add(self, result: FrameDetections) -> None:
    """Adds a frame; skipped and unreadable ones do not count."""
    if result.status in ("skipped", "unreadable"):
      return
    longest = max(MAX_FRAME_SECONDS, self._interval)
    self._end_frame(min(result.frame.seconds - self._seconds, longest))
    visible = {d.person: int(d.scores.argmax()) for d in result.detections if d.scores is not None}
    for person in set(self._visible) - set(visible):
      self._people[person].label = None
    for person, label in visible.items():
      self._people.setdefault(person, _PersonTimes()).push(label)
    self._visible, self._seconds = list(visible), result.frame.seconds

  def rows(self, events: Sequence[ExpressionEvent]) -> list[SummaryRow]:
    """The summary of each person, ordered by number. Call it once, after the last frame.

    Args:
      events: the spotted expressions of all people.

    Returns:
      a row per person: "person" and `summary_columns`. Times are in seconds, shares in [0, 1];
      None where a label does not occur.
    """
    self._end_frame(self._interval)
    self._visible = []
    return [
      self._row(person, times, [event for event in events if event.person == person])
      for person, times in sorted(self._people.items())
    ]

  def _end_frame(self, seconds: float) -> None:
    for person in self._visible:
      times = self._people[person]
      assert times.label is not None
      times.seconds[times.label] += max(0.0, seconds)

  def _row(self, person: int, times: _PersonTimes, events: Sequence[ExpressionEvent]) -> SummaryRow:
    frames, seen = times.frames.total(), float(sum(times.seconds.values()))
    if not self._scores_at_rest:
      times = self._from_events(events)
    row: SummaryRow = {
      "person": person,
      "frames": frames,
      "seconds_seen": round(seen, 4),
      "micro": sum(event.kind == "micro" for event in events),
      "macro": sum(event.kind == "macro" for event in events),
      "changes": max(0, len(times.sequence) - 1),
      "sequence": " > ".join(self._labels[label] for label in times.sequence),
    }
    for index, label in enumerate(self._labels):
      runs = times.runs[index]
      row[f"frames_{label}"] = times.frames[index]
      row[f"share_{label}"] = round(min(1.0, times.frames[index] / frames), 4)
      row[f"mean_seconds_{label}"] = round(times.seconds[index] / runs, 4) if runs else None
    return row

  def _from_events(self, events: Sequence[ExpressionEvent]) -> _PersonTimes:
    """The same counts, of the spotted expressions."""
    times = _PersonTimes()
    for event in sorted(events, key=lambda event: event.apex_seconds):
      if event.label is None:
        continue
      label = self._labels.index(event.label)
      seconds = event.offset_seconds - event.onset_seconds
      times.frames[label] += round(seconds / self._interval) + 1
      times.seconds[label] += seconds
      times.runs[label] += 1
      if times.sequence[-1:] != [label]:
        times.sequence.append(label)
    return times


def photograph_summary(counts: Mapping[str, int], labels: Sequence[str]) -> SummaryRow:
  """The summary of photographs: a row without person and times.

  Args:
    counts: label -> number of faces.
    labels: class names.

  Returns:
    "frames" is the number of faces, "share" that of a label among the faces; no times.
  """
  faces = sum(counts.values())
  row: SummaryRow = {"person": None, "frames": faces}
  for label in labels:
    row[f"frames_{label}"] = counts.get(label, 0)
    row[f"share_{label}"] = round(counts.get(label, 0) / faces, 4) if faces else None
  return row
