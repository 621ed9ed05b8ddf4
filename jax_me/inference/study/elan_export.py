"""Expressions for ELAN: an annotation document (.eaf), and tab-separated text for its import."""

import datetime
import mimetypes
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_TYPE = "expression"


class Annotation(NamedTuple):
  """An annotation on a tier; `begin` and `end` in milliseconds."""

  tier: str
  begin: int
  end: int
  text: str


def annotations(events: Sequence[Mapping[str, Any]]) -> list[Annotation]:
  """The expressions of one video as annotations.

  The tiers are "person 1 micro", "person 1 macro", ... A tier of ELAN cannot have overlapping
  annotations: those go to a further tier, "person 1 macro 2".

  Args:
    events: records of `event_record`, ordered by onset.
  """
  found = []
  ends: dict[str, int] = {}
  for event in events:
    begin = round(1000 * event["onset_seconds"])
    end = max(begin + 1, round(1000 * event["offset_seconds"]))
    base = tier = f"person {event['person']} {event['kind']}"
    number = 2
    while ends.get(tier, -1) > begin:
      tier, number = f"{base} {number}", number + 1
    ends[tier] = end
    found.append(Annotation(tier, begin, end, " ".join((event["label"] or "expression").split())))
  return found


def elan_table(annotated: Sequence[Annotation]) -> str:
  """Tab-separated text: tier, begin, end, annotation; times are "hh:mm:ss.mmm"."""
  rows = [[a.tier, _time(a.begin), _time(a.end), a.text] for a in annotated]
  return "".join("\t".join(row) + "\n" for row in [["tier", "begin", "end", "annotation"], *rows])


def elan_document(annotated: Sequence[Annotation], media: str, modified: float) -> bytes:
  """An annotation document in the format EAF 3.0.

  Args:
    annotated: the annotations.
    media: URL of the video.
    modified: date of the document, in seconds since 1970.

  Returns:
    XML.
  """
  date = datetime.datetime.fromtimestamp(int(modified), datetime.UTC)
  root = ElementTree.Element(
    "ANNOTATION_DOCUMENT",
    {
      "AUTHOR": "jax_me",
      "DATE": date.isoformat(),
      "FORMAT": "3.0",
      "VERSION": "3.0",
      "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
      "xsi:noNamespaceSchemaLocation": _SCHEMA,
    },
  )
  kind = mimetypes.guess_type(media)[0] or "unknown"
  header = _child(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
  _child(header, "MEDIA_DESCRIPTOR", MEDIA_URL=media, MIME_TYPE=kind)
  times = _child(root, "TIME_ORDER")
  # Each annotation has slots of its own, as ELAN writes them; the slots are in order of time.
  ends = [
    (time, number, name)
    for number, a in enumerate(annotated)
    for name, time in (("begin", a.begin), ("end", a.end))
  ]
  slots: dict[tuple[int, str], str] = {}
  for time, number, name in sorted(ends):
    slots[number, name] = f"ts{len(slots) + 1}"
    _child(times, "TIME_SLOT", TIME_SLOT_ID=slots[number, name], TIME_VALUE=str(time))
  tiers = {
    name: _child(root, "TIER", LINGUISTIC_TYPE_REF=_TYPE, TIER_ID=name)
    for name in dict.fromkeys(a.tier for a in annotated)
  }
  for number, a in enumerate(annotated):
    element = _child(
      _child(tiers[a.tier], "ANNOTATION"),
      "ALIGNABLE_ANNOTATION",
      ANNOTATION_ID=f"a{number + 1}",
      TIME_SLOT_REF1=slots[number, "begin"],
      TIME_SLOT_REF2=slots[number, "end"],
    )
    _child(element, "ANNOTATION_VALUE").text = a.text
  _child(
    root,
    "LINGUISTIC_TYPE",
    GRAPHIC_REFERENCES="false",
    LINGUISTIC_TYPE_ID=_TYPE,
    TIME_ALIGNABLE="true",
  )
  ElementTree.indent(root)
  return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _child(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
  return ElementTree.SubElement(parent, tag, attributes)


def _time(milliseconds: int) -> str:
  minutes, rest = divmod(milliseconds, 60_000)
  return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
