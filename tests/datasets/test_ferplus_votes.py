"""Tests of FER+'s labels from votes: cases worked by hand, and counts of the published tables."""

import pathlib

import numpy as np
import pytest

from jax_me.datasets.ferplus.builder import KNOWN_COUNTS
from jax_me.datasets.ferplus.votes import COLUMNS, EMOTIONS, MODES, label_from_votes


def votes(**counts: int) -> list[int]:
  return [counts.get(column, 0) for column in COLUMNS]


def class_probabilities(**counts: float) -> tuple[float, ...]:
  return tuple(counts.get(name, 0.0) for name in EMOTIONS)


# Votes, and for each mode the label and its probabilities, or the reported label if discarded.
BY_HAND = [
  # Without the single votes, neutral has 6 of 8.
  (
    votes(neutral=6, surprise=1, sadness=1, unknown=2),
    ("neutral", class_probabilities(neutral=1)),
    ("neutral", class_probabilities(neutral=1)),
    ("neutral", class_probabilities(neutral=1)),
  ),
  # 4 of 9 is no majority; 4 + 3 are three quarters of 9; 30 % of 9 are 2.7.
  (
    votes(neutral=4, sadness=1, anger=3, disgust=2),
    ("unknown", ()),
    ("neutral", class_probabilities(neutral=4 / 7, anger=3 / 7)),
    ("neutral", class_probabilities(neutral=4 / 7, anger=3 / 7)),
  ),
  # Half is not more than half; the first of two equal columns gives the label.
  (
    votes(happiness=5, surprise=5),
    ("unknown", ()),
    ("happiness", class_probabilities(happiness=0.5, surprise=0.5)),
    ("happiness", class_probabilities(happiness=0.5, surprise=0.5)),
  ),
  # 4 of 8 are less than three quarters; 30 % of 8 are 2.4, and 4 are not more than half.
  (
    votes(neutral=4, sadness=1, anger=2, disgust=2, fear=1),
    ("unknown", ()),
    ("neutral", class_probabilities(neutral=0.5, anger=0.25, disgust=0.25)),
    ("unknown", ()),
  ),
  # Columns with equal votes are added at once: four are too many. 2 of 10 are less than 30 %.
  (
    votes(neutral=4, surprise=2, sadness=2, fear=2),
    ("unknown", ()),
    ("unknown", ()),
    ("unknown", ()),
  ),
  # 6 are three quarters of 8, and 2 are less than 30 %.
  (
    votes(neutral=6, surprise=2, sadness=1, fear=1),
    ("neutral", class_probabilities(neutral=1)),
    ("neutral", class_probabilities(neutral=1)),
    ("neutral", class_probabilities(neutral=1)),
  ),
  # "NF" or "unknown" with most votes.
  (votes(NF=10), *[("non face", ())] * 3),
  (votes(fear=2, unknown=8), *[("unknown", ())] * 3),
  # In mode "probability", unknown ends the selection, and the selected votes must be more than half
  # of 10. In mode "multi_target" it counts towards the half, but not in the probabilities.
  (
    votes(sadness=6, unknown=4),
    ("sadness", class_probabilities(sadness=1)),
    ("sadness", class_probabilities(sadness=1)),
    ("sadness", class_probabilities(sadness=1)),
  ),
  (
    votes(sadness=4, fear=2, unknown=4),
    ("unknown", ()),
    ("unknown", ()),
    ("sadness", class_probabilities(sadness=1)),
  ),
  (
    votes(sadness=4, unknown=3, NF=3),
    ("unknown", ()),
    ("unknown", ()),
    ("sadness", class_probabilities(sadness=1)),
  ),
  # Only single votes, which do not count.
  (votes(**{column: 1 for column in COLUMNS}), *[("unknown", ())] * 3),
  # The one face with nine votes.
  (
    votes(neutral=3, happiness=6),
    ("happiness", class_probabilities(happiness=1)),
    ("happiness", class_probabilities(neutral=1 / 3, happiness=2 / 3)),
    ("happiness", class_probabilities(neutral=1 / 3, happiness=2 / 3)),
  ),
]


@pytest.mark.parametrize(("given", "majority", "probability", "multi_target"), BY_HAND)
def test_labels_worked_by_hand(given, majority, probability, multi_target):
  for mode, expected in zip(MODES, (majority, probability, multi_target), strict=True):
    name, probabilities = label_from_votes(given, mode)
    assert (name, mode) == (expected[0], mode)
    assert probabilities == pytest.approx(expected[1]), mode


@pytest.fixture(scope="module")
def tables() -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Table and split -> distinct votes [K, 10] and their number of faces [K]; see LICENSE."""
  with np.load(pathlib.Path(__file__).parent / "ferplus_votes.npz", allow_pickle=False) as file:
    names, votes, counts = file["tables"].tolist(), file["votes"].astype(int), file["counts"]
  return {name: (votes, number.astype(int)) for name, number in zip(names, counts, strict=True)}


def totals(table: tuple[np.ndarray, np.ndarray], mode: str) -> tuple[int, ...]:
  """Number of faces of a table with each of EMOTIONS as label."""
  found = dict.fromkeys(EMOTIONS, 0)
  for kind, number in zip(*table, strict=True):
    if number:
      name, probabilities = label_from_votes(kind.tolist(), mode)
      if probabilities:
        found[name] += int(number)
        assert sum(probabilities) == pytest.approx(1) and len(probabilities) == len(EMOTIONS)
  return tuple(found.values())


def test_published_votes_give_the_published_counts(tables):
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
def test_known_counts_follow_from_the_published_votes(tables, mode):
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
def test_invalid_votes_and_modes_are_refused(given, mode, message):
  with pytest.raises(ValueError, match=message):
    label_from_votes(given, mode)
