"""Tests of the ferplus builder: both vote tables, faces from the csv and from folders."""

import pathlib

import numpy as np
import pytest

from jax_me.data.image_store import ImageStore
from jax_me.data.index import read_index
from jax_me.data.pipeline import eval_batches
from jax_me.datasets.ferplus.votes import COLUMNS
from tests.helpers.built_datasets import build, details, draw, known, labels, problems, stored

HEADER = ",".join(["Usage", "Image name", *COLUMNS])
FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}

# Usage, name and votes of the rows of fer2013new.csv. As in the release, a row without an image has
# no name, the numbers in the names are not row numbers, and one name occurs twice.
ROWS = [
  ("Training", "fer0000000.png", "4,0,0,1,3,2,0,0,0,0"),
  ("Training", "", "0,0,0,0,0,0,0,0,0,10"),
  ("Training", "fer0000001.png", "0,8,2,0,0,0,0,0,0,0"),
  ("Training", "fer0000002.png", "0,0,0,0,0,0,0,0,10,0"),
  ("PublicTest", "fer0000003.png", "0,0,0,0,0,1,9,0,0,0"),
  ("PrivateTest", "fer0000004.png", "5,0,0,1,1,0,0,0,3,0"),
  ("PrivateTest", "fer0000005.png", "0,0,0,0,0,6,0,4,0,0"),
  ("PrivateTest", "fer0000006.png", "0,0,0,9,0,0,0,0,0,0"),
  ("PrivateTest", "fer0000005.png", "0,0,0,0,0,6,0,4,0,0"),
  ("Training", "fer0000007.png", "10,0,0,0,0,0,0,0,0,0"),
]


