"""What the check of a dataset finds: damage, leaks, duplicates, numbers other than published."""

import functools
import json
import pathlib
import types

import pytest

from jax_me.data import folds
from jax_me.datasets.built_datasets import DamagedDataset
from jax_me.datasets.quality import check
from tests.helpers.drawn_folder import build_folder

# Describing faces takes time, and drawn pictures have none.
check_dataset = functools.partial(check.check_dataset, faces=False)

SUBJECTS = "file,label,subject"
SPLITS = "file,label,subject,split"


def rows(people: int = 3) -> list[dict]:
  return [
    {"label": label, "subject": f"p{person}"}
    for person in range(people)
    for label in ("calm", "glad")
  ]


def texts(result, level: str, topic: str | None = None) -> list[str]:
  return [f.text for f in result.findings if f.level == level and topic in (None, f.topic)]


def test_a_sound_dataset_is_valid(tmp_path):
  result = check_dataset(build_folder(tmp_path, rows(), SUBJECTS))
  assert result.valid and not texts(result, "error") and not texts(result, "warning")
  assert "all 6 records decode, 16x20 pixels" in texts(result, "ok", "records")
  assert "loso: 3 folds, 2 examples tested" in texts(result, "ok", "folds")[0]
  assert result.classes == [
    {"split": "train", "class": "calm", "examples": 3, "subjects": 3},
    {"split": "train", "class": "glad", "examples": 3, "subjects": 3},
  ]
  assert json.loads(json.dumps(result.as_json()))["valid"] is True


def test_one_picture_under_two_people_crosses_folds(tmp_path):
  copied = [*rows(), {"label": "calm", "subject": "p9", "drawn": 0}]
  result = check_dataset(build_folder(tmp_path, copied, SUBJECTS))
  assert not result.valid
  (error,) = texts(result, "error")
  assert "1 pictures stand on both sides" in error and "0.png" in error and "6.png" in error


def test_copies_of_one_person_do_no_harm_but_two_labels_are_told(tmp_path):
  copied = [*rows(), {"label": "glad", "subject": "p0", "drawn": 0}]
  result = check_dataset(build_folder(tmp_path, copied, SUBJECTS))
  assert result.valid
  assert "1 source files have the bytes of another" in texts(result, "note", "duplicates")[0]
  (warning,) = texts(result, "warning", "duplicates")
  assert "two labels" in warning and "calm" in warning and "glad" in warning


def test_official_division_with_a_person_on_both_sides(tmp_path):
  divided = [{**row, "split": "train" if i < 4 else "test"} for i, row in enumerate(rows())]
  assert check_dataset(build_folder(tmp_path / "sound", divided, SPLITS)).valid
  divided[-1]["subject"] = "p0"
  result = check_dataset(build_folder(tmp_path / "leak", divided, SPLITS))
  assert not result.valid
  assert "1 subjects are trained on and tested: p0" in texts(result, "error", "folds")[0]


def test_copies_across_a_published_division_are_only_told(tmp_path):
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
  assert "the division is the published one" in texts(result, "warning", "duplicates")[0]
  assert "official: 2 folds, 1 to 2 examples tested" in texts(result, "ok", "folds")[0]
  # Divided by us, the same copy would be a leak of ours.
  assert check_dataset(builder, rule="kfold", folds=5).valid is False


def test_a_rule_that_cannot_be_followed(tmp_path):
  builder = build_folder(tmp_path, [{"label": n} for n in ("calm", "glad", "calm")], "file,label")
  result = check_dataset(builder, rule="loso")
  assert not result.valid and "needs subjects" in texts(result, "error", "folds")[0]
  assert "no subjects are known" in texts(check_dataset(builder, folds=2), "warning", "folds")[0]
  with pytest.raises(ValueError, match="official, loso"):
    check_dataset(builder, rule="random")


def test_every_rule_is_followed(tmp_path):
  made = [{**row, "database": "DE"[i % 2], "split": "train"} for i, row in enumerate(rows(4))]
  builder = build_folder(tmp_path, made, "file,label,subject,database,split")
  for rule in set(folds.RULES) - {"official"}:
    (text,) = texts(check_dataset(builder, rule=rule, folds=2), "ok", "folds")
    assert text.startswith(f"{rule}: ") and "no subject stands on both sides" in text


