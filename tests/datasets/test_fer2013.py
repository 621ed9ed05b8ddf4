"""Tests of the fer2013 builder: both csv variants, generated pixels, unreadable rows."""

import cv2
import numpy as np
import pytest

from jax_me.datasets.fer2013 import annotations
from tests.helpers.built_datasets import build, details, known, labels, problems, report, stored


def pixels(seed: int) -> np.ndarray:
  """uint8 [48, 48], different for every seed."""
  small = np.random.default_rng(seed).integers(0, 256, (6, 6), np.uint8)
  return cv2.resize(small, (48, 48), interpolation=cv2.INTER_NEAREST)


def text(seed: int) -> str:
  return " ".join(map(str, pixels(seed).ravel()))


USAGES = ["Training"] * 7 + ["PublicTest"] * 2 + ["PrivateTest"]


def write_csv(folder, *, end: str = "\n") -> None:
  lines = [f"{number % 7},{text(number)},{usage}" for number, usage in enumerate(USAGES)]
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "fer2013.csv").write_bytes(end.join(["emotion,pixels,Usage", *lines, ""]).encode())


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows_become_grey_images_of_their_split(tmp_path, end):
  write_csv(tmp_path / "source" / "fer2013", end=end)
  builder = build("fer2013", tmp_path)
  names = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
  assert builder.labels == names
  assert labels(builder) == {f"row{n:05d}": name for n, name in enumerate(names)}
  assert labels(builder, "validation") == {"row00007": "anger", "row00008": "disgust"}
  assert labels(builder, "test") == {"row00009": "fear"}
  for number, data in enumerate(stored(builder).values()):
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(image, pixels(number))
  assert problems(builder) == [] and known(builder)["test", "fear"] == (528, 1, 1)


def test_columns_in_another_order_with_spaces_in_their_names(tmp_path):
  (tmp_path / "source").mkdir()
  lines = ["emotion, Usage, pixels", f"3,Training,{text(1)}", f"4, PrivateTest,{text(2)}"]
  (tmp_path / "source" / "icml_face_data.csv").write_text("\ufeff" + "\n".join(lines))
  builder = build("fer2013", tmp_path)
  assert labels(builder) == {"row00000": "happiness"}
  assert labels(builder, "test") == {"row00001": "sadness"}
  assert problems(builder) == [("validation", "missing_split")]
  # The release's own file is used if both are present.
  write_csv(tmp_path / "source")
  assert len(labels(build("fer2013", tmp_path))) == 7


def test_unreadable_rows_are_reported(tmp_path):
  write_csv(tmp_path / "source")
  good = text(50)
  bad = [
    f"0,{good} 7,Training",
    f"0,{good[:200]},Training",
    f"0,{good.replace(good.split()[0], '256', 1)},Training",
    f"0,{good.replace(good.split()[0], 'x', 1)},Training",
    f"7,{good},Training",
    f"happy,{good},Training",
    f"0,{good},Test",
    "0,1",
    "",
    f'0,"{good}",Training',
    f"1,{text(0)},PrivateTest",  # the image of row 0 in another split
  ]
  with (tmp_path / "source" / "fer2013.csv").open("a") as file:
    file.write("\n".join(bad))
  builder = build("fer2013", tmp_path)
  assert problems(builder) == [(f"row{number:05d}", "bad_row") for number in range(10, 18)]
  detail_of = details(builder)
  assert [detail_of[f"row{number:05d}"] for number in range(10, 18)] == [
    "2305 pixels instead of 2304",
    f"{len(good[:200].split())} pixels instead of 2304",
    "a pixel is outside [0, 255]",
    "a pixel is not a whole number",
    "emotion '7' is not a code from 0 to 6",
    "emotion 'happy' is not a code from 0 to 6",
    "unknown usage 'Test'",
    "2 cells instead of 3",
  ]
  assert labels(builder)["row00018"] == "anger"  # blank lines are not counted
  rows = {row["file"]: row for row in report(builder)}
  assert rows["row00019"]["same_content_as"] == "row00000"
  assert known(builder)["train", "anger"] == (3995, 6, 2)


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("fer2013.csv", "emotion,pixels\n0,1", "no column usage; its columns are: emotion, pixels"),
    ("fer2013.csv", "", "no column emotion, pixels, usage; its columns are: none"),
    ("fer2013.tar.gz", "x", "no fer2013.csv or icml_face_data.csv .unpack fer2013.tar.gz first"),
    ("train.csv", "emotion,pixels", "it holds train.csv"),
  ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
  (tmp_path / "source").mkdir()
  (tmp_path / "source" / name).write_text(content)
  with pytest.raises(ValueError, match=message):
    build("fer2013", tmp_path)


