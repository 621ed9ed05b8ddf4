"""Expressions in the course of a video: onset, apex, offset, label, and micro or macro.

Two witnesses speak. *Motion*: the regions of the face against where they rested a moment ago
(`jax_me.inference.video.facial_motion`); it needs no trained model, and is exact in
time. *Scores*: the probability that the face is not at rest, from models that know a class for rest
("neutral"). Both
courses are cut by hysteresis: an expression opens where the course passes a high threshold and
reaches back and on to where it is below a low one, so that it does not flicker. Where both found
the same expression, the motion's times and the scores' label are taken.

The thresholds of `SpottingSettings` were chosen on synthetic videos (`benchmarks/spotting.py` has
the scores on others). Micro is what lasts at most half a second (Yan et al. 2013; MEGC), by the
times of the frames.
"""

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from jax_me.data.labels import canonical_label
from jax_me.evaluation.spotting_scores import overlap

MICRO_SECONDS = 0.5
REACH_SECONDS = 0.1
# Over how long the trembling at rest is averaged.
NOISE_SECONDS = 2.0
# From this share of the apex on, frames of the rise have a say in the label.
NEAR_APEX = 0.7
# Classes that stand for a face at rest.
REST_LABELS = ("neutral", "none")


@dataclasses.dataclass(frozen=True)
class SpottingSettings:
  """Thresholds.

  Attributes:
    motion_open: motion that opens an expression, in distances between the eyes: the mean of the
      two regions that moved most.
    motion_noise: the same as a multiple of the motion's own noise at rest; the higher one counts.
    motion_close: share of its strongest motion below which an expression is over.
    motion_reach: how much further back and on its ends are put, as a share of the way from there
      to the apex and by REACH_SECONDS at most: what is a third of its height has begun before.
    score_open, score_close: 1 - probability of rest that opens and ends an expression.
    rest_seconds: over how long the place of rest is taken, as a median.
    lag_seconds: the last moments do not count for it, since an expression may just be beginning.
    shortest, longest: seconds; shorter is flicker, longer (MEGC: 4 s) no expression but a pose.
    gap_seconds: for so long a face may be away within an expression.
  """

  motion_open: float = 0.006
  motion_noise: float = 3.0
  motion_close: float = 0.3
  motion_reach: float = 0.3
  score_open: float = 0.6
  score_close: float = 0.4
  rest_seconds: float = 0.6
  lag_seconds: float = 0.15
  shortest: float = 0.08
  longest: float = 4.0
  gap_seconds: float = 0.25


@dataclasses.dataclass(frozen=True)
class Moment:
  """One frame of one person.

  Attributes:
    frame: its number.
    seconds: its time.
    motion: float [regions, 2] of `MotionMeter`, or None where motion is not measured.
    scores: float [classes], or None without a model.
  """

  frame: int
  seconds: float
  motion: np.ndarray | None
  scores: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Event:
  """An expression.

  Attributes:
    person: who.
    onset, apex, offset: numbers of the first frame, the strongest one and the last one.
    onset_seconds, apex_seconds, offset_seconds: their times.
    kind: "micro" or "macro".
    label: the class; None without a model.
    score: its mean probability shortly before the apex; None without a model.
    confidence: in [0.5, 1): p / (p + threshold), p the height of the course at the apex.
    evidence: "motion", "scores" or "both".
  """

  person: int
  onset: int
  apex: int
  offset: int
  onset_seconds: float
  apex_seconds: float
  offset_seconds: float
  kind: Literal["micro", "macro"]
  label: str | None
  score: float | None
  confidence: float
  evidence: Literal["motion", "scores", "both"]


