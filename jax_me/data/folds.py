"""Subject-independent folds: k-fold, holdout, leave-one-subject-out, leave-one-database-out.

All functions take an ExampleIndex and return integer positions in it. Subjects of different
databases are always different persons. Without subjects, folds keep whole clips together or, if
there are no clips either, split single images; both give a warning.
"""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from jax_me.data.index import ExampleIndex

logger = logging.getLogger(__name__)

# Names of the split rules; see `make_folds`.
RULES = ("official", "loso", "lodo", "kfold", "step", "holdout")


@dataclasses.dataclass(frozen=True, eq=False)
class Fold:
  """One split of a dataset into training, test and validation examples.

  Attributes:
    name: used for folders and tables, for example "fold1" or a subject.
    train: int64, ascending positions of the training examples.
    test: int64, ascending positions of the test examples.
    validation: int64, ascending positions of examples held out from training for model selection,
      of other subjects than train and test; usually empty.
  """

  name: str
  train: np.ndarray
  test: np.ndarray
  validation: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))


def subject_keys(index: ExampleIndex) -> np.ndarray:
  """Object array [N] of str: subject of each example, unique over databases; "" if unknown.

  Raises:
    ValueError: some examples have a subject and others have none.
  """
  known = index.subject != ""
  if known.any() and not known.all():
    first = index.file[np.flatnonzero(~known)[0]]
    raise ValueError(
      f"{int((~known).sum())} of {len(index)} examples have no subject (first: {first}); give a "
      "subject for all examples or for none"
    )
  if not known.any() or not (index.database != "").any():
    return index.subject
  pairs = zip(index.database, index.subject, strict=True)
  return _object_array([f"{database}/{subject}" for database, subject in pairs])


def k_folds(index: ExampleIndex, count: int, *, seed: int = 0) -> list[Fold]:
  """Stratified k-fold by subject: every example is tested exactly once.

  Subjects are assigned in descending order of their number of examples, each to the fold that then
  is closest to its share of every class and of all examples.

  Args:
    index: the examples.
    count: number of folds, at least 2.
    seed: order of subjects with equally many examples.

  Returns:
    `count` folds named "fold1", "fold2", ...

  Raises:
    ValueError: fewer than 2 folds, or fewer subjects than folds.
  """
  if count < 2:
    raise ValueError(f"k-fold needs at least 2 folds, got {count}")
  groups = _group_keys(index)
  part = _assign_groups(groups, index.label, np.full(count, 1 / count), seed)
  return [_make_fold(index, f"fold{number + 1}", part == number) for number in range(count)]


def step_folds(index: ExampleIndex, count: int) -> list[Fold]:
  """K-fold by subject name: fold i tests the sorted subjects i, i + count, i + 2 * count, ...

  With 10 folds this is the usual protocol for CK+, whose authors published none.

  Args:
    index: the examples.
    count: number of folds, at least 2.

  Raises:
    ValueError: fewer than 2 folds, fewer subjects than folds, or subjects are unknown.
  """
  if count < 2:
    raise ValueError(f"k-fold needs at least 2 folds, got {count}")
  keys = subject_keys(index)
  names = sorted(set(keys))
  if names == [""]:
    raise ValueError("folds of every nth subject need subjects, and this dataset has none")
  if len(names) < count:
    raise ValueError(f"{len(names)} subjects cannot be divided into {count} disjoint parts")
  return [
    _make_fold(index, f"fold{number + 1}", np.isin(keys, names[number::count]))
    for number in range(count)
  ]


def holdout(index: ExampleIndex, fraction: float, *, seed: int = 0) -> Fold:
  """One subject-independent split with about `fraction` of every class in the test set.

  Args:
    index: the examples.
    fraction: share of the test set, in (0, 1).
    seed: order of subjects with equally many examples.

  Returns:
    the fold, named "holdout".

  Raises:
    ValueError: fraction out of range, or fewer than two subjects.
  """
  if not 0 < fraction < 1:
    raise ValueError(f"the held-out fraction must be between 0 and 1, got {fraction}")
  part = _assign_groups(_group_keys(index), index.label, np.array([1 - fraction, fraction]), seed)
  return _make_fold(index, "holdout", part == 1)


