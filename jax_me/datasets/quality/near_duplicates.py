"""Faces that stand on both sides of a division although they are one picture, or one person.

Distances are those of dlib's face descriptors (`jax_me.faces.face_descriptor`). Measured on the
London faces (62 people, neutral and smiling, 1350 pixels; Face Research Lab London Set, CC BY 4.0):

  a picture and its copy: JPEG quality 50, half the size, brighter, or cropped   0.01 to 0.10
  a picture and its copy at JPEG quality 20, or with the face at 112 pixels      0.06 to 0.19
  a picture and its mirror image, or its grey copy                               0.08 to 0.22
  a picture and its copy with the face at 48 pixels                              0.19 to 0.42
  neutral against smiling, one person                                            0.11 to 0.46
  different people (1% are closer than 0.62)                                     0.47 to 1.12
"""

import collections
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jax_me.data.folds import Fold
from jax_me.data.index import ExampleIndex, read_index
from jax_me.datasets.quality.face_descriptors import describe_dataset

# Finds copies that were encoded, resized or cropped anew, and hardly ever another picture of the
# same person; 0.2 also finds mirrored, grey and poor copies, with many such other pictures.
IDENTICAL = 0.1
# Finds 99 in 100 pairs of one person. The author's 0.6 would call 1 pair in 170 of different
# people the same, and a dataset has very many pairs.
ONE_PERSON = 0.4
# Faces compared with each other at once: 16 MB of distances.
BLOCK = 2048

logger = logging.getLogger(__name__)


def near_duplicates(
  builder: Any,
  folds: Sequence[Fold] | None = None,
  *,
  split: str | None = None,
  workers: int | None = None,
  **settings: Any,
) -> list[dict[str, Any]]:
  """Describes the faces of a dataset, where that is not done yet, and compares them.

  Args:
    builder: what `jax_me.datasets.catalog.prepare` returned.
    folds: the division, over the examples of `read_index(builder, split)`; None takes the stored
      splits for the sides.
    split: the splits compared, joined by "+"; None takes all, "train" first, then by name.
    workers: processes that describe; None takes one a core.
    **settings: `identical`, `one_person` and `limit` of `compare_faces`.

  Returns:
    rows as of `compare_faces`.

  Raises:
    ValueError: no such split, or pictures that show no faces.
  """
  if split is None:
    split = "+".join(sorted(builder.info.splits, key=lambda name: (name != "train", name)))
  index = read_index(builder, split)
  descriptors = describe_dataset(builder, split, workers)
  return compare_faces(index, descriptors, sides(index, folds), **settings)


def sides(index: ExampleIndex, folds: Sequence[Fold] | None = None) -> np.ndarray:
  """On which side of a division each example stands; two sides never train and test together.

  Args:
    index: the examples.
    folds: None takes the stored splits for sides. One fold has the sides "train" and "test". Of
      several, the side is the name of the fold that tests the example.

  Returns:
    object array [N] of str; "" for examples that stand on no side.

  Raises:
    ValueError: an example is tested by several folds.
  """
  if folds is None:
    return index.split.copy()
  side = np.full(len(index), "", object)
  for fold in folds:
    for number in (fold.train, fold.test):
      side[number[side[number] == ""]] = "train"
  for fold in folds:
    if (side[fold.test] != "train").any():
      raise ValueError(f"{fold.name}: examples are tested that another fold tests too")
    side[fold.test] = "test" if len(folds) == 1 else fold.name
  return side


