"""Near-identical faces on both sides of a split, and different subjects that look like one person.

Distances are those of dlib's face descriptors (`jax_me.faces.face_descriptor`). Measured on the
London faces (62 people, neutral and smiling, 1350 pixels; Face Research Lab London Set, CC BY 4.0):

  an image and its copy: JPEG quality 50, half the size, brighter, or cropped    0.01 to 0.10
  an image and its copy at JPEG quality 20, or with the face at 112 pixels       0.06 to 0.19
  an image and its mirror image, or its grey copy                                0.08 to 0.22
  an image and its copy with the face at 48 pixels                               0.19 to 0.42
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
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.quality.face_descriptors import describe_dataset

# Finds re-encoded, resized or cropped copies, and hardly ever another image of the same person;
# 0.2 also finds mirrored, grey and low-quality copies, along with many such other images.
IDENTICAL_DISTANCE = 0.1
# Finds 99% of the image pairs of one person. dlib's own threshold of 0.6 would accept 1 in 170
# pairs of different people, and a dataset has very many pairs.
SAME_PERSON_DISTANCE = 0.4
# Faces per block of compared pairs: 16 MB of distances.
BLOCK_SIZE = 2048

logger = logging.getLogger(__name__)


# A pair of similar faces, or an image without a face; `compare_faces` lists the keys.
FacePair = dict[str, Any]


def near_duplicates(
  builder: FaceDataset,
  folds: Sequence[Fold] | None = None,
  *,
  split: str | None = None,
  workers: int | None = None,
  identical_distance: float = IDENTICAL_DISTANCE,
  same_person_distance: float = SAME_PERSON_DISTANCE,
  limit: int = 1000,
) -> list[FacePair]:
  """Compares the faces of a dataset; computes missing face descriptors.

  Args:
    builder: a dataset from `jax_me.datasets.catalog.prepare`.
    folds: folds over the examples of `read_index(builder, split)`; None compares the stored
      splits.
    split: the splits to compare, joined by "+"; None uses all, "train" first, then by name.
    workers: processes that compute descriptors; None uses one per core.
    identical_distance, same_person_distance, limit: as in `compare_faces`.

  Returns:
    rows as in `compare_faces`.

  Raises:
    ValueError: no such split, or images that do not show faces.
  """
  if split is None:
    split = "+".join(sorted(builder.info.splits, key=lambda name: (name != "train", name)))
  index = read_index(builder, split)
  descriptors = describe_dataset(builder, split, workers)
  return compare_faces(
    index,
    descriptors,
    fold_sides(index, folds),
    identical_distance=identical_distance,
    same_person_distance=same_person_distance,
    limit=limit,
  )


def fold_sides(index: ExampleIndex, folds: Sequence[Fold] | None = None) -> np.ndarray:
  """The side of each example: examples of different sides must not share images or subjects.

  Args:
    index: the examples.
    folds: None uses the stored splits as sides. A single fold has the sides "train" and "test".
      With several folds, the side is the name of the fold that tests the example.

  Returns:
    object array [N] of str; "" for examples in no fold.

  Raises:
    ValueError: an example is tested by several folds.
  """
  if folds is None:
    return index.split.copy()
  side = np.full(len(index), "", object)
  for fold in folds:
    for positions in (fold.train, fold.test):
      side[positions[side[positions] == ""]] = "train"
  for fold in folds:
    if (side[fold.test] != "train").any():
      raise ValueError(f"{fold.name}: some test examples are tested by another fold too")
    side[fold.test] = "test" if len(folds) == 1 else fold.name
  return side


def compare_faces(
  index: ExampleIndex,
  descriptors: np.ndarray,
  side: np.ndarray,
  *,
  identical_distance: float = IDENTICAL_DISTANCE,
  same_person_distance: float = SAME_PERSON_DISTANCE,
  limit: int = 1000,
) -> list[FacePair]:
  """Finds similar faces on different sides, and subjects that look like one person.

  All pairs are compared, in blocks: time is quadratic in the number of faces (300,000 take
  minutes), memory is constant.

  Args:
    index: the examples.
    descriptors: float [N, 128], NaN if there is no face.
    side: object array [N] of str, see `fold_sides`; examples of the side "" are ignored.
    identical_distance: largest distance of near-identical images.
    same_person_distance: largest distance of images that look like one person.
    limit: maximum number of rows of each kind; a warning is logged if there are more.

  Returns:
    JSON-ready rows with the same keys, the most serious first:
      kind: "near_identical": nearly identical images on two sides.
        "one_person": two subjects, on any sides, that look like one person; or, if subjects are
        unknown, two such images on different sides.
        "no_face": an image (`first`) without a detected face, which is not compared.
      distance: distance of the two faces, the closest ones of two subjects; None for "no_face".
      first, second: the two files; first_/second_ position, side, subject ("database/name" if
        databases are named), label (name).
      pairs, of: for two subjects, the number of their image pairs within `same_person_distance`,
        and of all their pairs; else 1 and 1. One person under two names has nearly all, a chance
        similarity only a few.

  Raises:
    ValueError: arrays of different lengths, or a negative threshold or limit.
  """
  if len(descriptors) != len(index) or len(side) != len(index):
    raise ValueError(
      f"{len(index)} examples need as many descriptors and sides, got {len(descriptors)} and "
      f"{len(side)}"
    )
  if identical_distance < 0 or same_person_distance < 0 or limit < 0:
    thresholds = identical_distance, same_person_distance, limit
    raise ValueError(f"thresholds and limit must be 0 or more: {thresholds}")
  subjects = _subject_names(index)
  faceless = np.isnan(descriptors).any(1)
  used = side != ""
  faces = np.flatnonzero(used & ~faceless)
  copies, similar = _NearestPairs(limit), _NearestPairs(limit)
  similar_subjects = _SubjectPairs(subjects)
  radius = max(identical_distance, same_person_distance)
  for first, second, distance in _close_pairs(descriptors, side, subjects, faces, radius):
    across = side[first] != side[second]
    named = (subjects[first] != "") & (subjects[second] != "")
    is_copy = across & (distance <= identical_distance)
    copies.add(first, second, distance, is_copy)
    is_close = distance <= same_person_distance
    differ = named & (subjects[first] != subjects[second])
    similar_subjects.add(first, second, distance, is_close & differ)
    similar.add(first, second, distance, is_close & across & ~named & ~is_copy)

  def describe(name: str, position: int) -> FacePair:
    exists = position >= 0
    return {
      name: index.file[position] if exists else "",
      f"{name}_position": position,
      f"{name}_side": side[position] if exists else "",
      f"{name}_subject": subjects[position] if exists else "",
      f"{name}_label": index.label_names[index.label[position]] if exists else "",
    }

  def make_row(
    kind: str, first: int, second: int, distance: float | None, pairs: int, of: int
  ) -> FacePair:
    faces = describe("first", first) | describe("second", second)
    return {"kind": kind, "distance": distance, **faces, "pairs": pairs, "of": of}

  rows = [make_row("near_identical", *pair, 1, 1) for pair in copies.nearest()]
  one_person = [make_row("one_person", *pair, 1, 1) for pair in similar.nearest()]
  face_counts = collections.Counter(subjects[faces])
  for (one, other), (nearest, pairs) in similar_subjects.found.items():
    total_pairs = face_counts[one] * face_counts[other]
    one_person.append(make_row("one_person", *nearest, pairs, total_pairs))
  one_person.sort(key=lambda row: (-row["pairs"] / row["of"], row["distance"]))
  rows += one_person[:limit]
  without_face = np.flatnonzero(used & faceless)
  rows += [make_row("no_face", int(position), -1, None, 0, 0) for position in without_face[:limit]]
  for what, total in (
    ("near-identical pairs", copies.total),
    ("pairs that look like one person", len(similar_subjects.found) + similar.total),
    ("images without a face", len(without_face)),
  ):
    if total > limit:
      logger.warning("found %d %s; only the %d most serious are listed", total, what, limit)
  return rows


def _subject_names(index: ExampleIndex) -> np.ndarray:
  """Object array [N] of str: subject of each example, unique across databases; "" if unknown."""
  pairs = zip(index.database, index.subject, strict=True)
  names = np.empty(len(index), object)
  names[:] = [f"{base}/{name}" if base and name else name for base, name in pairs]
  return names


def _close_pairs(
  descriptors: np.ndarray, side: np.ndarray, subjects: np.ndarray, faces: np.ndarray, radius: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Finds pairs within `radius` that differ in side or in known subject, each pair once.

  Args:
    descriptors: float [N, 128].
    side, subjects: object arrays [N] of str.
    faces: int64 [M], positions to compare.
    radius: largest distance.

  Yields:
    first < second, int64 [P] positions; float64 [P] distances.
  """
  _, side_code = np.unique(side.astype(str), return_inverse=True)
  subject_names, subject_code = np.unique(subjects.astype(str), return_inverse=True)
  known = subject_names[subject_code] != ""
  # After sorting, many blocks have a single side and subject and can be skipped.
  faces = faces[np.lexsort((subject_code[faces], side_code[faces]))]
  vectors = np.asarray(descriptors[faces], np.float32)
  halves, ones = -0.5 * (vectors**2).sum(1, keepdims=True), np.ones((len(faces), 1), np.float32)
  # The product of a row and a column is minus half the squared distance.
  rows = np.concatenate([vectors, halves, ones], 1)
  columns = np.concatenate([vectors, ones, halves], 1).T
  for start in range(0, len(faces), BLOCK_SIZE):
    left = faces[start : start + BLOCK_SIZE]
    for other in range(start, len(faces), BLOCK_SIZE):
      right = faces[other : other + BLOCK_SIZE]
      both = np.concatenate([left, right])
      is_one_side = np.ptp(side_code[both]) == 0
      if is_one_side and (np.ptp(subject_code[both]) == 0 or not known[both].any()):
        continue
      product = rows[start : start + BLOCK_SIZE] @ columns[:, other : other + BLOCK_SIZE]
      # float32 sums of about 1 are accurate to 1e-6: pairs near the radius are recomputed exactly.
      a, b = np.nonzero(product >= -0.5 * radius**2 - 1e-5)
      ahead = start + a < other + b
      a, b = left[a[ahead]], right[b[ahead]]
      wanted = known[a] & known[b] & (subject_code[a] != subject_code[b])
      wanted |= side_code[a] != side_code[b]
      a, b = a[wanted], b[wanted]
      distance = np.linalg.norm(descriptors[a].astype(np.float64) - descriptors[b], axis=1)
      near = distance <= radius
      yield np.minimum(a, b)[near], np.maximum(a, b)[near], distance[near]


