"""Check of a composite against the clip counts of MEGC 2019, taken from its list of clips."""

import csv
import importlib.resources

import pytest

from jax_me.evaluation.megc2019_composite import CLIPS, megc2019_differences
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
  return Predictions(labels, truth, truth, **{**columns, **changes}, allow_duplicates=True)


def test_clip_list_matches_the_counts(rows):
  assert sum(map(sum, CLIPS.values())) == 442
  assert megc2019_differences(table(rows)) == ""
  reordered = Predictions(
    ("sur", "neg", "pos"),
    [(int(row[3]) + 1) % 3 for row in rows],
    [0] * len(rows),
    database=[{"casme2": "CASME II", "smic": "SMIC-HS"}.get(r[0], r[0]) for r in rows],
    subject=[row[1] for row in rows],
    clip=[row[2] for row in rows],
  )
  assert megc2019_differences(reordered) == ""


def test_different_counts_are_reported(rows):
  missing = next(i for i, row in enumerate(rows) if row[0] == "casme2" and row[3] == "0")
  warning = megc2019_differences(table(rows[:missing] + rows[missing + 1 :]))
  assert "casme2 has 87 negative clips, not 88" in warning and "samm" not in warning


def test_frames_count_as_one_clip_and_other_tables_give_no_warning(rows):
  files = [str(i) for i in range(2 * len(rows))]
  assert megc2019_differences(table(rows + rows, file=files)) == ""
  two = [row for row in rows if row[0] != "samm"]
  assert megc2019_differences(table(two)) == ""
  assert megc2019_differences(table(rows[:9], labels=("a", "b", "c"))) == ""
