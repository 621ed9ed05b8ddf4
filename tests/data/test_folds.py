"""Folds: disjoint subjects, every example tested once, stratification, checks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_me.data import folds
from jax_me.data.index import make_index


def make(rows, classes=3):
  rows = [{"file": str(number), "label": 0, **row} for number, row in enumerate(rows)]
  return make_index([f"c{number}" for number in range(classes)], rows)


@st.composite
def datasets(draw, least=2):
  subjects = draw(st.integers(least, 12))
  rows = []
  for subject in range(subjects):
    for label in draw(st.lists(st.integers(0, 2), min_size=1, max_size=9)):
      database = "AB"[subject % 2]
      rows.append({"subject": str(subject // 2), "database": database, "label": label})
  return make(draw(st.permutations(rows)))


def check_cover(index, made):
  """Disjoint training and test sets that cover all examples, each tested once over all folds."""
  keys = folds.subject_keys(index)
  tested = np.concatenate([fold.test for fold in made])
  assert sorted(tested.tolist()) == list(range(len(index)))
  for fold in made:
    assert sorted([*fold.train, *fold.test]) == list(range(len(index)))
    assert not set(keys[fold.train]) & set(keys[fold.test])
    assert len(fold.train) and len(fold.test)


@settings(deadline=None, max_examples=60)
@given(datasets(least=3), st.integers(2, 3), st.integers(0, 5))
def test_k_folds_test_every_example_once_and_share_no_subject(index, count, seed):
  made = folds.k_folds(index, count, seed=seed)
  assert [fold.name for fold in made] == [f"fold{number + 1}" for number in range(count)]
  check_cover(index, made)
  again = folds.k_folds(index, count, seed=seed)
  assert all((a.test == b.test).all() for a, b in zip(made, again, strict=True))


def test_step_folds_test_every_nth_subject():
  subjects = [f"S{number:03d}" for number in (5, 10, 11, 22, 999)]
  index = make([{"subject": subject} for subject in reversed(subjects) for _ in range(2)])
  made = folds.step_folds(index, 2)
  check_cover(index, made)
  assert [sorted(set(index.subject[fold.test])) for fold in made] == [
    ["S005", "S011", "S999"],
    ["S010", "S022"],
  ]
  with pytest.raises(ValueError, match="5 subjects cannot be divided into 6"):
    folds.step_folds(index, 6)
  with pytest.raises(ValueError, match="at least 2 folds"):
    folds.step_folds(index, 1)
  with pytest.raises(ValueError, match="has none"):
    folds.step_folds(make([{}, {}]), 2)


@settings(deadline=None, max_examples=30)
@given(datasets())
def test_loso_tests_each_subject_alone(index):
  made = folds.leave_one_subject_out(index)
  check_cover(index, made)
  keys = folds.subject_keys(index)
  assert [fold.name for fold in made] == sorted(set(keys))
  assert all(set(keys[fold.test]) == {fold.name} for fold in made)


@settings(deadline=None, max_examples=30)
@given(datasets(), st.floats(0.05, 0.95), st.integers(0, 5))
def test_holdout_shares_no_subject(index, fraction, seed):
  fold = folds.holdout(index, fraction, seed=seed)
  keys = folds.subject_keys(index)
  assert sorted([*fold.train, *fold.test]) == list(range(len(index)))
  assert not set(keys[fold.train]) & set(keys[fold.test])


def test_folds_are_balanced_and_stratified():
  # 40 subjects with all three classes and 20 subjects with class 2 only.
  rows = [{"subject": f"a{n}", "label": label} for n in range(40) for label in range(3)]
  rows += [{"subject": f"b{n}", "label": 2} for n in range(20)]
  index = make(rows)
  for fold in folds.k_folds(index, 5, seed=1):
    assert np.bincount(index.label[fold.test]).tolist() == [8, 8, 12]
  held = folds.holdout(index, 0.25, seed=1)
  assert np.bincount(index.label[held.test]).tolist() == [10, 10, 15]


def test_seed_changes_the_split():
  index = make([{"subject": str(n)} for n in range(30)])
  first, second = (folds.k_folds(index, 3, seed=seed)[0].test for seed in (0, 1))
  assert first.tolist() != second.tolist()


def test_same_name_in_two_databases_is_two_subjects():
  index = make([{"subject": "01", "database": name} for name in ("casme2", "samm")])
  assert [fold.name for fold in folds.leave_one_subject_out(index)] == ["casme2/01", "samm/01"]
  made = folds.leave_one_database_out(index)
  assert [(fold.name, fold.test.tolist()) for fold in made] == [("casme2", [0]), ("samm", [1])]


def test_without_subjects_clips_stay_together_and_it_warns(caplog):
  index = make([{"clip": str(n // 4), "label": n % 2} for n in range(40)])
  for fold in folds.k_folds(index, 4):
    assert not set(index.clip[fold.train]) & set(index.clip[fold.test])
  assert "clips are kept together" in caplog.text


def test_without_subjects_and_clips_images_are_split_and_it_warns(caplog):
  index = make([{"label": n % 2} for n in range(20)])
  for fold in folds.k_folds(index, 5):
    assert np.bincount(index.label[fold.test]).tolist() == [2, 2]
  assert "Scores will be too good" in caplog.text


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda index: folds.k_folds(index, 1), "at least 2"),
    (lambda index: folds.k_folds(index, 4), "3 subjects cannot"),
    (lambda index: folds.holdout(index, 1.0), "between 0 and 1"),
    (lambda index: folds.leave_one_database_out(index), "two databases"),
    (lambda index: folds.official_fold(index), "there are: train"),
  ],
)
def test_impossible_splits_are_rejected(call, message):
  with pytest.raises(ValueError, match=message):
    call(make([{"subject": str(n), "split": "train"} for n in range(3)]))


def test_loso_needs_subjects():
  with pytest.raises(ValueError, match="has none"):
    folds.leave_one_subject_out(make([{}, {}]))
  with pytest.raises(ValueError, match="only 'x'"):
    folds.leave_one_subject_out(make([{"subject": "x"}, {"subject": "x"}]))
  with pytest.raises(ValueError, match="1 of 2 examples have no subject"):
    folds.leave_one_subject_out(make([{"subject": "x"}, {}]))


def test_official_split_is_used_and_checked():
  rows = [{"split": name} for name in ("train", "test", "train", "validation")]
  fold = folds.official_fold(make(rows))
  assert (fold.train.tolist(), fold.test.tolist()) == ([0, 2], [1])
  assert folds.official_fold(make(rows), test=("validation",)).test.tolist() == [3]
  with pytest.raises(ValueError, match="ann"):
    folds.official_fold(make([{"split": name, "subject": "ann"} for name in ("train", "test")]))


def test_check_names_the_subjects_in_both_sets():
  index = make([{"subject": name} for name in ("ann", "bob", "ann", "eve")])
  folds.check_disjoint(index, folds.Fold("good", np.array([0, 2]), np.array([1, 3])))
  with pytest.raises(ValueError, match="leaky: 1 subjects .*: ann"):
    folds.check_disjoint(index, folds.Fold("leaky", np.array([0, 1]), np.array([2, 3])))
  with pytest.raises(ValueError, match="1 examples"):
    folds.check_disjoint(index, folds.Fold("same", np.array([0, 1]), np.array([1])))
  with pytest.raises(ValueError, match="test set is empty"):
    folds.check_disjoint(index, folds.Fold("half", np.array([0]), np.array([], int)))


def test_description_of_folds():
  index = make([{"subject": f"s{number % 5}"} for number in range(14)])
  text = folds.describe_folds(index, folds.leave_one_subject_out(index))
  assert text == "each fold trains on 11 to 12 examples and tests 2 to 3; 14 are tested in all"
  one = folds.Fold("holdout", np.arange(10), np.arange(10, 14))
  assert folds.describe_folds(index, [one]) == "trains on 10 examples, tests 4"
  chosen = folds.with_validation(index, one, 0.3)
  assert "trains on 6 examples, selects weights on 4, tests 4" == folds.describe_folds(
    index, [chosen]
  )
  none = folds.Fold("all", np.arange(14), np.empty(0, np.int64))
  assert folds.describe_folds(index, [none]) == "trains on 14 examples, tests none"


def test_description_of_official_splits():
  splits = ["train"] * 6 + ["validation"] * 3 + ["test"] * 2
  index = make([{"subject": str(i), "split": split} for i, split in enumerate(splits)])
  text = folds.describe_folds(index, folds.make_folds(index, "official"))
  assert text == "trains on 6 examples (train), tests 2 (test); validation (3) is not used"
  made = folds.make_folds(index, "official", train=("train", "test"))
  assert folds.describe_folds(index, made) == (
    "trains on 8 examples (train + test), tests 3 (validation)"
  )