def compare_faces(
  index: ExampleIndex,
  descriptors: np.ndarray,
  side: np.ndarray,
  *,
  identical: float = IDENTICAL,
  one_person: float = ONE_PERSON,
  limit: int = 1000,
) -> list[dict[str, Any]]:
  """Finds the pairs of faces that should not stand where they stand.

  All pairs are compared, in blocks: time grows with the square of the number of faces (300,000
  take minutes), memory does not.

  Args:
    index: the examples.
    descriptors: float [N, 128], NaN where there is no face.
    side: object array [N] of str, see `sides`; examples of the side "" are passed over.
    identical: largest distance of near-identical pictures.
    one_person: largest distance of pictures that look like one person.
    limit: most rows of each kind; a warning tells how many there were.

  Returns:
    JSON-ready rows, all with the same keys, the gravest first:
      kind: "near_identical": nearly the same picture stands on two sides.
        "one_person": two subjects look like one person, on whatever sides; or, where subjects are
        unknown, two pictures on two sides do.
        "no_face": a picture (`first`) in which no face was found, so that it was not compared.
      distance: of the two faces, the closest ones of two subjects; None for "no_face".
      first, second: the two files; first_/second_ position, side, subject ("database/name" where
        databases are named), label (name).
      pairs, of: for two subjects, how many of their pairs are within `one_person`, and how many
        there are; else 1 and 1. One person under two names has nearly all, a chance likeness few.

  Raises:
    ValueError: arrays of another length, or thresholds below 0.
  """
  if len(descriptors) != len(index) or len(side) != len(index):
    raise ValueError(
      f"{len(index)} examples need as many descriptors and sides, got {len(descriptors)} and "
      f"{len(side)}"
    )
  if identical < 0 or one_person < 0 or limit < 0:
    raise ValueError(f"thresholds and limit must be 0 or more: {identical, one_person, limit}")
  subjects = _subjects(index)
  faceless = np.isnan(descriptors).any(1)
  used = side != ""
  copies, alike, people = _Nearest(limit), _Nearest(limit), _People(subjects)
  for first, second, distance in _close_pairs(
    descriptors, side, subjects, np.flatnonzero(used & ~faceless), max(identical, one_person)
  ):
    across = side[first] != side[second]
    named = (subjects[first] != "") & (subjects[second] != "")
    same_picture = across & (distance <= identical)
    copies.add(first, second, distance, same_picture)
    likely = distance <= one_person
    people.add(first, second, distance, likely & named & (subjects[first] != subjects[second]))
    alike.add(first, second, distance, likely & across & ~named & ~same_picture)

  faces_of = collections.Counter(subjects[used & ~faceless])

  def row(
    kind: str,
    first: int,
    second: int = -1,
    distance: float | None = None,
    pairs: int = 0,
    of: int = 0,
  ) -> dict[str, Any]:
    cells: dict[str, Any] = {"kind": kind, "distance": distance}
    for name, position in (("first", first), ("second", second)):
      there = position >= 0
      cells[name] = index.file[position] if there else ""
      cells[f"{name}_position"] = position
      cells[f"{name}_side"] = side[position] if there else ""
      cells[f"{name}_subject"] = subjects[position] if there else ""
      cells[f"{name}_label"] = index.label_names[index.label[position]] if there else ""
    return {**cells, "pairs": pairs, "of": of}

  rows = [row("near_identical", *pair, 1, 1) for pair in copies.nearest()]
  likely_one = [row("one_person", *pair, 1, 1) for pair in alike.nearest()]
  for (one, other), (nearest, pairs) in people.found.items():
    likely_one.append(row("one_person", *nearest, pairs, faces_of[one] * faces_of[other]))
  likely_one.sort(key=lambda row: (-row["pairs"] / row["of"], row["distance"]))
  rows += likely_one[:limit]
  missing = np.flatnonzero(used & faceless)
  rows += [row("no_face", int(position)) for position in missing[:limit]]
  for what, total in (
    ("near-identical pairs", copies.total),
    ("pairs that look like one person", len(people.found) + alike.total),
    ("pictures without a face", len(missing)),
  ):
    if total > limit:
      logger.warning("there are %d %s; the %d gravest are listed", total, what, limit)
  return rows


def _subjects(index: ExampleIndex) -> np.ndarray:
  """Object array [N] of str: the person of each example, unique over databases; "" unknown."""
  pairs = zip(index.database, index.subject, strict=True)
  names = np.empty(len(index), object)
  names[:] = [f"{base}/{name}" if base and name else name for base, name in pairs]
  return names


