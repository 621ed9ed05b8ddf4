"""Expressions as tab-separated text that ELAN imports: tier, begin, end, annotation."""

from collections.abc import Mapping, Sequence
from typing import Any


def elan_table(events: Sequence[Mapping[str, Any]]) -> str:
  """Formats the expressions of one video.

  The tiers are "person 1 micro", "person 1 macro", ... A tier of ELAN cannot have overlapping
  annotations: those go to a further tier, "person 1 macro 2". Times are "hh:mm:ss.mmm".

  Args:
    events: records of `event_record`, ordered by onset.

  Returns:
    a header line and a line per expression.
  """
  lines = ["tier\tbegin\tend\tannotation"]
  ends: dict[str, int] = {}
  for event in events:
    begin = round(1000 * event["onset_seconds"])
    end = max(begin + 1, round(1000 * event["offset_seconds"]))
    base = tier = f"person {event['person']} {event['kind']}"
    number = 2
    while ends.get(tier, -1) > begin:
      tier, number = f"{base} {number}", number + 1
    ends[tier] = end
    label = " ".join((event["label"] or "expression").split())
    lines.append(f"{tier}\t{_time(begin)}\t{_time(end)}\t{label}")
  return "\n".join(lines) + "\n"


def _time(milliseconds: int) -> str:
  minutes, rest = divmod(milliseconds, 60_000)
  return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