class Spotter:
  """Finds the expressions of one person while the video runs.

  Keeps the last few seconds, and the expressions found.

  Args:
    person: number, for the events.
    labels: class names of the scores, in their order; () without a model.
    settings: thresholds.
  """

  def __init__(
    self,
    person: int,
    labels: Sequence[str] = (),
    settings: SpottingSettings = SpottingSettings(),  # noqa: B008 (frozen)
  ):
    self._person = person
    self._labels = tuple(labels)
    self._settings = settings
    self._rest_class = rest_class(labels)
    self._rest = _RestingPlace(settings)
    self._motion = _Course(0.0, settings.motion_close, settings)
    self._scores = _Course(settings.score_close, 0.0, settings)
    self._found: list[Event] = []
    self._first: Moment | None = None
    self._last: Moment | None = None

  def push(self, moment: Moment) -> float | None:
    """Takes the next frame in which the person is seen.

    Returns:
      the motion's course here: the distance from rest of the two regions that moved most, in
      distances between the eyes. None where motion is not measured.
    """
    away = None
    if self._last is not None:
      if moment.seconds - self._last.seconds > self._settings.gap_seconds:
        self._end()
    self._first = self._first or moment
    self._last = moment
    if moment.motion is not None:
      height = away = self._rest.distance(moment.motion)
      high = max(self._settings.motion_open, self._settings.motion_noise * self._rest.noise)
      if not self._rest.is_known:
        high = math.inf
      self._note("motion", self._motion.push(moment, height, high))
      if self._motion.given_up:
        self._rest.forget()
      if not self._motion.is_open:
        self._rest.take(moment.motion, height, moment.seconds)
    if moment.scores is not None and self._rest_class is not None:
      height = 1 - float(moment.scores[self._rest_class])
      self._note("scores", self._scores.push(moment, height, self._settings.score_open))
    return away

  def finish(self) -> list[Event]:
    """Ends what is going on, and gives all expressions in the order of their onsets."""
    self._end()
    self._found = merge_witnesses(self._found)
    return self._found

  def _end(self) -> None:
    """Nothing follows on what has been seen; no expression reaches beyond it."""
    self._note("motion", self._motion.close())
    self._note("scores", self._scores.close())
    self._rest.forget()
    if self._last is not None:
      frame, seconds = self._last.frame, self._last.seconds
      self._found = [
        dataclasses.replace(
          event,
          offset=min(event.offset, frame),
          offset_seconds=min(event.offset_seconds, seconds),
        )
        for event in self._found
      ]

  def _note(self, evidence: Literal["motion", "scores"], span: "_Span | None") -> None:
    if span is None:
      return
    label, score = self._label(span)
    reach = self._settings.motion_reach if evidence == "motion" else 0.0
    onset, onset_seconds = self._reached(span.apex, span.moments[0], reach)
    offset, offset_seconds = self._reached(span.apex, span.moments[-1], reach)
    self._found.append(
      Event(
        person=self._person,
        onset=onset,
        apex=span.apex.frame,
        offset=offset,
        onset_seconds=onset_seconds,
        apex_seconds=span.apex.seconds,
        offset_seconds=offset_seconds,
        kind="micro" if offset_seconds - onset_seconds <= MICRO_SECONDS + 1e-6 else "macro",
        label=label,
        score=score,
        confidence=span.height / (span.height + span.high),
        evidence=evidence,
      )
    )

  def _reached(self, apex: Moment, end: Moment, reach: float) -> tuple[int, float]:
    """Frame and time of an end, put further out, though not before the beginning."""
    assert self._first is not None
    way = end.seconds - apex.seconds
    reach = min(reach, REACH_SECONDS / max(abs(way), 1e-9))
    frame = end.frame + round(reach * (end.frame - apex.frame))
    seconds = end.seconds + reach * way
    return max(frame, self._first.frame), max(seconds, self._first.seconds)

  def _label(self, span: "_Span") -> tuple[str | None, float | None]:
    """The class with the highest mean score near the apex, and that score.

    Only the rise counts: what models of motion see of the fall is the expression backwards.
    """
    scores = [m.scores for m in span.near_apex if m.scores is not None]
    if not scores or not self._labels:
      return None, None
    mean = np.mean(scores, axis=0)
    best = int(mean.argmax())
    return self._labels[best], float(mean[best])


def rest_class(labels: Sequence[str]) -> int | None:
  """Which class stands for a face at rest; None where there is none."""
  names = [canonical_label(label) for label in labels]
  return next((names.index(rest) for rest in REST_LABELS if rest in names), None)


def merge_witnesses(events: Sequence[Event]) -> list[Event]:
  """One event for each expression that motion and scores both found.

  Such pairs overlap by at least half; the times are the motion's, the label is the scores'.
  """
  by_motion = [event for event in events if event.evidence != "scores"]
  merged = []
  for event in (event for event in events if event.evidence == "scores"):
    spans = [(overlap((m.onset, m.offset), (event.onset, event.offset)), m) for m in by_motion]
    best, same = max(spans, key=lambda one: one[0], default=(0.0, None))
    if same is None or best < 0.5:
      merged.append(event)
      continue
    by_motion.remove(same)
    confidence = max(event.confidence, same.confidence)
    merged.append(
      dataclasses.replace(
        same, label=event.label, score=event.score, confidence=confidence, evidence="both"
      )
    )
  return sorted([*merged, *by_motion], key=lambda event: (event.onset, event.offset))


