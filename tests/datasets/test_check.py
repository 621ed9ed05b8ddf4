"""Tests of the dataset check: damage, leakage, duplicates, class counts."""

import functools
import json
import pathlib
import types

import pytest

from jax_me.data import folds
from jax_me.datasets.built_datasets import DamagedDataset
from jax_me.datasets.quality import check
from jax_me.manifest import write_manifest
from tests.helpers.drawn_folder import build_folder

# Face descriptors are slow, and generated images have no faces.
check_dataset = functools.partial(check.check_dataset, faces=False)

SUBJECTS = "file,label,subject"
SPLITS = "file,label,subject,split"


def rows(subjects: int = 3) -> list[dict]:
  return [
    {"label": label, "subject": f"p{subject}"}
    for subject in range(subjects)
    for label in ("calm", "glad")
  ]


def texts(result, level: str, topic: str | None = None) -> list[str]:
  return [f.text for f in result.findings if f.level == level and topic in (None, f.topic)]


def test_dataset_without_faults_is_valid(tmp_path):
  result = check_dataset(build_folder(tmp_path, rows(), SUBJECTS))
  assert result.valid and not texts(result, "error") and not texts(result, "warning")
  assert "all 6 records decode, 16x20 pixels" in texts(result, "ok", "records")
  assert (
    "loso: 3 folds; each fold trains on 4 examples and tests 2; 6 are tested"
    in texts(result, "ok", "folds")[0]
  )
  assert result.classes == [
    {"split": "train", "class": "calm", "examples": 3, "subjects": 3},
    {"split": "train", "class": "glad", "examples": 3, "subjects": 3},
  ]
  assert json.loads(json.dumps(result.as_json()))["valid"] is True


def test_one_image_of_two_subjects_crosses_folds(tmp_path):
  copied = [*rows(), {"label": "calm", "subject": "p9", "drawn": 0}]
  result = check_dataset(build_folder(tmp_path, copied, SUBJECTS))
  assert not result.valid
  (error,) = texts(result, "error")
  assert "1 images are in both training and test" in error and "0.png" in error and "6.png" in error


def test_copies_of_one_subject_are_notes_and_two_labels_a_warning(tmp_path):
  copied = [*rows(), {"label": "glad", "subject": "p0", "drawn": 0}]
  result = check_dataset(build_folder(tmp_path, copied, SUBJECTS))
  assert result.valid
  assert "1 source files are copies of another" in texts(result, "note", "duplicates")[0]
  (warning,) = texts(result, "warning", "duplicates")
  assert "two labels" in warning and "calm" in warning and "glad" in warning


def test_official_split_with_a_subject_in_both_sets(tmp_path):
  divided = [{**row, "split": "train" if i < 4 else "test"} for i, row in enumerate(rows())]
  assert check_dataset(build_folder(tmp_path / "valid", divided, SPLITS)).valid
  divided[-1]["subject"] = "p0"
  result = check_dataset(build_folder(tmp_path / "leak", divided, SPLITS))
  assert not result.valid
  assert "1 subjects are in both training and test set: p0" in texts(result, "error", "folds")[0]


def test_copies_across_a_published_split_are_a_warning(tmp_path):
  divided = [
    {"label": label, "split": split, "drawn": drawn}
    for label, split, drawn in (
      ("calm", "train", 0),
      ("glad", "train", 1),
      ("calm", "test", 0),
      ("glad", "test", 2),
      ("glad", "validation", 3),
    )
  ]
  builder = build_folder(tmp_path, divided, "file,label,split")
  result = check_dataset(builder)
  assert result.valid
  assert "the split is the published one" in texts(result, "warning", "duplicates")[0]
  # The fold that training with data.split=official uses.
  (text,) = texts(result, "ok", "folds")
  assert "trains on 2 examples (train), tests 2 (test); validation (1) is not used" in text
  (text,) = texts(check_dataset(builder, train_splits=("train", "validation")), "ok", "folds")
  assert "trains on 3 examples (train + validation), tests 2 (test); no example" in text
  # In folds of our own the same copy is a leak.
  assert check_dataset(builder, rule="kfold", folds=5).valid is False


def test_split_rule_that_cannot_be_applied(tmp_path):
  builder = build_folder(tmp_path, [{"label": n} for n in ("calm", "glad", "calm")], "file,label")
  result = check_dataset(builder, rule="loso")
  assert not result.valid and "needs subjects" in texts(result, "error", "folds")[0]
  assert "subjects are unknown" in texts(check_dataset(builder, folds=2), "warning", "folds")[0]
  with pytest.raises(ValueError, match="official, loso"):
    check_dataset(builder, rule="random")


def test_all_split_rules(tmp_path):
  made = [{**row, "database": "DE"[i % 2], "split": "train"} for i, row in enumerate(rows(4))]
  builder = build_folder(tmp_path, made, "file,label,subject,database,split")
  for rule in set(folds.RULES) - {"official"}:
    (text,) = texts(check_dataset(builder, rule=rule, folds=2), "ok", "folds")
    assert (
      text.startswith(f"{rule}: ") and "no example or subject is in both training and test" in text
    )


