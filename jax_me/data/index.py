"""Metadata of every example (label, subject, clip, ...), readable without decoding images.

Each split of a dataset has a file `index-<split>.jsonl` beside its records: one JSON row per
example, in storage order, so that row i describes record i. Folds, samplers and reports use it.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

TEXT_FIELDS = ("subject", "clip", "database", "file", "split")
NUMBER_FIELDS = ("label", "frame", "onset", "apex", "offset")


@dataclasses.dataclass(frozen=True)
class ExampleIndex:
  """The columns of a split; all arrays have shape [N] and row i describes stored example i.

  Attributes:
    label_names: names of the classes; `label` holds indices into it.
    label: int32 class of each example.
    subject: object array of str, "" where unknown.
    clip: object array of str, "" for single photographs. Unique only within a subject.
    database: object array of str, the source database ("" when there is only one).
    file: object array of str, relative name of the source; unique in the split.
    split: object array of str, the stored split of the example.
    frame: int32 position in the clip, -1 unknown.
    onset, apex, offset: int32 frame numbers of the expression in its clip, -1 unknown.
    targets: float32 [N, C], probability of every class, where the dataset has vote shares for all
      examples; None otherwise.
    affect: float32 [N, 2], valence and arousal in [-1, 1], NaN where unknown; None where they are
      unknown for all examples.
  """

  label_names: tuple[str, ...]
  label: np.ndarray
  subject: np.ndarray
  clip: np.ndarray
  database: np.ndarray
  file: np.ndarray
  split: np.ndarray
  frame: np.ndarray
  onset: np.ndarray
  apex: np.ndarray
  offset: np.ndarray
  targets: np.ndarray | None = None
  affect: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.label)

  def take(self, indices: Sequence[int] | np.ndarray) -> "ExampleIndex":
    """The index of a subset of examples; row i then describes example indices[i]."""
    columns = {name: getattr(self, name)[indices] for name in TEXT_FIELDS + NUMBER_FIELDS}
    targets = None if self.targets is None else self.targets[indices]
    affect = None if self.affect is None else self.affect[indices]
    return ExampleIndex(label_names=self.label_names, targets=targets, affect=affect, **columns)

  def class_counts(self) -> dict[str, int]:
    """Number of examples of each class, including classes without examples."""
    counts = np.bincount(self.label, minlength=len(self.label_names))
    return {name: int(count) for name, count in zip(self.label_names, counts, strict=True)}


def make_index(label_names: Sequence[str], rows: Sequence[Mapping[str, object]]) -> ExampleIndex:
  """Builds the index from one mapping per example; missing fields count as unknown."""
  columns: dict[str, np.ndarray] = {}
  for name in TEXT_FIELDS:
    column = np.empty(len(rows), object)
    # Interned: all frames of a subject share one string object.
    column[:] = [sys.intern(str(row.get(name, ""))) for row in rows]
    columns[name] = column
  for name in NUMBER_FIELDS:
    columns[name] = np.array([row.get(name, -1) for row in rows], np.int32).reshape(len(rows))
  shares = [row.get("targets") for row in rows]
  targets = np.array(shares, np.float32) if shares and all(shares) else None
  pairs = [row.get("affect") for row in rows]
  known = [pair or (np.nan, np.nan) for pair in pairs] if any(pairs) else None
  affect = None if known is None else np.array(known, np.float32)
  return ExampleIndex(label_names=tuple(label_names), targets=targets, affect=affect, **columns)


def index_path(folder: str | pathlib.Path, split: str) -> pathlib.Path:
  """Path of a split's index in the dataset's version folder."""
  return pathlib.Path(folder) / f"index-{split}.jsonl"


def read_index(builder: "tfds.core.DatasetBuilder", split: str = "train") -> ExampleIndex:
  """Reads the index of one split, or of several joined by "+", of a prepared dataset.

  Args:
    builder: a TFDS builder returned by `jax_me.datasets.catalog.prepare`.
    split: name of a split of that dataset, or for example "train+test": the examples of train
      followed by those of test, as in TFDS.

  Raises:
    ValueError: the dataset has no such split, or no index beside it, or a damaged one.
  """
  rows: list[dict[str, Any]] = []
  for name in split.split("+"):
    path = index_path(str(builder.data_path), name)
    if not path.is_file():
      splits = ", ".join(sorted(builder.info.splits)) or "none: it is not prepared"
      raise ValueError(
        f"{path} is missing: dataset {builder.info.full_name} has no split {name!r} "
        f"(splits: {splits}), or was not built by jax_me.datasets.catalog.prepare"
      )
    found = _read_rows(path, name)
    stored = builder.info.splits[name].num_examples
    if len(found) != stored:
      raise ValueError(
        f"{path} has {len(found)} rows, but the split has {stored} records: the dataset is "
        f"damaged; delete {path.parent} and build it again"
      )
    rows += found
  return make_index(builder.info.features["label"].names, rows)


def _read_rows(path: pathlib.Path, split: str) -> list[dict[str, Any]]:
  rows = []
  with path.open("rb") as lines:
    for number, line in enumerate(lines, start=1):
      try:
        rows.append({**json.loads(line), "split": split})
      except (ValueError, TypeError) as error:
        raise ValueError(
          f"{path}, line {number} is damaged ({error}): delete {path.parent} and build the dataset "
          "again"
        ) from error
  return rows
