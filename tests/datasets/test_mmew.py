"""mmew: both layouts of its frames, with drawn images, and known problems of its table."""

import pathlib

import cv2
import numpy as np
import openpyxl
import pytest

from jax_me.data.index import read_index
from jax_me.datasets.catalog import prepare
from jax_me.datasets.micro.mmew import Mmew, MmewOptions

HEADER = ("Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Action Units")
HEADER += ("Estimated Emotion", "remarks")
ROWS = [
  (1, "S01-02-001", 1, 5, 11, "1+2", "surprise", None),
  ("03", "S03-01-002", 2, 4.0, 6, 12, "happiness", "smiles"),
  ("S13", "S13-07-001", 1, None, 12, 4, "anger", None),
  (13, "S13-04-001", 1, 3, None, "?", "others", None),
  (14, "S14-03-001", 1, 3, 4, "?", "repression", None),
  (14, "S14-03-010", 1, 3, 4, "9", "Disgust", None),
  (15, "S15-05-001", 1, 3, 4, "9", "fear", None),
  (15, "S15-06-001", 1, 3, 4, "9", "sadness", None),
  (None, None, None, None, None, None, None, "checked twice"),
  (None,) * 8,
]
FOLDERS = {
  "S01-02-001": "surprise",
  "S03-01-002": "happiness",
  "S13-07-001": "anger",
  "S13-04-001": "others",
  "S14-03-001": "repression",
  "S14-03-010": "disgust",
  "S15-06-001": "sadness",
}


def draw(folder: pathlib.Path, count: int = 12) -> None:
  folder.mkdir(parents=True)
  for number in range(1, count + 1):
    image = np.full((12, 10, 3), (10 * number, len(folder.parts), int(folder.name[-6:-4])), "u1")
    assert cv2.imwrite(str(folder / f"{number}.jpg"), image)


@pytest.fixture(params=["emotion", "subject"])
def source(tmp_path, request):
  top = tmp_path / "source" / "MMEW_Final"
  for clip, emotion in FOLDERS.items():
    above = clip[:3] if request.param == "subject" else ""
    draw(top / "Micro_Expression" / above / emotion / clip)
  # Single images of macro-expressions are named like clips.
  macro = top / "Macro_Expression" / "S01" / "anger"
  macro.mkdir(parents=True)
  assert cv2.imwrite(str(macro / "S01-07-001.jpg"), np.zeros((9, 9, 3), np.uint8))
  book = openpyxl.Workbook()
  for row in (HEADER, *ROWS):
    book.active.append(row)
  book.save(top / "MMEW_Micro_Exp.xlsx")
  return tmp_path / "source"


def listed(source, **options):
  clips, rows = Mmew.list_clips(MmewOptions(**options), source)
  return {clip.file: clip for clip in clips}, {row.file: row.status for row in rows}


def test_both_layouts(source):
  clips, rows = listed(source)
  assert rows == {"MMEW_Micro_Exp.xlsx#10": "no_clip"} or rows == {}
  assert {file: (c.subject, c.label, c.onset, c.apex, c.offset) for file, c in clips.items()} == {
    "S01/S01-02-001": ("S01", "surprise", 1, 5, 11),
    "S03/S03-01-002": ("S03", "happiness", 2, 4, 6),
    "S13/S13-07-001": ("S13", "anger", 1, -1, 12),
    "S13/S13-04-001": ("S13", "others", 1, 3, -1),
    "S14/S14-03-001": ("S14", "others", 1, 3, 4),
    "S14/S14-03-010": ("S14", "disgust", 1, 3, 4),
    "S15/S15-05-001": ("S15", "fear", 1, 3, 4),
    "S15/S15-06-001": ("S15", "sadness", 1, 3, 4),
  }
  frames = clips["S01/S01-02-001"].frames
  assert [number for number, _ in frames] == list(range(1, 13))
  assert frames[9][1].endswith("surprise/S01-02-001/10.jpg")
  assert clips["S15/S15-05-001"].frames == ()


@pytest.mark.parametrize(
  "classes, count, left_out", [(7, 300, 0), (6, 234, 2), (4, 263, 3), (3, 234, 2)]
)
def test_classes(source, classes, count, left_out):
  clips, rows = listed(source, classes=classes)
  assert list(rows.values()).count("other_label") == left_out
  assert len(clips) == 8 - left_out
  names = Mmew.label_names(MmewOptions(classes=classes), None)
  assert len(names) == classes and {clip.label for clip in clips.values()} <= set(names)

  emotions = [e for parts in Mmew.CLASSES[classes].values() for e in parts]
  assert tuple(Mmew.CLASSES[classes]) == names
  assert sum(Mmew.CLIP_COUNTS[emotion] for emotion in emotions) == count


def test_build(source, tmp_path):
  builder = prepare(
    "mmew",
    data_dir=str(tmp_path / "built"),
    manual_dir=str(source),
    workers=0,
    align=False,
    input="key_frames",
    apex_policy="skip",
  )
  index = read_index(builder, "train")
  assert index.file.tolist()[:6] == [
    *(f"S01/S01-02-001/{number}" for number in (1, 5, 11)),
    *(f"S03/S03-01-002/{number}" for number in (2, 4, 6)),
  ]
  clips = set(index.clip.tolist())
  assert clips == set(FOLDERS) - {"S13-07-001"}  # it has no apex


def test_invalid_option():
  with pytest.raises(ValueError, match="classes of MMEW must be"):
    MmewOptions(classes=5)
