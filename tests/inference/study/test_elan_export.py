"""Expressions as text for ELAN."""

import xml.etree.ElementTree as ElementTree

from jax_me.inference.study.elan_export import annotations, elan_document, elan_table


def event(onset, offset, kind="macro", label="happy", person=1):
  return {
    "person": person, "kind": kind, "label": label, "onset_seconds": onset,
    "offset_seconds": offset,
  }  # fmt: skip


def test_times_and_tiers():
  events = [
    event(0.04, 0.2, "micro"),
    event(1.5, 3723.0016),
    event(2.0, 2.0, label="a\tb", person=2),
  ]
  assert elan_table(annotations(events)).splitlines() == [
    "tier\tbegin\tend\tannotation",
    "person 1 micro\t00:00:00.040\t00:00:00.200\thappy",
    "person 1 macro\t00:00:01.500\t01:02:03.002\thappy",
    "person 2 macro\t00:00:02.000\t00:00:02.001\ta b",
  ]


def test_overlapping_annotations_have_separate_tiers():
  events = [event(0, 4), event(1, 3), event(2, 5, label=None), event(4, 6)]
  tiers = [line.split("\t")[0] for line in elan_table(annotations(events)).splitlines()[1:]]
  assert tiers == ["person 1 macro", "person 1 macro 2", "person 1 macro 3", "person 1 macro"]


def test_the_annotation_document():
  annotated = annotations([event(0.04, 0.2, "micro"), event(0.2, 2.5, label="<a> & b")])
  root = ElementTree.fromstring(elan_document(annotated, "file:///films/a%20b.mp4", 0))
  assert root.attrib["FORMAT"] == "3.0" and root.attrib["DATE"] == "1970-01-01T00:00:00+00:00"
  assert root.find("HEADER/MEDIA_DESCRIPTOR").attrib["MEDIA_URL"] == "file:///films/a%20b.mp4"
  slots = {
    slot.attrib["TIME_SLOT_ID"]: slot.attrib["TIME_VALUE"] for slot in root.iter("TIME_SLOT")
  }
  assert list(slots.values()) == ["40", "200", "200", "2500"]
  types = {element.attrib["LINGUISTIC_TYPE_ID"] for element in root.iter("LINGUISTIC_TYPE")}
  found = []
  for tier in root.iter("TIER"):
    assert tier.attrib["LINGUISTIC_TYPE_REF"] in types
    for element in tier.iter("ALIGNABLE_ANNOTATION"):
      begin, end = (slots[element.attrib[f"TIME_SLOT_REF{number}"]] for number in (1, 2))
      found.append((tier.attrib["TIER_ID"], begin, end, element.findtext("ANNOTATION_VALUE")))
  assert found == [
    ("person 1 micro", "40", "200", "happy"),
    ("person 1 macro", "200", "2500", "<a> & b"),
  ]