def with_validation(index: ExampleIndex, fold: Fold, fraction: float, *, seed: int = 0) -> Fold:
  """Moves about `fraction` of a fold's training examples, by subject, to validation.

  Args:
    index: the examples.
    fold: the fold; its test set does not change.
    fraction: share of the validation set in the training set, in (0, 1).
    seed: as in `holdout`.

  Returns:
    the new fold.

  Raises:
    ValueError: fraction out of range, or the training set has fewer than two subjects.
  """
  inner = holdout(index.take(fold.train), fraction, seed=seed)
  return Fold(fold.name, fold.train[inner.train], fold.test, fold.train[inner.test])


def leave_one_subject_out(index: ExampleIndex) -> list[Fold]:
  """LOSO: one fold per subject, named after its test subject, in ascending order.

  Raises:
    ValueError: subjects are unknown, or there is only one.
  """
  keys = subject_keys(index)
  names = sorted(set(keys))
  if names == [""]:
    raise ValueError("leave-one-subject-out needs subjects, and this dataset has none")
  if len(names) < 2:
    raise ValueError(f"leave-one-subject-out needs two subjects, there is only {names[0]!r}")
  return [_make_fold(index, name, keys == name) for name in names]


def leave_one_database_out(index: ExampleIndex) -> list[Fold]:
  """One fold per source database, named after its test database.

  Raises:
    ValueError: fewer than two databases.
  """
  names = sorted(set(index.database))
  if len(names) < 2:
    raise ValueError(f"leave-one-database-out needs two databases, got {names}")
  return [_make_fold(index, name, index.database == name) for name in names]


def make_folds(
  index: ExampleIndex,
  rule: str,
  *,
  folds: int = 5,
  holdout_share: float = 0.25,
  seed: int = 0,
  train: Sequence[str] = ("train",),
  test: Sequence[str] = (),
) -> list[Fold]:
  """Makes the folds of a split rule.

  Args:
    index: index of all splits that the rule uses.
    rule: one of RULES.
    folds: number of folds of "kfold" and "step".
    holdout_share: share of the test set of "holdout", in (0, 1).
    seed: seed of "kfold" and "holdout".
    train: training splits of "official", see `official_fold`.
    test: test splits of "official".

  Returns:
    the folds.

  Raises:
    ValueError: unknown rule, or the examples cannot be divided by it.
  """
  if rule not in RULES:
    raise ValueError(f"the split rule must be one of {', '.join(RULES)}: {rule!r}")
  makers = {
    "kfold": lambda: k_folds(index, folds, seed=seed),
    "step": lambda: step_folds(index, folds),
    "loso": lambda: leave_one_subject_out(index),
    "lodo": lambda: leave_one_database_out(index),
    "holdout": lambda: [holdout(index, holdout_share, seed=seed)],
    "official": lambda: [official_fold(index, train=train, test=test)],
  }
  return makers[rule]()


def official_fold(
  index: ExampleIndex, *, train: Sequence[str] = ("train",), test: Sequence[str] = ()
) -> Fold:
  """The train/test split published by the dataset's authors, from the stored splits.

  Args:
    index: index of all splits, for example `read_index(builder, "train+test")`.
    train: training splits.
    test: test splits; empty takes the first of "test", "validation" and "val" that exists and is
      not a training split. Other splits are not used.

  Returns:
    the fold, named "official".

  Raises:
    ValueError: a split is missing, or a subject is in both training and test set.
  """
  splits = set(index.split)
  usual = [name for name in ("test", "validation", "val") if name not in train]
  tested = list(test) or [name for name in usual if name in splits][:1]
  if not tested or not splits.issuperset([*train, *tested]):
    wanted = " and ".join(test) or " or ".join(usual)
    raise ValueError(
      f"the official split needs {' and '.join(train)}, and {wanted}; there are: "
      f"{', '.join(sorted(splits))}"
    )
  trained, scored = (np.flatnonzero(np.isin(index.split, list(names))) for names in (train, tested))
  fold = Fold("official", trained, scored)
  check_disjoint(index, fold)
  return fold


