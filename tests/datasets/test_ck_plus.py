"""Tests of the ck_plus builder on generated sequences with the release's layout and defects."""

import pathlib

import pytest

from jax_me.data import folds
from jax_me.data.index import read_index
from jax_me.datasets.ck_plus import annotations
from tests.helpers.built_datasets import build, details, draw, known, labels, problems, stored

# (subject, clip, code or None, number of frames)
SEQUENCES = [
  ("S005", "001", 3, 5),
  ("S010", "001", None, 4),
  ("S010", "002", 7, 4),
  ("S011", "001", 1, 4),
  ("S999", "003", 2, 4),
]


def write_release(
  folder: pathlib.Path,
  images: str = "cohn-kanade-images",
  emotion: str = "Emotion",
) -> None:
  """Writes grey and colour frames, and a label folder per sequence, some of them empty."""
  for number, (subject, clip, code, frames) in enumerate(SEQUENCES):
    sequence = folder / images / subject / clip
    for frame in range(1, frames + 1):
      name = f"{subject}_{clip}_{frame:08d}.png"
      draw(sequence / name, 100 * number + frame, mode="RGB" if subject == "S999" else "L")
    (sequence / ".DS_Store").write_bytes(b"x")
    label = folder / emotion / subject / clip
    label.mkdir(parents=True)
    if code is not None:
      name = f"{subject}_{clip}_{frames:08d}_emotion.txt"
      (label / name).write_text(f"   {code:.7e}\n")
  for root in (images, emotion):
    (folder / root / ".DS_Store").write_bytes(b"x")
    (folder / root / "S005" / ".DS_Store").write_bytes(b"x")


def test_last_frames_get_the_label(tmp_path):
  write_release(tmp_path / "source")
  builder = build("ck_plus", tmp_path)
  names = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
  assert builder.labels == names
  found = labels(builder)
  assert [file for file, label in found.items() if label == "disgust"] == [
    f"S005/001/S005_001_0000000{frame}.png" for frame in (3, 4, 5)
  ]
  assert (
    list(found.values()) == ["disgust"] * 3 + ["surprise"] * 3 + ["anger"] * 3 + ["contempt"] * 3
  )
  index = read_index(builder)
  columns = (index.subject, index.clip, index.frame, index.onset, index.apex)
  assert [column[0] for column in columns] == ["S005", "001", 3, 1, 5]
  assert problems(builder) == [("S010/001", "no_expression")]
  assert known(builder)["train", "surprise"] == (3 * 83, 3, 3)
  images = tmp_path / "source" / "cohn-kanade-images"
  for file, data in stored(builder).items():
    assert data == (images / file).read_bytes()


def test_first_frame_as_neutral_and_one_peak(tmp_path):
  write_release(tmp_path / "source")
  builder = build("ck_plus", tmp_path, peak_frames=1, neutral_first=True)
  assert builder.labels[0] == "neutral" and len(builder.labels) == 8
  assert list(labels(builder).items())[:4] == [
    ("S005/001/S005_001_00000001.png", "neutral"),
    ("S005/001/S005_001_00000005.png", "disgust"),
    ("S010/002/S010_002_00000001.png", "neutral"),
    ("S010/002/S010_002_00000004.png", "surprise"),
  ]
  assert known(builder)["train", "neutral"] == (327, 4, 4)
  without = build("ck_plus", tmp_path, peak_frames=1, neutral_first=True, contempt=False)
  assert len(without.labels) == 7 and "contempt" not in without.labels
  assert ("S999/003", "other_label") in problems(without)
  assert known(without)["train", "neutral"] == (309, 3, 3)


def test_folders_nested_as_in_the_archives(tmp_path):
  write_release(
    tmp_path / "source" / "CK+",
    "extended-cohn-kanade-images/cohn-kanade-images",
    "Emotion_labels/Emotion",
  )
  assert len(labels(build("ck_plus", tmp_path))) == 12