@dataclasses.dataclass(frozen=True)
class _Span:
  """An interval of a course.

  Attributes:
    moments: all of it.
    near_apex: the part of the rise that is at least NEAR_APEX as high as the apex.
    apex: the strongest moment.
    height, high: there, and the threshold that it passed.
  """

  moments: Sequence[Moment]
  near_apex: Sequence[Moment]
  apex: Moment
  height: float
  high: float


class _Course:
  """Hysteresis on one course.

  Args:
    floor: height below which a span is over ...
    share: ... or below this share of its peak, whichever is higher.
    settings: the rest.
  """

  def __init__(self, floor: float, share: float, settings: SpottingSettings):
    self._floor, self._share, self._settings = floor, share, settings
    self._past: collections.deque[tuple[Moment, float]] = collections.deque()
    self._inside: list[tuple[Moment, float]] = []
    self._high = 0.0
    self.given_up = False

  @property
  def is_open(self) -> bool:
    return bool(self._inside)

  def push(self, moment: Moment, height: float, high: float) -> _Span | None:
    """Takes the next frame; gives the span that it ends.

    `given_up` tells whether a span was dropped because it was longer than any expression.
    """
    self.given_up = False
    if not self._inside:
      self._past.append((moment, height))
      while moment.seconds - self._past[0][0].seconds > self._settings.longest / 4:
        self._past.popleft()
      if height >= high:
        self._high = high
        while self._past and self._past[-1][1] >= self._end(high):
          self._inside.append(self._past.pop())
        self._inside.reverse()
      return None
    if height < self._end(max(height for _, height in self._inside)):
      span = self.close()
      self._past.append((moment, height))
      return span
    self._inside.append((moment, height))
    if moment.seconds - self._inside[0][0].seconds > self._settings.longest:
      self._inside.clear()
      self.given_up = True
    return None

  def close(self) -> _Span | None:
    """Ends what is open; None where nothing is, or only a flicker."""
    inside, self._inside = self._inside, []
    self._past.clear()
    if not inside:
      return None
    peak = max(range(len(inside)), key=lambda at: inside[at][1])
    # The end of the rise is known by the peak; the beginning was taken by the threshold.
    first, low = peak, self._end(inside[peak][1])
    while first and inside[first - 1][1] >= low:
      first -= 1
    near = [m for m, height in inside[first : peak + 1] if height >= NEAR_APEX * inside[peak][1]]
    moments = [moment for moment, _ in inside[first:]]
    if moments[-1].seconds - moments[0].seconds < self._settings.shortest:
      return None
    return _Span(moments, near, inside[peak][0], inside[peak][1], self._high)

  def _end(self, peak: float) -> float:
    return max(self._floor, self._share * peak)


class _RestingPlace:
  """Where the regions of a face lie between expressions, and how much they tremble there."""

  def __init__(self, settings: SpottingSettings):
    self._settings = settings
    self._places: collections.deque[tuple[float, np.ndarray]] = collections.deque()
    self._learned = 0.0
    self.noise = 0.0

  @property
  def is_known(self) -> bool:
    """Whether the place, and once the trembling, have been watched for long enough."""
    if self._learned < self._settings.rest_seconds or not self._places:
      return False
    return self._places[-1][0] - self._places[0][0] >= 2 * self._settings.lag_seconds

  def distance(self, motion: np.ndarray) -> float:
    """How far the two regions that moved most are from rest, on average; 0 while none is known."""
    if not self._places:
      return 0.0
    old = self._places[-1][0] - self._settings.lag_seconds
    known = [place for at, place in self._places if at <= old] or [self._places[0][1]]
    away = np.linalg.norm(motion - np.median(known, axis=0), axis=-1)
    return float(np.sort(away)[-2:].mean())

  def take(self, motion: np.ndarray, distance: float, seconds: float) -> None:
    """Notes down a frame at rest."""
    if self._places:
      step = seconds - self._places[-1][0]
      self._learned += step
      # A mean over all rest at first, over the last seconds later.
      share = step / max(1e-9, min(self._learned, NOISE_SECONDS))
      self.noise += share * (distance - self.noise)
    self._places.append((seconds, motion))
    oldest = seconds - self._settings.rest_seconds - self._settings.lag_seconds
    while self._places[0][0] < oldest:
      self._places.popleft()

  def forget(self) -> None:
    """The place is another one from now on; the trembling will be the same."""
    self._places.clear()
