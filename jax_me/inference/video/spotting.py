"""Expression spotting: onset, apex, offset, label and kind (micro or macro) of expressions.

Two cues are used. The *motion cue* is the displacement of facial regions from their recent
neutral position (`jax_me.inference.video.facial_motion`); it needs no trained model and has exact
times. The *score cue* is the probability that the face is not neutral, from models with a class
"neutral". Each cue is segmented by hysteresis thresholding: an expression starts where the cue
exceeds a high threshold and extends in both directions to where it falls below a low one. If both
cues find the same expression, it has the label of the score cue. Events of one label with a short
gap are one expression.

A cue that is undefined for a moment (the head is turned away, a hand is before the face, the face
is out of the image) neither starts nor ends an expression.

The thresholds of `SpottingSettings` were chosen on synthetic videos (`benchmarks/spotting.py`
reports the scores on others). Expressions of at most half a second are micro-expressions (Yan et
al. 2013; MEGC), measured by frame times.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from jax_me.data.labels import canonical_label
from jax_me.inference.video.expression_events import (
  MICRO_SECONDS,
  ExpressionEvent,
  kind_of,
  merge_cues,
  merge_gaps,
)
from jax_me.inference.video.facial_motion import MAX_MOTION, MIN_REGIONS, REGIONS
from jax_me.inference.video.interval_segmentation import (
  FrameCues,
  Interval,
  MotionSegmenter,
  NeutralBaseline,
  NeutralNoise,
  ScoreSegmenter,
  leading_regions,
)

__all__ = [
  "MICRO_SECONDS", "ExpressionEvent", "ExpressionSpotter", "FrameCues", "SpottingSettings",
  "merge_cues", "neutral_class_index",
]  # fmt: skip

MAX_EXTENSION_SECONDS = 0.1
# An event has at least this many frames, so that its apex is after its onset and before its offset.
MIN_FRAMES = 3
# No expression begins with a step of more than this (eye distances per second) within this time: a
# step is a tracking error, and what follows is compared with a new neutral position.
MAX_SPEED = 2.5
STEP_SECONDS = 0.025
# Origins whose neutral positions are kept. A later origin may have begun with a hand before the
# face, which slides over it: for this many seconds the threshold is higher by this factor.
MAX_ORIGINS = 4
NEW_ORIGIN_SECONDS = 5.0
NEW_ORIGIN_FACTOR = 2.5
# Error of the motion, in eye distances, per degree that the head has turned from the pose of just
# now; turn without error.
TURN_ERROR = 0.002
FREE_TURN = 3.0
# Speech: at least SYLLABLES motions of the mouth of at most SYLLABLE_SECONDS, this close together.
SYLLABLES = 3
SYLLABLE_SECONDS = 0.6
PAUSE_SECONDS = 0.35
_MOUTH = frozenset(REGIONS.index(name) for name in ("upper lip", "lower lip", "chin"))
# Class names of the neutral face.
NEUTRAL_LABELS = ("neutral", "none")


@dataclasses.dataclass(frozen=True)
class SpottingSettings:
  """Thresholds of expression spotting.

  Motion is in units of the distance between the eyes: the mean displacement of the two regions
  that moved most.

  Attributes:
    motion_open: motion that starts an expression.
    motion_noise: lower bound for that threshold, as a multiple of the motion noise of the neutral
      face.
    motion_close: fraction of the peak motion below which an expression ends.
    motion_reach: extension of both ends, as a fraction of their distance to the apex and at most
      MAX_EXTENSION_SECONDS: at a third of its height an expression has already begun.
    score_open, score_close: values of 1 - P(neutral) that start and end an expression.
    rest_seconds: window of the median that gives the neutral position.
    lag_seconds: the most recent frames are excluded from it: an expression may have begun.
    shortest: shorter intervals are flicker; seconds.
    score_shortest: the same for scores that no motion accompanies.
    longest: motion that stays for longer is a new pose and becomes the neutral position; seconds.
      Scores have no limit.
    gap_seconds: maximum time within an expression in which the face is absent or its motion
      undefined.
    merge_seconds, score_merge_seconds: maximum gap between two events by motion, or by scores,
      that are one expression of the same label.
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
  score_shortest: float = 0.5
  longest: float = 90.0
  gap_seconds: float = 2.5
  merge_seconds: float = 0.35
  score_merge_seconds: float = 0.5


