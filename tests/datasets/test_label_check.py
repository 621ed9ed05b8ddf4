"""Labels and people of a folder that cannot be right."""

import pytest

from jax_me.datasets.labeled_folder.label_check import check_labels


def write_labels(folder, rows, columns="file,label,subject"):
  lines = [columns]
  for number, row in enumerate(rows):
    (folder / f"{number}.png").write_bytes(b"")  # Only the names matter.
    lines.append(f"{number}.png,{row}")
  (folder / "labels.csv").write_text("\n".join(lines))
  return folder


def people(*labels):
  """A row for each label and for each of four people, as "label,subject"."""
  return [f"{label},p{person}" for label in labels for person in range(4)]


def test_usual_folders_are_accepted(tmp_path):
  check_labels(write_labels(tmp_path, people("happy", "neutral")), people=4)
  # A rare label that resembles no other is no misspelling.
  check_labels(write_labels(tmp_path, [*people("happy", "neutral"), "fear,p1"]))
  # Without subjects, people are not counted.
  check_labels(write_labels(tmp_path, ["a", "b"], "file,label"), people=5)


def test_one_class_is_refused(tmp_path):
  folder = write_labels(tmp_path, people("happy"))
  with pytest.raises(ValueError, match=r"has one class only \(happy\), and a classifier"):
    check_labels(folder)
  folder = write_labels(tmp_path, people("happy", "neutral"))
  with pytest.raises(ValueError, match=r"has one class only \(neutral\)"):
    check_labels(folder, labels=["neutral"])


def test_class_folders_with_one_class_are_refused(tmp_path):
  for name in ("1.png", "2.png"):
    (tmp_path / "happy").mkdir(exist_ok=True)
    (tmp_path / "happy" / name).write_bytes(b"")
  with pytest.raises(ValueError, match="has one class only"):
    check_labels(tmp_path)


def test_too_few_people_are_refused(tmp_path):
  folder = write_labels(tmp_path, ["happy,a", "neutral,a", "happy,a"])
  with pytest.raises(ValueError, match="has images of one person only, and the split needs 2"):
    check_labels(folder, people=2)
  check_labels(folder)
  folder = write_labels(tmp_path, ["happy,a", "neutral,b", "happy,b"])
  with pytest.raises(ValueError, match="has images of 2 people only, and the split needs 5"):
    check_labels(folder, people=5)


def test_a_label_that_may_be_a_misspelling_is_refused(tmp_path):
  folder = write_labels(tmp_path, [*people("smirk", "neutral"), "smrik,p1"])
  with pytest.raises(ValueError, match="the label 'smrik' occurs once") as error:
    check_labels(folder)
  assert "beside 4 times 'smirk'" in str(error.value) and "(8.png)" in str(error.value)
  assert "--labels neutral,smirk" in str(error.value) and "\n" not in str(error.value)
  check_labels(folder, allow_rare=True)
  check_labels(folder, labels=["smirk", "neutral"])
  # Twice is meant.
  check_labels(write_labels(tmp_path, [*people("smirk", "neutral"), "smrik,p1", "smrik,p2"]))


def test_the_frames_of_a_clip_are_one_occurrence(tmp_path):
  rows = [f"smirk,p{person},{clip}" for person in range(3) for clip in "ab"]
  rows += ["neutral,p1,c", *["smrik,p1,d"] * 3]
  with pytest.raises(ValueError, match="the label 'smrik' occurs once"):
    check_labels(write_labels(tmp_path, rows, "file,label,subject,clip"))
