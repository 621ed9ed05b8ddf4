"""Spotted expressions, and the merging of what is one expression."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from jax_me.evaluation.spotting_scores import interval_iou

# Longest micro-expression (Yan et al. 2013; MEGC).
MICRO_SECONDS = 0.5
# Two events overlap if they share this fraction of the shorter one.
MIN_OVERLAP = 0.5


@dataclasses.dataclass(frozen=True)
class ExpressionEvent:
  """A spotted expression.

  Attributes:
    person: number of the person.
    onset, apex, offset: indices of the first frame, the strongest frame and the last frame.
    onset_seconds, apex_seconds, offset_seconds: their times.
    kind: "micro" or "macro".
    label: the class; None without a model.
    score: mean probability of the class: before the apex for motion, while it is above the
      threshold for scores; None without a model.
    confidence: in [0.5, 1): p / (p + threshold), where p is the height of the cue at the apex.
    evidence: cue that found the expression: "motion", "scores" or "both".
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


def kind_of(seconds: float) -> Literal["micro", "macro"]:
  """The kind of an expression of this duration."""
  return "micro" if seconds <= MICRO_SECONDS + 1e-6 else "macro"


def merge_gaps(events: Sequence[ExpressionEvent], seconds: float) -> list[ExpressionEvent]:
  """Merges events of one person and label that overlap or follow each other closely.

  Args:
    events: events of one cue, in any order.
    seconds: largest gap within one expression.

  Returns:
    The events, ordered by onset.
  """
  merged: list[ExpressionEvent] = []
  for event in sorted(events, key=lambda event: (event.onset, event.offset)):
    near = next(
      (
        index
        for index in range(len(merged) - 1, -1, -1)
        if (merged[index].person, merged[index].label) == (event.person, event.label)
        and event.onset_seconds - merged[index].offset_seconds <= seconds
      ),
      None,
    )
    if near is None:
      merged.append(event)
    else:
      merged[near] = _joined([merged[near], event])
  return merged


def merge_cues(events: Sequence[ExpressionEvent]) -> list[ExpressionEvent]:
  """Merges events of the motion cue and the score cue that overlap by at least half of one.

  A merged event has the label of the score cue. It has the times of the motion cue if both agree
  (an intersection over union of at least half), otherwise it covers both. Where motion covers
  several scores of different labels, these are different expressions.
  """
  motions = [event for event in events if event.evidence != "scores"]
  merged: list[ExpressionEvent] = []
  used: set[int] = set()
  for event in (event for event in events if event.evidence == "scores"):
    matches = [n for n, motion in enumerate(motions) if _overlap(motion, event) >= MIN_OVERLAP]
    if not matches:
      merged.append(event)
      continue
    used.update(matches)
    best = motions[max(matches, key=lambda n: _iou(motions[n], event))]
    whole = best if _iou(best, event) >= 0.5 else _joined([event, *(motions[n] for n in matches)])
    others = [other for other in events if other.evidence == "scores" and other is not event]
    if any(o.label != event.label and _overlap(whole, o) >= MIN_OVERLAP for o in others):
      whole = event
    strongest = max((motions[n] for n in matches), key=lambda motion: motion.confidence)
    inside = whole.onset < strongest.apex < whole.offset
    apex = strongest if inside else whole
    merged.append(
      dataclasses.replace(
        whole,
        apex=apex.apex,
        apex_seconds=apex.apex_seconds,
        label=event.label,
        score=event.score,
        confidence=max(event.confidence, strongest.confidence),
        evidence="both",
      )
    )
  merged += [motion for n, motion in enumerate(motions) if n not in used]
  return merge_gaps([e for e in merged if e.evidence == "both"], 0.0) + [
    e for e in merged if e.evidence != "both"
  ]


def _joined(events: Sequence[ExpressionEvent]) -> ExpressionEvent:
  """One event over all of them, with the apex and the label of the strongest."""
  first = min(events, key=lambda event: event.onset)
  last = max(events, key=lambda event: event.offset)
  strongest = max(events, key=lambda event: event.confidence)
  return dataclasses.replace(
    strongest,
    onset=first.onset,
    onset_seconds=first.onset_seconds,
    offset=last.offset,
    offset_seconds=last.offset_seconds,
    kind=kind_of(last.offset_seconds - first.onset_seconds),
    evidence="both" if len({event.evidence for event in events}) > 1 else strongest.evidence,
  )


def _iou(one: ExpressionEvent, other: ExpressionEvent) -> float:
  return interval_iou((one.onset, one.offset), (other.onset, other.offset))


def _overlap(one: ExpressionEvent, other: ExpressionEvent) -> float:
  """Common frames as a fraction of the shorter event."""
  inside = min(one.offset, other.offset) - max(one.onset, other.onset) + 1
  return max(inside, 0) / (min(one.offset - one.onset, other.offset - other.onset) + 1)
