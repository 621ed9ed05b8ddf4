"""ferplus_votes: the rule, worked by hand, and the published tables of votes counted by it."""

import pathlib

import numpy as np
import pytest

from jax_me.datasets.ferplus.builder import KNOWN_COUNTS
from jax_me.datasets.ferplus.votes import COLUMNS, EMOTIONS, MODES, decide


def votes(**counts: int) -> list[int]:
  return [counts.get(column, 0) for column in COLUMNS]


def shares(**counts: float) -> tuple[float, ...]:
  return tuple(counts.get(name, 0.0) for name in EMOTIONS)


# Votes, and by mode the expression with its probabilities, or what is discarded.
BY_HAND = [
  # Six of the seven votes that are left without the single ones.
  (
    votes(neutral=6, surprise=1, sadness=1, unknown=2),
    ("neutral", shares(neutral=1)),
    ("neutral", shares(neutral=1)),
    ("neutral", shares(neutral=1)),
  ),
  # 4 of 9 is no majority; 4 + 3 are three quarters of 9 without the 2; 30 % of 9 are 2.7.
  (
    votes(neutral=4, sadness=1, anger=3, disgust=2),
    ("unknown", ()),
    ("neutral", shares(neutral=4 / 7, anger=3 / 7)),
    ("neutral", shares(neutral=4 / 7, anger=3 / 7)),
  ),
  # Half is not more than half; the first of two equal ones gives the name.
  (
    votes(happiness=5, surprise=5),
    ("unknown", ()),
    ("happiness", shares(happiness=0.5, surprise=0.5)),
    ("happiness", shares(happiness=0.5, surprise=0.5)),
  ),
  # 4 of 8 are no three quarters; 30 % of 8 are 2.4, and 4 are not more than half.
  (
    votes(neutral=4, sadness=1, anger=2, disgust=2, fear=1),
    ("unknown", ()),
    ("neutral", shares(neutral=0.5, anger=0.25, disgust=0.25)),
    ("unknown", ()),
  ),
  # Equal ones are taken together: four emotions are too many. 2 of 10 are no 30 %.
  (
    votes(neutral=4, surprise=2, sadness=2, fear=2),
    ("unknown", ()),
    ("unknown", ()),
    ("unknown", ()),
  ),
  # 6 are three quarters of 8, and the 2 have no 30 %.
  (
    votes(neutral=6, surprise=2, sadness=1, fear=1),
    ("neutral", shares(neutral=1)),
    ("neutral", shares(neutral=1)),
    ("neutral", shares(neutral=1)),
  ),
  # Not a face, and not known, when most say so.
  (votes(NF=10), *[("non face", ())] * 3),
  (votes(fear=2, unknown=8), *[("unknown", ())] * 3),
  # Unknown comes after: it ends the search, and what is left of 10 must be more than half. As a
  # target it has its 30 % and counts for the half, but not for the probabilities.
  (
    votes(sadness=6, unknown=4),
    ("sadness", shares(sadness=1)),
    ("sadness", shares(sadness=1)),
    ("sadness", shares(sadness=1)),
  ),
  (
    votes(sadness=4, fear=2, unknown=4),
    ("unknown", ()),
    ("unknown", ()),
    ("sadness", shares(sadness=1)),
  ),
  (
    votes(sadness=4, unknown=3, NF=3),
    ("unknown", ()),
    ("unknown", ()),
    ("sadness", shares(sadness=1)),
  ),
  # Only single votes: nothing is left.
  (votes(**{column: 1 for column in COLUMNS}), *[("unknown", ())] * 3),
  # The one face with nine votes.
  (
    votes(neutral=3, happiness=6),
    ("happiness", shares(happiness=1)),
    ("happiness", shares(neutral=1 / 3, happiness=2 / 3)),
    ("happiness", shares(neutral=1 / 3, happiness=2 / 3)),
  ),
]


@pytest.mark.parametrize(("given", "majority", "probability", "multi_target"), BY_HAND)
def test_the_rule_worked_by_hand(given, majority, probability, multi_target):
  for mode, expected in zip(MODES, (majority, probability, multi_target), strict=True):
    name, probabilities = decide(given, mode)
    assert (name, mode) == (expected[0], mode)
    assert probabilities == pytest.approx(expected[1]), mode


@pytest.fixture(scope="module")
def tables() -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Source and split -> votes [K, 10] and how many faces have them [K]; see LICENSE."""
  with np.load(pathlib.Path(__file__).parent / "ferplus_votes.npz", allow_pickle=False) as file:
    names, kinds, counts = file["tables"].tolist(), file["votes"].astype(int), file["counts"]
  return {name: (kinds, number.astype(int)) for name, number in zip(names, counts, strict=True)}


def totals(table: tuple[np.ndarray, np.ndarray], mode: str) -> tuple[int, ...]:
  """How many faces of a table get each of EMOTIONS."""
  found = dict.fromkeys(EMOTIONS, 0)
  for kind, number in zip(*table, strict=True):
    if number:
      name, probabilities = decide(kind.tolist(), mode)
      if probabilities:
        found[name] += int(number)
        assert sum(probabilities) == pytest.approx(1) and len(probabilities) == len(EMOTIONS)
  return tuple(found.values())


def test_published_numbers_come_out_of_the_published_votes(tables):
  rows = {name: int(numbers.sum()) for name, (_, numbers) in tables.items()}
  assert [rows[f"label.csv {split}"] for split in ("train", "validation", "test")] == [
    28558,
    3579,
    3573,
  ]
  assert sum(number for name, number in rows.items() if name.startswith("fer2013new")) == 35887
  majority = {name: totals(table, "majority") for name, table in tables.items()}
  assert {name: sum(numbers) for name, numbers in majority.items()} == {
    "label.csv train": 25045,
    "label.csv validation": 3191,
    "label.csv test": 3137,
    "fer2013new train": 25060,
    "fer2013new validation": 3199,
    "fer2013new test": 3153,
  }
  assert majority["label.csv test"] == (1083, 892, 394, 382, 269, 16, 86, 15)


@pytest.mark.parametrize("mode", MODES)
def test_known_counts_are_those_of_the_rule(tables, mode):
  for (source, known_mode), splits in KNOWN_COUNTS.items():
    for split, expected in splits.items():
      if known_mode == mode:
        assert totals(tables[f"{source} {split}"], mode) == expected, (source, split)


@pytest.mark.parametrize(
  ("given", "mode", "message"),
  [
    ([1] * 9, "majority", "FER\\+ has 10 counts of votes"),
    ([-1] + [1] * 9, "majority", "each 0 or more"),
    ([1] * 10, "crossentropy", "must be one of majority, probability, multi_target"),
  ],
)
def test_other_votes_and_modes_are_refused(given, mode, message):
  with pytest.raises(ValueError, match=message):
    decide(given, mode)