class ExpressionSpotter:
  """Online spotting of the expressions of one person; keeps only the cues of open expressions.

  Args:
    person: number of the person, for the events.
    labels: class names in the order of the scores; () without a model.
    settings: thresholds.

  Attributes:
    displacement: float [regions, 2], displacement of the regions of the last frame from the neutral
      position, (right, down) in the image, in units of the distance between the eyes; NaN where it
      is undefined, None if motion is not measured.
  """

  def __init__(
    self,
    person: int,
    labels: Sequence[str] = (),
    settings: SpottingSettings = SpottingSettings(),  # noqa: B008 (frozen)
  ):
    self.displacement: np.ndarray | None = None
    self._person = person
    self._labels = tuple(labels)
    self._settings = settings
    self._neutral_class = neutral_class_index(labels)
    self._origin = 0
    # Neutral positions of the last origins, since a face may return to one.
    self._baselines: dict[int, NeutralBaseline] = {}
    self._origin_start: dict[int, float] = {}
    self._noise = NeutralNoise()
    self._motion = MotionSegmenter(settings.motion_close, settings.longest)
    self._scores = ScoreSegmenter(settings.score_open, settings.score_close)
    self._leading: np.ndarray = np.zeros(0, int)
    self._events: list[ExpressionEvent] = []
    # Onsets of the motion events that the mouth began.
    self._mouth_onsets: set[int] = set()
    self._first: FrameCues | None = None
    # Last frame seen, with its motion defined and its distance, and with scores that count.
    self._last: FrameCues | None = None
    self._last_motion: tuple[float, float] | None = None
    self._last_scores = -math.inf

  def push(self, cues: FrameCues) -> float | None:
    """Adds the next frame in which the person is visible.

    Returns:
      distance from the neutral position, averaged over the two regions that moved most, in units
      of the distance between the eyes; None if motion is not measured or undefined.
    """
    self._first = self._first or cues
    self._last = cues
    distance = self._push_motion(cues)
    if cues.scores is not None and self._neutral_class is not None and not cues.hidden:
      if cues.seconds - self._last_scores > self._settings.gap_seconds:
        self._add_event("scores", self._scores.close(), cut=True)
      self._last_scores = cues.seconds
      height = 1 - float(cues.scores[self._neutral_class])
      self._add_event("scores", self._scores.push(cues, height))
    return distance

  def finish(self) -> list[ExpressionEvent]:
    """Ends open intervals and returns all events, ordered by onset."""
    self._add_event("motion", self._motion.close(), cut=True)
    self._add_event("scores", self._scores.close(), cut=True)
    settings = self._settings
    inside = [self._clipped(event) for event in self._events]
    motion = self._without_speech([event for event in inside if event.evidence == "motion"])
    scores = [event for event in inside if event.evidence == "scores"]
    events = merge_cues(
      merge_gaps(motion, settings.merge_seconds) + merge_gaps(scores, settings.score_merge_seconds)
    )
    self._events = sorted(
      (_with_inner_apex(event) for event in events if not self._is_flicker(event)),
      key=lambda event: (event.onset, event.offset),
    )
    return self._events

  def _push_motion(self, cues: FrameCues) -> float | None:
    """Adds the motion of a frame; returns its distance from the neutral position."""
    self.displacement = None
    if cues.motion is None:
      return None
    settings, last = self._settings, self._last_motion
    baseline = self._baseline(cues)
    displacement = baseline.displacements(cues.motion)
    self.displacement = np.full_like(displacement, np.nan)
    distance = self._distance(np.linalg.norm(displacement, axis=-1))
    if distance is None:
      return None
    if last is not None:
      step = cues.seconds - last[0]
      if step > settings.gap_seconds:
        self._add_event("motion", self._motion.close(), cut=True)
      elif cues.origin != self._origin:
        if self._motion.is_open:
          # The face may still return to the origin of the expression.
          baseline.update(cues, quiet=False)
          return None
      elif (
        last[1] < settings.motion_open
        and step <= STEP_SECONDS
        and distance - last[1] > MAX_SPEED * step
      ):
        baseline.clear()
        displacement, distance = 0 * displacement, 0.0
    self.displacement = displacement
    self._origin = cues.origin
    self._last_motion = cues.seconds, distance
    high = max(settings.motion_open, settings.motion_noise * self._noise.value)
    if not baseline.is_ready or self._noise.total_seconds < settings.rest_seconds:
      high = math.inf
    if cues.origin and cues.seconds - self._origin_start[cues.origin] < NEW_ORIGIN_SECONDS:
      high *= NEW_ORIGIN_FACTOR
    # What may be an error of a turned head does not start an expression.
    high += TURN_ERROR * max(0.0, baseline.turn(cues.pose) - FREE_TURN)
    self._add_event("motion", self._motion.push(cues, distance, high))
    if self._motion.discarded:
      baseline.clear()
    if not self._motion.is_open:
      quiet = baseline.is_ready and distance < settings.motion_open
      baseline.update(cues, quiet=quiet)
      # Motion above the threshold is not noise, even while the baseline is not ready.
      self._noise.update(min(distance, settings.motion_open), cues.seconds, settings.lag_seconds)
    return distance

  def _baseline(self, cues: FrameCues) -> NeutralBaseline:
    """The neutral position of the origin of a frame."""
    if cues.origin not in self._baselines:
      settings = self._settings
      self._baselines[cues.origin] = NeutralBaseline(settings.rest_seconds, settings.lag_seconds)
      self._origin_start[cues.origin] = cues.seconds
      while len(self._baselines) > MAX_ORIGINS:
        oldest = next(iter(self._baselines))
        del self._baselines[oldest], self._origin_start[oldest]
    return self._baselines[cues.origin]

  def _distance(self, distances: np.ndarray) -> float | None:
    """Mean distance of the two regions that moved most; None if it is undefined."""
    if np.isfinite(distances).sum() < MIN_REGIONS:
      return None
    order = leading_regions(distances)
    distance = float(distances[order].mean())
    if distance > MAX_MOTION:
      return None
    if not self._motion.is_open:
      self._leading = order
    elif distance < self._motion.low_threshold and not np.isfinite(distances[self._leading]).all():
      return None  # The regions that showed the expression are not measured now.
    return distance

  def _add_event(
    self, evidence: Literal["motion", "scores"], interval: Interval | None, *, cut: bool = False
  ) -> None:
    if interval is None:
      return
    seconds = interval.last.seconds - interval.first.seconds
    # Scores that flicker may belong to one expression; they are merged first.
    if evidence == "motion" and (interval.frames < MIN_FRAMES or seconds < self._settings.shortest):
      return
    label, score = self._classify(interval)
    reach = self._settings.motion_reach if evidence == "motion" else 0.0
    onset, onset_seconds = self._extended(interval.apex, interval.first, reach)
    if evidence == "motion" and _MOUTH.intersection(self._leading.tolist()):
      self._mouth_onsets.add(onset)
    # The fall was not seen where a gap or the end of the video follows.
    offset, offset_seconds = self._extended(interval.apex, interval.last, reach * (not cut))
    self._events.append(
      ExpressionEvent(
        person=self._person,
        onset=onset,
        apex=interval.apex.frame,
        offset=offset,
        onset_seconds=onset_seconds,
        apex_seconds=interval.apex.seconds,
        offset_seconds=offset_seconds,
        kind=kind_of(offset_seconds - onset_seconds),
        label=label,
        score=score,
        confidence=interval.height / (interval.height + interval.threshold),
        evidence=evidence,
      )
    )

  def _extended(self, apex: FrameCues, end: FrameCues, reach: float) -> tuple[int, float]:
    """Frame and time of an end moved away from the apex, not before the first frame."""
    assert self._first is not None
    duration = end.seconds - apex.seconds
    reach = min(reach, MAX_EXTENSION_SECONDS / max(abs(duration), 1e-9))
    frame = end.frame + round(reach * (end.frame - apex.frame))
    seconds = end.seconds + reach * duration
    return max(frame, self._first.frame), max(seconds, self._first.seconds)

  def _classify(self, interval: Interval) -> tuple[str | None, float | None]:
    """The class with the highest mean score, and that score."""
    if interval.scores is None or not self._labels:
      return None, None
    best = int(interval.scores.argmax())
    return self._labels[best], float(interval.scores[best])

  def _clipped(self, event: ExpressionEvent) -> ExpressionEvent:
    """The event, not after the last frame."""
    assert self._last is not None
    frame, seconds = self._last.frame, self._last.seconds
    return dataclasses.replace(
      event,
      offset=min(event.offset, frame),
      offset_seconds=min(event.offset_seconds, seconds),
    )

  def _without_speech(self, events: list[ExpressionEvent]) -> list[ExpressionEvent]:
    """The motion events except for runs of short motions of the mouth."""
    kept: list[ExpressionEvent] = []
    run: list[ExpressionEvent] = []
    for event in [*events, None]:
      syllable = (
        event is not None
        and event.onset in self._mouth_onsets
        and event.offset_seconds - event.onset_seconds <= SYLLABLE_SECONDS
      )
      goes_on = run and event and event.onset_seconds - run[-1].offset_seconds <= PAUSE_SECONDS
      if not (syllable and goes_on):
        kept += run if len(run) < SYLLABLES else []
        run = []
      if event is not None:
        (run if syllable else kept).append(event)
    return kept

  def _is_flicker(self, event: ExpressionEvent) -> bool:
    """Whether an event is too short for its evidence."""
    seconds = event.offset_seconds - event.onset_seconds
    if event.offset - event.onset < MIN_FRAMES - 1:
      return True
    if event.evidence == "scores":
      return seconds < self._settings.score_shortest
    # A model that knows neutral faces must see a micro-expression too.
    return event.kind == "micro" and self._neutral_class is not None and event.evidence != "both"


def _with_inner_apex(event: ExpressionEvent) -> ExpressionEvent:
  """The event with its apex between its ends: in the middle where it is strongest at one end."""
  if event.onset < event.apex < event.offset:
    return event
  return dataclasses.replace(
    event,
    apex=(event.onset + event.offset) // 2,
    apex_seconds=(event.onset_seconds + event.offset_seconds) / 2,
  )


def neutral_class_index(labels: Sequence[str]) -> int | None:
  """Index of the class of the neutral face; None if there is no such class."""
  names = [canonical_label(label) for label in labels]
  return next((names.index(name) for name in NEUTRAL_LABELS if name in names), None)
