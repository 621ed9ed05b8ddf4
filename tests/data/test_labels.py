"""Expression labels and mappings between class codes."""

import pytest

from jax_me.data import labels

AFFECTNET = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
RAF_DB = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")


@pytest.mark.parametrize(
  ("name", "expected"),
  [
    ("Happy", "happiness"),
    (" JOY ", "happiness"),
    ("angry", "anger"),
    ("Non-Face", "non face"),
    ("Others", "others"),
    ("other", "others"),
    ("neg", "negative"),
    ("po", "positive"),
    ("Repressed", "repression"),
    ("Half_Smile", "half smile"),
  ],
)
def test_spellings_have_one_canonical_label(name, expected):
  assert labels.canonical_label(name) == expected


def test_empty_label_is_rejected():
  with pytest.raises(ValueError, match="empty"):
    labels.normalize_label(" _ ")


def test_codes_are_mapped_by_name():
  # From the published code tables.
  assert labels.label_mapping(RAF_DB, AFFECTNET).tolist() == [3, 4, 5, 1, 2, 6, 0]
  assert labels.label_mapping(AFFECTNET, RAF_DB).tolist() == [6, 3, 4, 0, 1, 2, 5, -1]


def test_mapping_rejects_duplicate_and_unknown_classes():
  with pytest.raises(ValueError, match="same expression"):
    labels.label_mapping(["anger"], ["happy", "joy"])
  with pytest.raises(ValueError, match="no common class"):
    labels.label_mapping(["a"], ["b"])


def test_groups_of_the_challenge():
  names = ("disgust", "Happiness", "surprise", "Repression", "neutral", "others", "positive")
  assert labels.group_mapping(names).tolist() == [0, 1, 2, 0, -1, -1, 1]
  assert [labels.expression_group(name) for name in labels.EMOTIONS].count("negative") == 5
