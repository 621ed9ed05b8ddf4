"""Tests of near-duplicate detection on synthetic descriptors and on images."""

import collections
import json

import cv2
import numpy as np
import pytest

from jax_me.data.folds import Fold, holdout, leave_one_subject_out
from jax_me.data.index import make_index, read_index
from jax_me.datasets.catalog import prepare
from jax_me.datasets.quality import face_descriptors, near_duplicates
from jax_me.datasets.quality.face_descriptors import describe_dataset
from jax_me.datasets.quality.near_duplicates import (
  IDENTICAL_DISTANCE,
  SAME_PERSON_DISTANCE,
  compare_faces,
  fold_sides,
)
from jax_me.datasets.synthetic import clip_rendering
from jax_me.faces.image_files import read_image


def index_of(rows):
  """Index from (subject, split) rows."""
  return make_index(
    ["sad", "glad"],
    [
      {"subject": subject, "split": split, "file": f"{number}.png", "label": number % 2}
      for number, (subject, split) in enumerate(rows)
    ],
  )


def descriptors_at(*distances):
  """Descriptors at the given positions on a line."""
  descriptors = np.zeros((len(distances), 128), np.float32)
  descriptors[:, 3] = distances
  return descriptors


def pairs(rows, kind):
  return [(row["first_position"], row["second_position"]) for row in rows if row["kind"] == kind]


def test_fold_sides():
  index = index_of([("a", "train"), ("a", "train"), ("b", "test"), ("c", "val")])
  assert list(fold_sides(index)) == ["train", "train", "test", "val"]
  one = Fold("x", np.array([0, 1]), np.array([2]))
  assert list(fold_sides(index, [one])) == ["train", "train", "test", ""]
  assert list(fold_sides(index, leave_one_subject_out(index))) == ["a", "a", "b", "c"]
  part = [Fold("x", np.array([0, 1]), np.array([2])), Fold("y", np.array([0, 1, 2]), np.array([3]))]
  assert list(fold_sides(index, part)) == ["train", "train", "x", "y"]
  with pytest.raises(ValueError, match="x: some test examples are tested by another"):
    fold_sides(index, [one, one])


def test_unknown_subjects_are_compared_across_the_splits():
  index = index_of([("", "train"), ("", "train"), ("", "test"), ("", "test"), ("", "test")])
  descriptors = descriptors_at(0.0, 0.01, 0.05, 0.35, 0.9)
  rows = compare_faces(index, descriptors, fold_sides(index))
  assert pairs(rows, "near_identical") == [(1, 2), (0, 2)]  # the nearest first; not 0 and 1
  assert pairs(rows, "one_person") == [(1, 3), (0, 3)]
  first = rows[0]
  assert first["distance"] == pytest.approx(0.04)
  assert first["first"] == "1.png" and first["second"] == "2.png"
  assert first["first_side"] == "train" and first["second_side"] == "test"
  assert first["first_label"] == "glad" and first["second_label"] == "sad"
  assert len({tuple(row) for row in rows}) == 1  # all have the same keys
  json.dumps(rows)


def test_subjects_that_look_like_one_person_are_one_row():
  subjects = ["a", "a", "b", "b", "b", "c"]
  index = index_of([(name, "train") for name in subjects])
  descriptors = descriptors_at(0.0, 0.02, 0.2, 0.25, 0.45, 3.0)
  rows = compare_faces(index, descriptors, fold_sides(index, leave_one_subject_out(index)))
  assert [row["kind"] for row in rows] == ["one_person"]
  assert pairs(rows, "one_person") == [(1, 2)]
  assert rows[0]["pairs"] == 4 and rows[0]["of"] == 6
  assert (rows[0]["first_subject"], rows[0]["second_subject"]) == ("a", "b")