def test_rows_of_several_tasks(tmp_path, monkeypatch):
  write_csv(tmp_path / "source")
  monkeypatch.setattr(annotations, "ROWS_PER_TASK", 2)
  expected = [(f"row{n:05d}", annotations.encode_grey(pixels(n))) for n in range(7)]
  assert list(stored(build("fer2013", tmp_path)).items()) == expected


def test_faces_are_aligned_on_request(tmp_path, london_faces):
  photo = cv2.imread(str(london_faces / "images" / "001_happy.jpg"), cv2.IMREAD_GRAYSCALE)
  face = cv2.resize(photo[215:515, 160:460], (48, 48), interpolation=cv2.INTER_AREA)
  (tmp_path / "source").mkdir()
  row = " ".join(map(str, face.ravel()))
  lines = ["emotion,pixels,Usage", f"3,{row},Training", f"0,{text(1)},Training"]
  (tmp_path / "source" / "fer2013.csv").write_text("\n".join(lines))
  builder = build("fer2013", tmp_path, align=True, size=64)
  assert labels(builder) == {"row00000": "happiness"}
  assert builder.as_data_source("train")[0]["image"].shape == (64, 64, 3)
  assert ("row00001", "no_face") in problems(builder)


def write_class_folders(folder) -> None:
  for number, usage in enumerate(USAGES):
    name = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")[number % 7]
    path = folder / "images" / name / f"{usage}_{number}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels(number))


def test_class_folders_of_images_named_by_their_split(tmp_path):
  write_class_folders(tmp_path / "source")
  other = tmp_path / "source" / "images" / "blank"
  other.mkdir()
  cv2.imwrite(str(other / "Training_99.jpg"), pixels(99))
  cv2.imwrite(str(other / "photo.jpg"), pixels(98))
  builder = build("fer2013", tmp_path)
  assert list(labels(builder).items())[:2] == [
    ("images/angry/Training_0.jpg", "anger"),
    ("images/disgust/Training_1.jpg", "disgust"),
  ]
  assert len(labels(builder)) == 7
  assert labels(builder, "validation") == {
    "images/angry/PublicTest_7.jpg": "anger",
    "images/disgust/PublicTest_8.jpg": "disgust",
  }
  assert labels(builder, "test") == {"images/fear/PrivateTest_9.jpg": "fear"}
  assert problems(builder) == [("images/blank/Training_99.jpg", "bad_row")]


@pytest.mark.parametrize("write", [write_csv, write_class_folders])
def test_calibration_images_are_held_out_from_training(tmp_path, write):
  write(tmp_path / "source")
  builder = build("fer2013", tmp_path, calibration=3)
  assert list(labels(builder, "calibration").values()) == ["fear", "surprise"]
  assert list(labels(builder).values()) == [
    "anger", "disgust", "happiness", "sadness", "neutral"
  ]  # fmt: skip
  assert len(labels(builder, "validation")) == 2
  with pytest.raises(ValueError, match="calibration must be 0 or at least 2"):
    build("fer2013", tmp_path, calibration=1)