def write_tables(folder: pathlib.Path) -> None:
  """fer2013new.csv, and label.csv with other votes for one face and without the last row."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "fer2013new.csv").write_text("\n".join([HEADER, *map(",".join, ROWS)]) + "\n")
  for usage, name, votes in ROWS[:-1]:
    split_folder = folder / "data" / FOLDERS[usage]
    split_folder.mkdir(parents=True, exist_ok=True)
    if name and not (name == "fer0000005.png" and (split_folder / "seen").exists()):
      if name == "fer0000005.png":
        (split_folder / "seen").touch()
      votes = "0,0,0,0,10,0,0,0,0,0" if name == "fer0000003.png" else votes
      with (split_folder / "label.csv").open("a") as file:
        file.write(f'{name},"(0, 0, 48, 48)",{votes}\n')


def write_faces(folder: pathlib.Path, count: int = len(ROWS), usages: str = "Usage") -> None:
  """Writes fer2013.csv, in which all pixels of row n are n."""
  rows = [f"0,{' '.join([str(n)] * 2304)},{ROWS[n][0]}" for n in range(count)]
  (folder / "fer2013.csv").write_text("\n".join([f"emotion,pixels,{usages}", *rows]))


def write_images(folder: pathlib.Path) -> None:
  """Writes the faces as image files."""
  for usage, name, _ in ROWS:
    if name:
      draw(folder / "data" / FOLDERS[usage] / name, int(name[3:10]), 48, "L")


def grey_values(builder, split: str) -> list[int]:
  return [int(example["image"][0, 0, 0]) for example in builder.as_data_source(split)]


def test_label_csv_with_faces_from_the_csv(tmp_path):
  write_tables(tmp_path / "source")
  write_faces(tmp_path / "source")
  builder = build("ferplus", tmp_path)
  assert builder.labels == COLUMNS[:8]
  assert labels(builder) == {"fer0000001.png": "happiness"}
  # Votes of label.csv; the row of fer2013.csv follows from the names of the other table.
  assert labels(builder, "validation") == {"fer0000003.png": "anger"}
  assert grey_values(builder, "validation") == [4]
  expected = {"fer0000005.png": "disgust", "fer0000006.png": "sadness"}
  assert labels(builder, "test") == {"fer0000004.png": "neutral"} | expected
  assert grey_values(builder, "test") == [5, 6, 7]
  assert problems(builder) == [
    ("fer0000000.png", "no_expression"),
    ("fer0000002.png", "no_expression"),
  ]
  assert known(builder)["test", "disgust"] == (16, 1, 1)


def test_fer2013new_row_by_row(tmp_path):
  write_tables(tmp_path / "source")
  write_faces(tmp_path / "source")
  builder = build("ferplus", tmp_path, votes="fer2013new")
  assert labels(builder) == {"fer0000001.png": "happiness", "fer0000007.png": "neutral"}
  assert grey_values(builder, "train") == [2, 9]
  assert labels(builder, "validation") == {"fer0000003.png": "fear"}
  assert list(labels(builder, "test")) == [
    "fer0000004.png",
    "fer0000005.png",
    "fer0000006.png",
    "fer0000005.png#2",
  ]
  assert grey_values(builder, "test") == [5, 6, 7, 8]
  assert details(builder)["fer2013new.csv:3"] == "non face"  # the row without a name


@pytest.mark.parametrize("table", ["label.csv", "fer2013new"])
def test_faces_from_folders(tmp_path, table):
  folder = tmp_path / "source"
  write_tables(folder)
  write_images(folder)
  if table == "label.csv":
    (folder / "fer2013new.csv").unlink()
  (folder / "data" / "FER2013Test" / "fer0000006.png").unlink()
  builder = build("ferplus", tmp_path, votes=table)
  name = "fer0000001.png"
  assert stored(builder)[name] == (folder / "data" / "FER2013Train" / name).read_bytes()
  # One file is only one face.
  assert list(labels(builder, "test")) == ["fer0000004.png", "fer0000005.png"]
  assert ("fer0000006.png", "missing") in problems(builder)
  is_duplicate = ("fer0000005.png#2", "duplicate") in problems(builder)
  assert is_duplicate == (table == "fer2013new")


@pytest.mark.parametrize(
  ("mode", "train", "targets"),
  [
    (
      "probability",
      {"fer0000000.png": "neutral", "fer0000001.png": "happiness"},
      [4 / 7, 0, 0, 0, 3 / 7, 0, 0, 0],
    ),
    (
      "multi_target",
      {"fer0000000.png": "neutral", "fer0000001.png": "happiness"},
      [4 / 7, 0, 0, 0, 3 / 7, 0, 0, 0],
    ),
  ],
)
def test_modes_with_probabilities(tmp_path, mode, train, targets):
  write_tables(tmp_path / "source")
  write_faces(tmp_path / "source")
  builder = build("ferplus", tmp_path, mode=mode)
  assert labels(builder) == train
  # All three splits have class probabilities.
  index = read_index(builder, "+".join(builder.info.splits))
  targets_of = dict(zip(index.file, index.targets, strict=True))
  assert targets_of["fer0000000.png"] == pytest.approx(targets, abs=1e-6)
  assert targets_of["fer0000005.png"] == pytest.approx([0, 0, 0, 0, 0, 0.6, 0, 0.4])
  store = ImageStore(builder, "train", image_size=48)
  batch = next(iter(eval_batches(store, batch_size=64)))
  np.testing.assert_array_equal(batch["targets"][batch["mask"]], store.index.targets)
  assert not batch["targets"][~batch["mask"]].any()


def test_every_defect_is_reported(tmp_path):
  folder = tmp_path / "source"
  write_tables(folder)
  write_faces(folder)
  with (folder / "data" / "FER2013Train" / "label.csv").open("a") as file:
    file.write('\nfer0000008.png,"(0, 0, 48, 48)",10,0,0\n')
    file.write('fer0000009.png,"(0, 0, 48, 48)",x,0,0,0,0,0,0,0,0,0\n')
    file.write('fer0000010.png,"(0, 0, 48, 48)",10,0,0,0,0,0,0,0,0,0\n')
    file.write('fer0000001.png,"(0, 0, 48, 48)",10,0,0,0,0,0,0,0,0,0\n' * 2)
  builder = build("ferplus", tmp_path)
  rows = problems(builder)
  assert ("FER2013Train/label.csv:5", "bad_row") in rows
  assert ("FER2013Train/label.csv:6", "bad_row") in rows
  assert ("fer0000010.png", "missing") in rows
  assert details(builder)["fer0000010.png"] == "fer2013new.csv has no such name"
  assert ("FER2013Train/label.csv:9", "duplicate") in rows


def remove(*names):
  def change(folder):
    for name in names:
      (folder / name).unlink()

  return change


@pytest.mark.parametrize(
  ("change", "table", "message"),
  [
    (remove("fer2013new.csv"), "label.csv", "but not fer2013new.csv, which maps the rows"),
    (remove("fer2013new.csv"), "fer2013new", "has no fer2013new.csv"),
    (remove("fer2013.csv"), "label.csv", "neither fer2013.csv nor images in FER2013Train"),
    (
      remove(*(f"data/{name}/label.csv" for name in FOLDERS.values())),
      "label.csv",
      "has no label.csv in FER2013Train",
    ),
    (lambda folder: write_faces(folder, 9), "fer2013new", "has 10 rows and .* has 9"),
    (
      lambda folder: (folder / "fer2013new.csv").write_text("Usage,neutral\n"),
      "fer2013new",
      "has no column image name, happiness",
    ),
    (
      lambda folder: (folder / "fer2013.csv").write_text(
        (folder / "fer2013.csv").read_text().replace("PublicTest", "Training")
      ),
      "label.csv",
      "row 4 is validation in .* and train in",
    ),
    (None, "labels.csv", "votes of FER\\+ must be one of label.csv, fer2013new"),
  ],
)
def test_files_that_do_not_match_are_refused(tmp_path, change, table, message):
  write_tables(tmp_path / "source")
  write_faces(tmp_path / "source")
  if change:
    change(tmp_path / "source")
  with pytest.raises(ValueError, match=message):
    build("ferplus", tmp_path, votes=table)