def test_folds_with_known_subjects():
  index = index_of([("a", "train"), ("b", "train"), ("c", "train"), ("c", "train")])
  descriptors = descriptors_at(0.0, 0.05, 5.0, 5.0)
  both_in_training = Fold("x", np.array([0, 1]), np.array([2, 3]))
  rows = compare_faces(index, descriptors, fold_sides(index, [both_in_training]))
  assert pairs(rows, "near_identical") == []  # both are in training
  assert pairs(rows, "one_person") == [(0, 1)]  # still two subjects
  separated = Fold("x", np.array([0, 2, 3]), np.array([1]))
  rows = compare_faces(index, descriptors, fold_sides(index, [separated]))
  assert pairs(rows, "near_identical") == [(0, 1)]


def test_same_names_in_two_databases_are_two_subjects():
  same = {"subject": "1", "split": "train"}
  index = make_index(["x"], [{**same, "database": base} for base in ("casme2", "samm")])
  found = compare_faces(index, descriptors_at(0, 0.3), fold_sides(index))
  assert pairs(found, "one_person") == [(0, 1)]
  assert found[0]["first_subject"] == "casme2/1"


def test_images_without_a_face_are_listed_and_not_compared():
  index = index_of([("", "train"), ("", "test"), ("", "test")])
  descriptors = descriptors_at(0, 0, 0)
  descriptors[1] = np.nan
  rows = compare_faces(index, descriptors, fold_sides(index))
  assert pairs(rows, "near_identical") == [(0, 2)]
  assert [(row["first"], row["distance"]) for row in rows if row["kind"] == "no_face"] == [
    ("1.png", None)
  ]


def test_blocks_give_the_same_pairs_as_one_comparison(monkeypatch):
  rng = np.random.default_rng(0)
  count = 90
  index = index_of(
    [(rng.choice(["", "a", "b", "c"]), rng.choice(["train", "test"])) for _ in range(count)]
  )
  centers = rng.integers(0, 12, (count, 1)) * 0.2
  descriptors = (centers + rng.normal(0, 0.02, (count, 128))).astype("f4")
  thresholds = {"identical_distance": 0.3, "same_person_distance": 0.35}
  whole = compare_faces(index, descriptors, fold_sides(index), **thresholds)
  monkeypatch.setattr(near_duplicates, "BLOCK_SIZE", 7)
  assert compare_faces(index, descriptors, fold_sides(index), **thresholds) == whole
  distance = np.linalg.norm(descriptors[:, None].astype(float) - descriptors[None], axis=-1)
  across = index.split[:, None] != index.split[None]
  expected = set(zip(*np.nonzero(np.triu(across & (distance <= 0.3), 1)), strict=True))
  assert set(pairs(whole, "near_identical")) == expected and expected


def test_only_the_most_serious_are_listed(caplog):
  index = index_of([("", "train")] * 5 + [("", "test")] * 5)
  descriptors = descriptors_at(*np.linspace(0, 0.01, 5), *np.linspace(0.02, 0.05, 5))
  rows = compare_faces(index, descriptors, fold_sides(index), limit=3)
  assert pairs(rows, "near_identical") == [(4, 5), (3, 5), (2, 5)]
  assert "25 near-identical pairs; only the 3 most serious" in caplog.text


def test_bad_arguments():
  index = index_of([("", "train")])
  with pytest.raises(ValueError, match="1 examples need as many descriptors and sides, got 2"):
    compare_faces(index, descriptors_at(0, 1), fold_sides(index))
  with pytest.raises(ValueError, match="0 or more"):
    compare_faces(index, descriptors_at(0), fold_sides(index), identical_distance=-1)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
  """Two synthetic faces in train; in test, a cropped JPEG copy of one, and an image of a wall."""
  folder = tmp_path_factory.mktemp("photographs")
  first, second = (clip_rendering.demo_clip(0, person, 0).frame(0) for person in (0, 3))
  wall = np.random.default_rng(0).integers(90, 130, first.shape).astype(np.uint8)
  cropped = first[9:-4, 6:-11]
  files = {
    "train/sad/one.png": first,
    "train/glad/other.png": second,
    "test/sad/copy.jpg": cropped,
    "test/glad/wall.png": wall,
  }
  for name, image in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image[..., ::-1])[1].tobytes())
  return prepare(
    "labeled_images",
    data_dir=str(tmp_path_factory.mktemp("data")),
    manual_dir=str(folder),
    align=False,
    workers=0,
  )