def test_class_with_a_single_subject(tmp_path):
  alone = [*rows(), {"label": "odd", "subject": "p0"}]
  result = check_dataset(build_folder(tmp_path, alone, SUBJECTS))
  assert result.valid
  assert "all 1 examples of odd are of one subject" in texts(result, "warning", "classes")[0]
  assert texts(result, "warning", "folds") == ["folds whose training set lacks a class: p0 (odd)"]


def test_published_counts(tmp_path):
  builder = build_folder(tmp_path, rows(), SUBJECTS)
  path = pathlib.Path(builder.data_path) / "summary.json"
  summary = json.loads(path.read_text())
  known = {"split": "train", "class": "calm", "expected": 4, "found": 3, "stored": 3}
  summary["known_counts"] = [known, {**known, "class": "glad", "expected": 3}]
  path.write_text(json.dumps(summary))
  write_manifest(path.parent)
  result = check_dataset(builder)
  assert result.valid and result.counts[0] == known
  assert texts(result, "warning", "counts") == [
    "1 of 2 class counts differ from the published ones (see table)"
  ]


def test_records_that_differ_from_the_index(tmp_path):
  builder = build_folder(tmp_path, rows(), SUBJECTS)
  path = pathlib.Path(builder.data_path) / "index-train.jsonl"
  lines = path.read_text().splitlines()
  path.write_text("\n".join([*lines[1::-1], *lines[2:]]) + "\n")
  write_manifest(path.parent)
  result = check_dataset(builder)
  assert not result.valid
  (error,) = texts(result, "error")
  assert "2 records differ from the index" in error and "label, file" in error


@pytest.mark.parametrize("damage", ["shard", "record", "index", "row", "summary", "manifest"])
def test_damage_is_reported_in_one_line(tmp_path, damage):
  builder = build_folder(tmp_path, rows(), SUBJECTS)
  folder = pathlib.Path(builder.data_path)
  (shard,) = folder.glob("*array_record*")
  index = folder / "index-train.jsonl"
  if damage == "shard":
    shard.write_bytes(shard.read_bytes()[:1000])
  elif damage == "record":  # The size is the same.
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
  elif damage == "manifest":
    (folder / "manifest.json").unlink()
  elif damage == "index":
    index.unlink()
  elif damage == "row":
    index.write_text("\n".join(index.read_text().splitlines()[:-1]) + "\n")
  else:
    (folder / "summary.json").write_text("{")
  with pytest.raises(DamagedDataset, match="delete .* and build it again") as caught:
    check_dataset(builder)
  assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_an_index_shorter_than_its_shards_is_found_without_checksums(tmp_path):
  builder = build_folder(tmp_path, rows(), SUBJECTS)
  folder = pathlib.Path(builder.data_path)
  index = folder / "index-train.jsonl"
  index.write_text("\n".join(index.read_text().splitlines()[:-1]) + "\n")
  write_manifest(folder)
  with pytest.raises(DamagedDataset, match=r"index-train.jsonl has \d+ rows, but the split has"):
    check_dataset(builder)


def test_faces_are_compared_unless_there_are_many_images(tmp_path, monkeypatch):
  builder = build_folder(tmp_path, rows(), SUBJECTS)
  seen = []

  def compare(builder, folds, **settings):
    seen.append((len(folds), settings["split"], settings["workers"]))
    names = {"first": "0.png", "second": "2.png"}
    return [
      {"kind": "near_identical", "distance": 0.05, "pairs": 1, "of": 1, **names},
      {"kind": "one_person", "distance": 0.3, "pairs": 4, "of": 4, **names},
      {"kind": "one_person", "distance": 0.39, "pairs": 1, "of": 4, **names},  # chance similarity
      {"kind": "no_face", "distance": None, "pairs": 0, "of": 0, **names},
    ]

  monkeypatch.setattr(check, "near_duplicates", compare)
  result = check.check_dataset(builder, workers=0)
  assert seen == [(3, "train", 0)] and len(result.faces) == 4
  copies, person = texts(result, "warning", "faces")
  assert "nearly identical images" in copies and "0.png and 2.png, distance 0.05" in copies
  assert "look like one person: 1 (first" in person
  assert "no face found in 1 images" in texts(result, "note", "faces")[0]

  monkeypatch.setattr(check, "MAX_IMAGES_FOR_FACES", 5)
  assert "use --faces" in texts(check.check_dataset(builder), "note", "faces")[0]
  assert "disabled" in texts(check_dataset(builder), "note", "faces")[0]
  assert len(check.check_dataset(builder, faces=True).faces) == 4


def test_motion_images_are_not_compared(tmp_path):
  builder = build_folder(tmp_path, rows(), SUBJECTS)
  builder.config.options = types.SimpleNamespace(input="flow")
  result = check.check_dataset(builder)
  assert result.faces == [] and "show motion" in texts(result, "note", "faces")[0]