def _close_pairs(
  descriptors: np.ndarray, side: np.ndarray, subjects: np.ndarray, faces: np.ndarray, radius: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Yields pairs within `radius` that differ in side or in known subject, each pair once.

  Args:
    descriptors: float [N, 128].
    side, subjects: object arrays [N] of str.
    faces: int64 [M], the positions to compare.
    radius: largest distance.

  Yields:
    first < second, int64 [P] positions; float64 [P] distances.
  """
  _, side_code = np.unique(side.astype(str), return_inverse=True)
  subject_names, subject_code = np.unique(subjects.astype(str), return_inverse=True)
  known = subject_names[subject_code] != ""
  # Sorted, many blocks have one side and one person or none, and those need no look.
  faces = faces[np.lexsort((subject_code[faces], side_code[faces]))]
  vectors = np.asarray(descriptors[faces], np.float32)
  halves, ones = -0.5 * (vectors**2).sum(1, keepdims=True), np.ones((len(faces), 1), np.float32)
  # The product of a row with a column is minus half the squared distance.
  rows = np.concatenate([vectors, halves, ones], 1)
  columns = np.concatenate([vectors, ones, halves], 1).T
  for start in range(0, len(faces), BLOCK):
    left = faces[start : start + BLOCK]
    for other in range(start, len(faces), BLOCK):
      right = faces[other : other + BLOCK]
      both = np.concatenate([left, right])
      one_side = np.ptp(side_code[both]) == 0
      if one_side and (np.ptp(subject_code[both]) == 0 or not known[both].any()):
        continue
      product = rows[start : start + BLOCK] @ columns[:, other : other + BLOCK]
      # float32 sums of about 1 are right to 1e-6: what is near the limit is looked at exactly.
      a, b = np.nonzero(product >= -0.5 * radius**2 - 1e-5)
      ahead = start + a < other + b
      a, b = left[a[ahead]], right[b[ahead]]
      wanted = known[a] & known[b] & (subject_code[a] != subject_code[b])
      wanted |= side_code[a] != side_code[b]
      a, b = a[wanted], b[wanted]
      distance = np.linalg.norm(descriptors[a].astype(np.float64) - descriptors[b], axis=1)
      near = distance <= radius
      yield np.minimum(a, b)[near], np.maximum(a, b)[near], distance[near]


class _Nearest:
  """The nearest `limit` of the pairs that it is shown, and the number of all."""

  def __init__(self, limit: int):
    self.total = 0
    self._limit = limit
    self._pairs = np.empty((0, 3))

  def add(
    self, first: np.ndarray, second: np.ndarray, distance: np.ndarray, chosen: np.ndarray
  ) -> None:
    self.total += int(chosen.sum())
    shown = np.stack([distance, first, second], -1)[chosen]
    pairs = np.concatenate([self._pairs, shown])
    self._pairs = pairs[np.lexsort(pairs.T[::-1])][: self._limit]

  def nearest(self) -> list[tuple[int, int, float]]:
    return [(int(first), int(second), distance) for distance, first, second in self._pairs.tolist()]


class _People:
  """Pairs of subjects: how many pairs of their faces it was shown, and the nearest of these.

  Attributes:
    found: (subject, subject) -> ((first, second, distance) of the nearest, number).
  """

  def __init__(self, subjects: np.ndarray):
    self.found: dict[tuple[str, str], tuple[tuple[int, int, float], int]] = {}
    self._names, self._code = np.unique(subjects.astype(str), return_inverse=True)

  def add(
    self, first: np.ndarray, second: np.ndarray, distance: np.ndarray, chosen: np.ndarray
  ) -> None:
    order = np.flatnonzero(chosen)
    order = order[np.argsort(distance[order], kind="stable")]
    codes = np.sort(np.stack([self._code[first[order]], self._code[second[order]]], -1), -1)
    # The first of each pair of subjects is its nearest.
    pairs, places, counts = np.unique(codes, axis=0, return_index=True, return_counts=True)
    for (one, other), place, count in zip(pairs, order[places], counts, strict=True):
      key = (str(self._names[one]), str(self._names[other]))
      nearest, number = (int(first[place]), int(second[place]), float(distance[place])), int(count)
      if key in self.found:
        earlier, shown = self.found[key]
        nearest, number = min(earlier, nearest, key=lambda pair: pair[2]), number + shown
      self.found[key] = (nearest, number)
