"""Who is trained on and who is tested on: folds in which no person stands on both sides.

All functions take an ExampleIndex and return integer positions in it. Persons of different
databases are different persons, whatever their names. Where no person is known, whole clips are
kept together instead, or, failing that, single images are split, with a warning.
"""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from jax_me.data.index import ExampleIndex

logger = logging.getLogger(__name__)

# How examples are divided; see `make_folds`.
RULES = ("official", "loso", "lodo", "kfold", "step", "holdout")


@dataclasses.dataclass(frozen=True, eq=False)
class Fold:
  """One division of a dataset.

  Attributes:
    name: for folders and tables, for example "fold1" or a subject.
    train: int64, ascending positions of the training examples.
    test: int64, ascending positions of the test examples.
    validation: int64, ascending positions of examples of the training side's persons that are kept
      from training, to select among evaluations; usually none.
  """

  name: str
  train: np.ndarray
  test: np.ndarray
  validation: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))


def subject_keys(index: ExampleIndex) -> np.ndarray:
  """Object array [N] of str: the person of each example, unique over databases; "" if unknown.

  Raises:
    ValueError: the person is known for some examples and not for others.
  """
  known = index.subject != ""
  if known.any() and not known.all():
    first = index.file[np.flatnonzero(~known)[0]]
    raise ValueError(
      f"{int((~known).sum())} of {len(index)} examples have no subject (first: {first}); give all "
      "of them one or none"
    )
  if not known.any() or not (index.database != "").any():
    return index.subject
  pairs = zip(index.database, index.subject, strict=True)
  return _objects([f"{database}/{subject}" for database, subject in pairs])


def k_folds(index: ExampleIndex, count: int, *, seed: int = 0) -> list[Fold]:
  """Subject-disjoint k-fold: every example is tested exactly once.

  Persons are dealt to the folds from the one with most examples down, each to the fold that then
  comes closest to its share of every class and of the whole.

  Args:
    index: the examples.
    count: number of folds, at least 2.
    seed: which of the equally good divisions.

  Raises:
    ValueError: fewer than 2 folds, or fewer persons than folds.
  """
  if count < 2:
    raise ValueError(f"k-fold needs at least 2 folds, got {count}")
  groups = _groups(index)
  part = _deal(groups, index.label, np.full(count, 1 / count), seed)
  return [_fold(index, f"fold{number + 1}", part == number) for number in range(count)]


def step_folds(index: ExampleIndex, count: int) -> list[Fold]:
  """Fold i tests the persons i, i + count, i + 2 * count, ... in ascending order of their names.

  With 10 folds this is the usual division of CK+, whose authors published none.

  Args:
    index: the examples.
    count: number of folds, at least 2.

  Raises:
    ValueError: fewer than 2 folds, fewer persons than folds, or subjects are unknown.
  """
  if count < 2:
    raise ValueError(f"k-fold needs at least 2 folds, got {count}")
  keys = subject_keys(index)
  names = sorted(set(keys))
  if names == [""]:
    raise ValueError("folds of every nth subject need subjects, and this dataset names none")
  if len(names) < count:
    raise ValueError(f"{len(names)} persons cannot be divided into {count} disjoint parts")
  return [
    _fold(index, f"fold{number + 1}", np.isin(keys, names[number::count]))
    for number in range(count)
  ]


def holdout(index: ExampleIndex, fraction: float, *, seed: int = 0) -> Fold:
  """One subject-disjoint division with about `fraction` of every class on the test side.

  Args:
    index: the examples.
    fraction: share of the test side, in (0, 1).
    seed: which of the equally good divisions.

  Raises:
    ValueError: fraction out of range, or fewer than two persons.
  """
  if not 0 < fraction < 1:
    raise ValueError(f"the held-out fraction must be between 0 and 1, got {fraction}")
  part = _deal(_groups(index), index.label, np.array([1 - fraction, fraction]), seed)
  return _fold(index, "holdout", part == 1)


def with_validation(index: ExampleIndex, fold: Fold, fraction: float, *, seed: int = 0) -> Fold:
  """Keeps about `fraction` of a fold's training persons from training; the test side stays.

  Raises:
    ValueError: fraction out of range, or the training side has fewer than two persons.
  """
  inner = holdout(index.take(fold.train), fraction, seed=seed)
  return Fold(fold.name, fold.train[inner.train], fold.test, fold.train[inner.test])


def leave_one_subject_out(index: ExampleIndex) -> list[Fold]:
  """LOSO: one fold a person, tested on that person, named by it; ascending names.

  Raises:
    ValueError: subjects are unknown, or there is only one.
  """
  keys = subject_keys(index)
  names = sorted(set(keys))
  if names == [""]:
    raise ValueError("leave-one-subject-out needs subjects, and this dataset names none")
  if len(names) < 2:
    raise ValueError(f"leave-one-subject-out needs two subjects, there is only {names[0]!r}")
  return [_fold(index, name, keys == name) for name in names]


def leave_one_database_out(index: ExampleIndex) -> list[Fold]:
  """One fold a source database, tested on that database, named by it.

  Raises:
    ValueError: there are not two databases.
  """
  names = sorted(set(index.database))
  if len(names) < 2:
    raise ValueError(f"leave-one-database-out needs two databases, got {names}")
  return [_fold(index, name, index.database == name) for name in names]