def describe_folds(index: ExampleIndex, folds: Sequence[Fold]) -> str:
  """Says how many examples are trained on and tested, and of "official" also in which splits."""

  def count(side: str) -> str:
    sizes = [len(getattr(fold, side)) for fold in folds]
    low, high = f"{min(sizes):,}", f"{max(sizes):,}"
    return low if low == high else f"{low} to {high}"

  def splits(positions: np.ndarray) -> str:
    return " + ".join(dict.fromkeys(index.split[positions]))

  first = folds[0]
  validation = f", selects weights on {count('validation')}" if len(first.validation) else ""
  if not len(first.test):
    return f"trains on {count('train')} examples{validation}, tests none"
  if first.name == "official":
    unused = np.setdiff1d(
      np.arange(len(index)), np.concatenate([first.train, first.validation, first.test])
    )
    rest = f"; {splits(unused)} ({len(unused):,}) is not used" if len(unused) else ""
    return (
      f"trains on {count('train')} examples ({splits(first.train)}){validation}, tests "
      f"{count('test')} ({splits(first.test)}){rest}"
    )
  if len(folds) == 1:
    return f"trains on {count('train')} examples{validation}, tests {count('test')}"
  tested = sum(len(fold.test) for fold in folds)
  return (
    f"each fold trains on {count('train')} examples{validation} and tests {count('test')}; "
    f"{tested:,} are tested in all"
  )


def check_disjoint(index: ExampleIndex, fold: Fold) -> None:
  """Checks that training and test set share no example and no subject.

  Raises:
    ValueError: the shared files or subjects, or an empty set.
  """
  if not len(fold.train) or not len(fold.test):
    empty = "test" if len(fold.train) else "training"
    raise ValueError(f"{fold.name}: the {empty} set is empty")
  both = np.intersect1d(fold.train, fold.test)
  if both.size:
    raise ValueError(
      f"{fold.name}: {both.size} examples are in both training and test set: "
      f"{_join_names(index.file[both].tolist())}"
    )
  keys = subject_keys(index)
  shared = sorted((set(keys[fold.train]) & set(keys[fold.test])) - {""})
  if shared:
    raise ValueError(
      f"{fold.name}: {len(shared)} subjects are in both training and test set: "
      f"{_join_names(shared)}"
    )


def _make_fold(index: ExampleIndex, name: str, is_test: np.ndarray) -> Fold:
  fold = Fold(name, np.flatnonzero(~is_test), np.flatnonzero(is_test))
  check_disjoint(index, fold)
  return fold


def _group_keys(index: ExampleIndex) -> np.ndarray:
  """Object array [N]: group of each example that must not be split. Warns if not the subject."""
  keys = subject_keys(index)
  if (keys != "").all():
    return keys
  if (index.clip != "").all():
    logger.warning(
      "this dataset has no subjects: clips are kept together, but a person may be in both training "
      "and test set. Scores will be too good; give a subject for every example"
    )
    return _object_array([f"{d}/{c}" for d, c in zip(index.database, index.clip, strict=True)])
  logger.warning(
    "this dataset has no subjects: single images are split, and a person may be in both training "
    "and test set. Scores will be too good; give a subject for every example"
  )
  return _object_array([str(number) for number in range(len(index))])


def _assign_groups(
  groups: np.ndarray, labels: np.ndarray, shares: np.ndarray, seed: int
) -> np.ndarray:
  """int64 [N]: part of each example; groups are not split, no part is empty."""
  names, member = np.unique(groups, return_inverse=True)
  if len(names) < len(shares):
    raise ValueError(f"{len(names)} subjects cannot be divided into {len(shares)} disjoint parts")
  # One column per class and one for all examples, scaled to equal weight.
  columns = np.zeros((len(names), int(labels.max()) + 2))
  np.add.at(columns, (member, labels), 1)
  columns[:, -1] = columns.sum(1)
  totals = columns.sum(0)
  columns, totals = columns[:, totals > 0], totals[totals > 0]
  columns = columns / totals
  shuffled = np.random.default_rng(seed).permutation(len(names))
  queue = shuffled[np.argsort(-columns[shuffled, -1], kind="stable")]
  missing = np.repeat(shares[:, None], columns.shape[1], axis=1)
  assigned = np.empty(len(names), np.int64)
  used = np.zeros(len(shares), bool)
  for count, group in enumerate(queue):
    # Decrease of the squared distance to the target shares, relative to the share.
    gain = (2 * missing @ columns[group] - columns[group] @ columns[group]) / shares
    if len(queue) - count <= (~used).sum():
      gain = np.where(used, -np.inf, gain)
    part = int(np.argmax(gain))
    assigned[group] = part
    used[part] = True
    missing[part] -= columns[group]
  return assigned[member]


def _object_array(values: Sequence[str]) -> np.ndarray:
  out = np.empty(len(values), object)
  out[:] = values
  return out


def _join_names(names: Sequence[str]) -> str:
  first = ", ".join(names[:10])
  return first if len(names) <= 10 else f"{first} and {len(names) - 10} more"
