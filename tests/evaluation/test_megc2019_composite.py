"""The composite of MEGC 2019 is recognised by its counts, taken from the list of its clips."""

import csv
import importlib.resources

import pytest

from jax_me.evaluation.megc2019_composite import CLIPS, differs_from_megc2019
from jax_me.evaluation.predictions import Predictions


@pytest.fixture(scope="module")
def rows():
  text = (
    importlib.resources.files("jax_me.datasets.micro").joinpath("megc2019_clips.csv").read_text()
  )
  found = [row for row in csv.reader(text.splitlines()) if row and row[-1].isdecimal()]
  assert len(found) == 442
  return found


def table(rows, labels=("0", "1", "2"), **changes):
  names = ("database", "subject", "clip")
  columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
  truth = [int(row[3]) for row in rows]
  return Predictions(labels, truth, truth, **{**columns, **changes}, allow_repeats=True)


def test_counts_are_those_of_the_list(rows):
  assert sum(map(sum, CLIPS.values())) == 442
  assert differs_from_megc2019(table(rows)) == ""
  turned = Predictions(
    ("sur", "neg", "pos"),
    [(int(row[3]) + 1) % 3 for row in rows],
    [0] * len(rows),
    database=[{"casme2": "CASME II", "smic": "SMIC-HS"}.get(r[0], r[0]) for r in rows],
    subject=[row[1] for row in rows],
    clip=[row[2] for row in rows],
  )
  assert differs_from_megc2019(turned) == ""


def test_another_list_is_told(rows):
  missing = next(i for i, row in enumerate(rows) if row[0] == "casme2" and row[3] == "0")
  told = differs_from_megc2019(table(rows[:missing] + rows[missing + 1 :]))
  assert "casme2 has 87 negative clips, not 88" in told and "samm" not in told


def test_frames_count_as_their_clip_and_other_tables_are_left_alone(rows):
  files = [str(i) for i in range(2 * len(rows))]
  assert differs_from_megc2019(table(rows + rows, file=files)) == ""
  two = [row for row in rows if row[0] != "samm"]
  assert differs_from_megc2019(table(two)) == ""
  assert differs_from_megc2019(table(rows[:9], labels=("a", "b", "c"))) == ""