class _NearestPairs:
  """Collects the `limit` nearest pairs, and the number of all pairs."""

  def __init__(self, limit: int):
    self.total = 0
    self._limit = limit
    self._pairs = np.empty((0, 3))

  def add(
    self, first: np.ndarray, second: np.ndarray, distance: np.ndarray, chosen: np.ndarray
  ) -> None:
    self.total += int(chosen.sum())
    added = np.stack([distance, first, second], -1)[chosen]
    pairs = np.concatenate([self._pairs, added])
    self._pairs = pairs[np.lexsort(pairs.T[::-1])][: self._limit]

  def nearest(self) -> list[tuple[int, int, float]]:
    return [(int(first), int(second), distance) for distance, first, second in self._pairs.tolist()]


class _SubjectPairs:
  """Collects pairs of subjects with the number and the nearest of their face pairs.

  Attributes:
    found: (subject, subject) -> ((first, second, distance) of the nearest pair, number of pairs).
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
    # The first occurrence of each pair of subjects is its nearest.
    pairs, first_at, counts = np.unique(codes, axis=0, return_index=True, return_counts=True)
    for (one, other), at, count in zip(pairs, order[first_at], counts, strict=True):
      key = (str(self._names[one]), str(self._names[other]))
      nearest, number = (int(first[at]), int(second[at]), float(distance[at])), int(count)
      if key in self.found:
        earlier, earlier_number = self.found[key]
        nearest = min(earlier, nearest, key=lambda pair: pair[2])
        number += earlier_number
      self.found[key] = (nearest, number)