def test_a_class_of_one_person(tmp_path):
  alone = [*rows(), {"label": "odd", "subject": "p0"}]
  result = check_dataset(build_folder(tmp_path, alone, SUBJECTS))
  assert result.valid
  assert "all 1 examples of odd show one person" in texts(result, "warning", "classes")[0]
  assert texts(result, "warning", "folds") == ["folds that train without a class: p0 (odd)"]


def test_published_numbers(tmp_path):
  builder = build_folder(tmp_path, rows(), SUBJECTS)
  path = pathlib.Path(builder.data_path) / "summary.json"
  summary = json.loads(path.read_text())
  known = {"split": "train", "class": "calm", "expected": 4, "found": 3, "stored": 3}
  summary["known_counts"] = [known, {**known, "class": "glad", "expected": 3}]
  path.write_text(json.dumps(summary))
  result = check_dataset(builder)
  assert result.valid and result.counts[0] == known
  assert texts(result, "warning", "counts") == [
    "1 of 2 classes differ from the published numbers (table)"
  ]


def test_index_and_records_that_disagree(tmp_path):
  builder = build_folder(tmp_path, rows(), SUBJECTS)
  path = pathlib.Path(builder.data_path) / "index-train.jsonl"
  lines = path.read_text().splitlines()
  path.write_text("\n".join([*lines[1::-1], *lines[2:]]) + "\n")
  result = check_dataset(builder)
  assert not result.valid
  (error,) = texts(result, "error")
  assert "2 records say something else than the index" in error and "label, file" in error


@pytest.mark.parametrize("damage", ["shard", "index", "row", "summary"])
def test_damage_is_one_clear_line(tmp_path, damage):
  builder = build_folder(tmp_path, rows(), SUBJECTS)
  folder = pathlib.Path(builder.data_path)
  (shard,) = folder.glob("*array_record*")
  index = folder / "index-train.jsonl"
  if damage == "shard":
    shard.write_bytes(shard.read_bytes()[:1000])
  elif damage == "index":
    index.unlink()
  elif damage == "row":
    index.write_text("\n".join(index.read_text().splitlines()[:-1]) + "\n")
  else:
    (folder / "summary.json").write_text("{")
  with pytest.raises(DamagedDataset, match="delete that folder and build it again") as caught:
    check_dataset(builder)
  assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_faces_are_compared_unless_there_are_many(tmp_path, monkeypatch):
  builder = build_folder(tmp_path, rows(), SUBJECTS)
  seen = []

  def compare(builder, folds, **settings):
    seen.append((len(folds), settings["split"], settings["workers"]))
    names = {"first": "0.png", "second": "2.png"}
    return [
      {"kind": "near_identical", "distance": 0.05, "pairs": 1, "of": 1, **names},
      {"kind": "one_person", "distance": 0.3, "pairs": 4, "of": 4, **names},
      {"kind": "one_person", "distance": 0.39, "pairs": 1, "of": 4, **names},  # chance
      {"kind": "no_face", "distance": None, "pairs": 0, "of": 0, **names},
    ]

  monkeypatch.setattr(check, "near_duplicates", compare)
  result = check.check_dataset(builder, workers=0)
  assert seen == [(3, "train", 0)] and len(result.faces) == 4
  copies, person = texts(result, "warning", "faces")
  assert "nearly the same picture" in copies and "0.png and 2.png, distance 0.05" in copies
  assert "look like one person, 1 times" in person
  assert "no face found in 1 pictures" in texts(result, "note", "faces")[0]

  monkeypatch.setattr(check, "FEW_PICTURES", 5)
  assert "--faces asks for it" in texts(check.check_dataset(builder), "note", "faces")[0]
  assert "left out" in texts(check_dataset(builder), "note", "faces")[0]
  assert len(check.check_dataset(builder, faces=True).faces) == 4


def test_pictures_of_motion_have_no_faces_to_compare(tmp_path):
  builder = build_folder(tmp_path, rows(), SUBJECTS)
  builder.config.options = types.SimpleNamespace(input="flow")
  result = check.check_dataset(builder)
  assert result.faces == [] and "show motion" in texts(result, "note", "faces")[0]