def test_every_defect_is_reported(tmp_path):
  write_release(tmp_path / "source")
  images = tmp_path / "source" / "cohn-kanade-images"
  emotion = tmp_path / "source" / "Emotion"
  (emotion / "S010" / "001" / "S010_001_00000004_emotion.txt").write_text("happy")
  (emotion / "S011" / "001" / "S011_001_00000004_emotion.txt").write_text("   0.0000000e+00\n")
  (emotion / "S010" / "002" / "S010_002_00000003_emotion.txt").write_text("   5.0000000e+00\n")
  (emotion / "S010" / "002" / "._S010_002_00000004_emotion.txt").write_bytes(b"macOS resource fork")
  (emotion / "S500" / "001").mkdir(parents=True)
  (emotion / "S500" / "001" / "S500_001_00000009_emotion.txt").write_text("   5.0000000e+00\n")
  (emotion / "S500" / "002").mkdir()
  (images / "S999" / "003" / "S999_003_00000004.png").write_bytes(b"\x89PNG and no more")
  for frame in (1, 2):
    (images / "S999" / "003" / f"S999_003_0000000{frame}.png").unlink()
  (images / "S005" / "001" / "copy_00000005.png").write_bytes(b"x")
  builder = build("ck_plus", tmp_path)
  assert problems(builder) == [
    ("S005/001/copy_00000005.png", "unexpected_name"),
    ("S010/001", "bad_annotation"),
    ("S010/002", "bad_annotation"),
    ("S011/001", "bad_annotation"),
    ("S500/001", "missing"),
    ("S999/003", "few_frames"),
    ("S999/003/S999_003_00000004.png", "unreadable"),
  ]
  detail_of = details(builder)
  assert detail_of["S010/001"] == "'happy' is not a number"
  assert detail_of["S011/001"] == "'0.0000000e+00' is not a code from 1 to 7"
  assert detail_of["S010/002"].startswith("labels differ (S010_002_00000003_emotion.txt: 5")
  assert labels(builder)["S999/003/S999_003_00000003.png"] == "contempt"


def test_missing_folders_name_the_archive_to_unpack(tmp_path):
  write_release(tmp_path / "source")
  (tmp_path / "source" / "Emotion").rename(tmp_path / "elsewhere")
  for archive in ("Emotion_labels.zip", "extended-cohn-kanade-images.zip"):
    (tmp_path / "source" / archive).write_bytes(b"PK")
  with pytest.raises(ValueError, match="no folder Emotion .*unpack Emotion_labels.zip first"):
    build("ck_plus", tmp_path)
  (tmp_path / "source" / "cohn-kanade-images").rename(tmp_path / "images")
  with pytest.raises(ValueError, match="unpack extended-cohn-kanade-images.zip first"):
    build("ck_plus", tmp_path)
  with pytest.raises(ValueError, match="peak_frames of CK\\+ must be at least 1"):
    build("ck_plus", tmp_path, peak_frames=0)


def test_frames_are_selected_by_number():
  frames = tuple((number, f"f{number}") for number in (1, 2, 10, 11))
  sequence = annotations.LabeledSequence("S1", "1", "fear", frames)
  selected = annotations.select_frames(sequence, 3, True)
  assert [(image.file, image.label) for image in selected] == [
    ("f1", "neutral"),
    ("f2", "fear"),
    ("f10", "fear"),
    ("f11", "fear"),
  ]
  # The first frame is never stored twice, and the last one is always a peak.
  short = annotations.select_frames(sequence._replace(frames=frames[:2]), 3, True)
  assert [image.label for image in short] == ["neutral", "fear"]
  one = annotations.select_frames(sequence._replace(frames=frames[:1]), 3, True)
  assert [image.label for image in one] == ["fear"]


@pytest.mark.parametrize("text", ["3", "   3.0000000e+00\n", "3.0"])
def test_labels_are_floating_point_text(text):
  assert annotations.parse_code(text) == 3


@pytest.mark.parametrize("text", ["", "0", "8", "2.5", "nan"])
def test_invalid_labels_are_refused(text):
  with pytest.raises(ValueError, match="is not a number|is not a code"):
    annotations.parse_code(text)


def test_step_folds_test_every_nth_subject(tmp_path):
  write_release(tmp_path / "source")
  index = read_index(build("ck_plus", tmp_path))
  tested = [sorted(set(index.subject[fold.test])) for fold in folds.step_folds(index, 2)]
  assert tested == [["S005", "S011"], ["S010", "S999"]]