def test_a_copy_is_found_and_another_person_is_not(photographs):
  rows = near_duplicates.near_duplicates(photographs, workers=0)
  # The synthetic faces are warps of one portrait: they are similar, at a distance of 0.4 and more.
  found = collections.Counter((row["kind"], row["first"], row["second"]) for row in rows)
  assert found["near_identical", "train/sad/one.png", "test/sad/copy.jpg"] == 1
  assert [row["kind"] for row in rows].count("near_identical") == 1
  assert found["no_face", "test/glad/wall.png", ""] == 1
  index = read_index(photographs, "train+test")
  again = near_duplicates.near_duplicates(photographs, [holdout(index, 0.5)], workers=0)
  assert {row["first_side"] for row in again} <= {"train", "test"}


def test_descriptors_are_cached_and_resumed(photographs, monkeypatch):
  expected = describe_dataset(photographs, "train+test", workers=0)
  assert expected.shape == (4, 128) and expected.dtype == np.float32
  calls = []
  describe_face = face_descriptors.describe_face
  monkeypatch.setattr(
    face_descriptors, "describe_face", lambda image: (calls.append(1), describe_face(image))[1]
  )
  np.testing.assert_array_equal(describe_dataset(photographs, "train+test", workers=0), expected)
  assert not calls
  cached = photographs.data_path / "face_descriptors-train.npy"
  cached.write_bytes(cached.read_bytes()[:-7])  # damaged: computed again
  rows = describe_dataset(photographs, "train", workers=0)
  np.testing.assert_array_equal(rows, expected[:2])
  assert len(calls) == 2
  # Partial file of a killed run: one row, and half of the next.
  cached.unlink()
  partial = photographs.data_path / ".face_descriptors-train.partial"
  partial.write_bytes(expected[:2].tobytes()[: 4 * 128 + 100])
  np.testing.assert_array_equal(describe_dataset(photographs, "train", workers=0), expected[:2])
  assert len(calls) == 3 and not partial.exists()


def test_motion_images_are_refused(tmp_path):
  builder = prepare("demo_clips", data_dir=str(tmp_path), subjects=1, clips=1, size=48, workers=0)
  with pytest.raises(ValueError, match=r"show motion \(flow\).*input='apex'"):
    describe_dataset(builder)


def test_thresholds_on_london_faces(london_faces):
  subjects = [f"{number:03d}" for number in (1, 2, 4, 5)]
  paths = [
    london_faces / "images" / f"{name}_{kind}.jpg"
    for name in subjects
    for kind in ("happy", "neutral")
  ]
  images = [read_image(path) for path in paths if path.is_file()]
  copies = [
    read_image(
      cv2.imencode(".jpg", image[40:, 30:, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()
    )
    for image in images[::2]
  ]
  found = np.stack([face_descriptors.describe_face(image) for image in images + copies])
  distance = np.linalg.norm(found[:, None] - found[None], axis=-1)
  count = len(images)
  originals = np.arange(0, count, 2)
  assert distance[originals, np.arange(count, len(found))].max() <= IDENTICAL_DISTANCE
  smiling = distance[originals, originals + 1]
  assert IDENTICAL_DISTANCE < smiling.min() and smiling.max() <= SAME_PERSON_DISTANCE
  person = np.arange(count) // 2
  others = distance[:count, :count][person[:, None] != person]
  assert others.min() > SAME_PERSON_DISTANCE
