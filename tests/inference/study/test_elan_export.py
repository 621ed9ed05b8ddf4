"""Expressions as text for ELAN."""

from jax_me.inference.study.elan_export import elan_table


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
  assert elan_table(events).splitlines() == [
    "tier\tbegin\tend\tannotation",
    "person 1 micro\t00:00:00.040\t00:00:00.200\thappy",
    "person 1 macro\t00:00:01.500\t01:02:03.002\thappy",
    "person 2 macro\t00:00:02.000\t00:00:02.001\ta b",
  ]


def test_overlapping_annotations_have_separate_tiers():
  events = [event(0, 4), event(1, 3), event(2, 5, label=None), event(4, 6)]
  tiers = [line.split("\t")[0] for line in elan_table(events).splitlines()[1:]]
  assert tiers == ["person 1 macro", "person 1 macro 2", "person 1 macro 3", "person 1 macro"]