def make_folds(
  index: ExampleIndex,
  rule: str,
  *,
  folds: int = 5,
  holdout_share: float = 0.25,
  seed: int = 0,
  train: Sequence[str] = ("train",),
) -> list[Fold]:
  """The folds of a rule by its name.

  Args:
    index: of all splits that the rule looks at.
    rule: one of RULES.
    folds: number of folds of "kfold" and "step".
    holdout_share: share of the subjects that "holdout" tests on.
    seed: of "kfold" and "holdout".
    train: splits that "official" trains on.

  Raises:
    ValueError: unknown rule, or the examples cannot be divided so.
  """
  if rule not in RULES:
    raise ValueError(f"the rule of division must be one of {', '.join(RULES)}: {rule!r}")
  makers = {
    "kfold": lambda: k_folds(index, folds, seed=seed),
    "step": lambda: step_folds(index, folds),
    "loso": lambda: leave_one_subject_out(index),
    "lodo": lambda: leave_one_database_out(index),
    "holdout": lambda: [holdout(index, holdout_share, seed=seed)],
    "official": lambda: [official_fold(index, train=train)],
  }
  return makers[rule]()


def official_fold(
  index: ExampleIndex, *, train: Sequence[str] = ("train",), test: str | None = None
) -> Fold:
  """The division that the dataset's authors published, from the stored splits.

  Args:
    index: read with all splits, for example `read_index(builder, "train+test")`.
    train: splits to train on.
    test: split to test on; None takes the first of "test", "validation" and "val" that is there
      and not trained on. Other splits are on neither side.

  Raises:
    ValueError: there is no such split, or a known person stands on both sides.
  """
  splits = set(index.split)
  usual = [name for name in ("test", "validation", "val") if name not in train]
  wanted = [test] if test is not None else usual
  found = [name for name in wanted if name in splits]
  if not splits.issuperset(train) or not found:
    raise ValueError(
      f"an official division needs splits {' and '.join(train)}, and {' or '.join(wanted)}; there "
      f"are: {', '.join(sorted(splits))}"
    )
  trained = np.flatnonzero(np.isin(index.split, list(train)))
  fold = Fold("official", trained, np.flatnonzero(index.split == found[0]))
  check_disjoint(index, fold)
  return fold


def check_disjoint(index: ExampleIndex, fold: Fold) -> None:
  """Refuses a division in which an example or a person stands on both sides.

  Raises:
    ValueError: naming the files or subjects concerned, or saying that a side is empty.
  """
  if not len(fold.train) or not len(fold.test):
    side = "test" if len(fold.train) else "training"
    raise ValueError(f"{fold.name}: the {side} side is empty")
  both = np.intersect1d(fold.train, fold.test)
  if both.size:
    raise ValueError(
      f"{fold.name}: {both.size} examples are trained on and tested: "
      f"{_listed(index.file[both].tolist())}"
    )
  keys = subject_keys(index)
  shared = sorted((set(keys[fold.train]) & set(keys[fold.test])) - {""})
  if shared:
    raise ValueError(
      f"{fold.name}: {len(shared)} subjects are trained on and tested: {_listed(shared)}"
    )


def _fold(index: ExampleIndex, name: str, tested: np.ndarray) -> Fold:
  fold = Fold(name, np.flatnonzero(~tested), np.flatnonzero(tested))
  check_disjoint(index, fold)
  return fold


def _groups(index: ExampleIndex) -> np.ndarray:
  """Object array [N]: what must stay together. Warns when that is not the person."""
  keys = subject_keys(index)
  if (keys != "").all():
    return keys
  if (index.clip != "").all():
    logger.warning(
      "this dataset names no subjects: clips are kept together, but one person may be trained on "
      "and tested. Scores will be too good; give a subject for every example"
    )
    return _objects([f"{d}/{c}" for d, c in zip(index.database, index.clip, strict=True)])
  logger.warning(
    "this dataset names no subjects: single images are divided, and one person may be trained on "
    "and tested. Scores will be too good; give a subject for every example"
  )
  return _objects([str(number) for number in range(len(index))])


def _deal(groups: np.ndarray, labels: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
  """int64 [N]: the part that each example goes to; groups stay whole, no part stays empty."""
  names, member = np.unique(groups, return_inverse=True)
  if len(names) < len(shares):
    raise ValueError(f"{len(names)} persons cannot be divided into {len(shares)} disjoint parts")
  # One column a class and one for the whole, each scaled so that all count alike.
  columns = np.zeros((len(names), int(labels.max()) + 2))
  np.add.at(columns, (member, labels), 1)
  columns[:, -1] = columns.sum(1)
  totals = columns.sum(0)
  columns, totals = columns[:, totals > 0], totals[totals > 0]
  columns = columns / totals
  shuffled = np.random.default_rng(seed).permutation(len(names))
  queue = shuffled[np.argsort(-columns[shuffled, -1], kind="stable")]
  missing = np.repeat(shares[:, None], columns.shape[1], axis=1)
  dealt = np.empty(len(names), np.int64)
  used = np.zeros(len(shares), bool)
  for turn, group in enumerate(queue):
    # How much the squared distance to the shares falls, in proportion to the share.
    gain = (2 * missing @ columns[group] - columns[group] @ columns[group]) / shares
    if len(queue) - turn <= (~used).sum():
      gain = np.where(used, -np.inf, gain)
    part = int(np.argmax(gain))
    dealt[group] = part
    used[part] = True
    missing[part] -= columns[group]
  return dealt[member]


def _objects(values: Sequence[str]) -> np.ndarray:
  out = np.empty(len(values), object)
  out[:] = values
  return out


def _listed(names: Sequence[str]) -> str:
  shown = ", ".join(names[:10])
  return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
