"""casme3: tables and frames in the distributed layouts, with drawn images and known problems."""

import json
import pathlib
import shutil

import cv2
import numpy as np
import openpyxl
import pytest

from jax_me.data.index import read_index
from jax_me.datasets.catalog import prepare
from jax_me.datasets.micro.casme3 import MAX_FRAMES, Casme3, Casme3Options

TABLE = "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx"
HEADER = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion")
# All cells are text in the published table.
ROWS = [
  ("spNO.1", "a", "355", "359", "362", "5", "II", "others"),
  ("spNO.1", "e", "62", "68", "70", "R12", "I", "Others"),
  ("spNO.1", "e", "96", "98", "101", "R12", "I", "happy"),
  ("spNO.14", "J", "12", "14", "15", "14", "VII", "disgust"),
  ("spNO.2", "j", "3", "5", "9", "4", "III", "fear"),
  ("spNO.149", "d", "112", "83", "163", "T28+14", "VII", "fear"),
  ("spNO.214", "c", "5", "5", "3460", "17+4", "VII", "disgust"),
  ("spNO.216", "d", "3647", "2668", "2670", "38", "VII", "others"),
  ("spNO.216", "e", "0", "0", "4", "14", "VII", "surprise"),
  ("spNO.40", "e", "1812", "1814", "0", "18", "VII", "sad"),
  ("spNO.3", "a", "7", "9", "11", "4", "III", "anger"),
]


def draw(folder: pathlib.Path, numbers) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  for number in numbers:
    image = np.full((12, 16, 3), 100 + number % 100, np.uint8)
    image[:, :4] = sum(map(ord, str(folder.parts[-2:]))) % 200
    assert cv2.imwrite(str(folder / f"{number}.jpg"), image)


def write_table(path: pathlib.Path, rows, header=HEADER, sheet="label") -> None:
  book = openpyxl.Workbook()
  book.active.title = sheet
  for row in (header, *rows):
    book.active.append(row)
  book.create_sheet("Sheet1").append([None] * 16)
  book.create_sheet("Sheet3")
  path.parent.mkdir(parents=True, exist_ok=True)
  book.save(path)


@pytest.fixture
def source(tmp_path):
  top = tmp_path / "source"
  write_table(top / "annotation" / "partA" / TABLE, ROWS)
  # Other tables beside it must be ignored.
  (top / "annotation" / "partA" / TABLE.replace("v2.xlsx", "v1.xls")).write_bytes(
    b"\xd0\xcf\x11\xe0"
  )
  errors = (*ROWS[0][:5], *ROWS[0][5:])
  write_table(top / "exception" / "casme3_partA_error_list_ZhouJu.xlsx", [errors])
  videos = top / "part_A" / "part_A"
  draw(videos / "spNO.1" / "a" / "color", range(340, 380))
  draw(videos / "spNO.1" / "a" / "depth", range(355, 360))
  draw(top / "part_A_depth" / "spNO.1" / "a" / "depth", range(355, 360))
  draw(videos / "spNO.1" / "e" / "color", range(50, 110))
  draw(videos / "spNO.14" / "j" / "Color", range(1, 20))
  draw(videos / "SPno.2" / "J" / "color", [3, 5, 6, 9])
  draw(videos / "spNO.149" / "d" / "color", range(110, 165))
  draw(videos / "spNO.214" / "c" / "color", [*range(1, 40), 3460])
  draw(videos / "spNO.216" / "d" / "color", [*range(2645, 2672), 3647])
  draw(videos / "spNO.216" / "e" / "color", range(1, 8))
  draw(videos / "spNO.40" / "e" / "color", [*range(1810, 1850)])
  return top


def listed(source, **options):
  clips, rows = Casme3.list_clips(Casme3Options(**options), source)
  return {clip.file: clip for clip in clips}, {row.file: row.status for row in rows}


def numbers(clip):
  return [number for number, _ in clip.frames]


def test_recordings(source):
  clips, rows = listed(source)
  assert rows == {}
  assert {file: clip.label for file, clip in clips.items()} == {
    "spNO.1/a_355": "others",
    "spNO.1/e_62": "others",
    "spNO.1/e_96": "happiness",  # the same recording again
    "spNO.14/j_12": "disgust",
    "spNO.2/j_3": "fear",
    "spNO.149/d_112": "fear",
    "spNO.214/c_5": "disgust",
    "spNO.216/d_3647": "others",
    "spNO.216/e_0": "surprise",
    "spNO.40/e_1812": "sadness",
    "spNO.3/a_7": "anger",
  }
  clip = clips["spNO.1/a_355"]
  assert (clip.subject, clip.clip, clip.onset, clip.apex, clip.offset) == (
    "spNO.1",
    "a_355",
    355,
    359,
    362,
  )
  # A few frames around the expression, in numerical order, without depth maps.
  assert clip.frames[0] == (352, "part_A/part_A/spNO.1/a/color/352.jpg")
  assert numbers(clip) == list(range(352, 366))
  assert numbers(clips["spNO.1/e_62"])[-1] == 73 and numbers(clips["spNO.1/e_96"])[0] == 93
  assert clips["spNO.14/j_12"].frames[0][1] == "part_A/part_A/spNO.14/j/Color/9.jpg"
  assert clips["spNO.2/j_3"].frames[0][1] == "part_A/part_A/SPno.2/J/color/3.jpg"
  assert clips["spNO.3/a_7"].frames == ()
  assert "not credible" in clips["spNO.214/c_5"].note
  assert numbers(clips["spNO.214/c_5"])[-1] < MAX_FRAMES + 5


def test_repair(source):
  before, _ = listed(source)
  after, _ = listed(source, repair=True)
  moments = {
    file: (clip.onset, clip.apex, clip.offset, clip.note)
    for file, clip in after.items()
    if clip.note
  }
  assert moments == {
    "spNO.149/d_112": (112, 160, 163, "apex 83 corrected to 160"),
    "spNO.214/c_5": (5, 5, 34, "offset 3460 corrected to 34"),
    "spNO.216/d_3647": (2647, 2668, 2670, "onset 3647 corrected to 2647"),
    "spNO.216/e_0": (1, 1, 4, "onset 0 corrected to 1; apex 0 corrected to 1"),
    "spNO.40/e_1812": (1812, 1814, 1845, "offset 0 corrected to 1845"),
  }
  assert numbers(after["spNO.216/d_3647"]) == list(range(2645, 2672))
  same = set(before) - set(moments)
  assert all(before[file] == after[file] for file in same)


def test_cut_clips_are_preferred(source):
  clips = source / "Part_A_ME_clip" / "Part_A_ME_clip"
  draw(clips / "frame" / "spNo.1_a_355", range(355, 363))
  draw(clips / "depth" / "spNo.1_a_355", range(355, 363))
  draw(clips / "frame" / "spNo.14_j_12", range(12, 16))
  with_both, _ = listed(source)
  folder = "Part_A_ME_clip/Part_A_ME_clip/frame/spNo.1_a_355"
  assert with_both["spNO.1/a_355"].frames[0] == (355, f"{folder}/355.jpg")
  assert numbers(with_both["spNO.14/j_12"]) == [12, 13, 14, 15]
  assert with_both["spNO.1/e_62"].frames[0][1].startswith("part_A/")
  shutil.copytree(clips / "frame", source / "copy" / "frame")
  with pytest.raises(ValueError, match="holds a clip twice: .*copy/frame/spNo.1_a_355"):
    listed(source)


@pytest.mark.parametrize("classes", [3, 4, 7])
def test_classes(source, classes):
  clips, rows = listed(source, classes=classes)
  options = Casme3Options(classes=classes)
  names = Casme3.label_names(options, None)
  assert len(names) == classes and {clip.label for clip in clips.values()} <= set(names)
  others = {file for file, status in rows.items() if status == "other_label"}
  left_out = {"spNO.1/a_355", "spNO.1/e_62", "spNO.216/d_3647"}
  assert others == (left_out if classes == 3 else set())
  assert len(clips) + len(others) == len(ROWS)


def test_unusable_rows(tmp_path):
  draw(tmp_path / "part_A" / "spNO.1" / "a" / "color", range(9))
  good = ("spNO.1", "a", 3, None, 6, "", "", "anger")
  rows = [good, good, ("spNO.1", "a", "x", 4, 6, "", "", "anger")]
  rows += [("total", None, 860, None, None, None, None, None)]
  rows += [("spNO.1", "a", 1, 4, 6, "", "", "joyless"), ("spNO.1", "a", 2, 4, 6, "", "", None)]
  rows += [("spNO.1", "a", None, 4, 6, "", "", "fear")]
  write_table(tmp_path / TABLE, rows)
  clips, problems = listed(tmp_path)
  assert list(clips) == ["spNO.1/a_3"] and clips["spNO.1/a_3"].apex == -1
  assert problems == {
    "spNO.1/a_3#3": "listed_twice",
    f"{TABLE}#4": "bad_annotation",
    f"{TABLE}#5": "bad_annotation",
    "spNO.1/a_1": "other_label",
    f"{TABLE}#7": "bad_annotation",
    f"{TABLE}#8": "bad_annotation",
  }


def test_part_c(source):
  rows = [(1, 1, 373, 377, "R4,5", "negative"), (1, 2, 6450, 6452, "R2,7", "surprise")]
  rows += [(14, 1, 40, 44, 24, "positive"), (30, 1, 5, 9, "2,24", "others")]
  header = ("sub", "count", "onset", "offset", "au", "emotion")
  write_table(
    source / "annotation" / "partC" / "CAS(ME)3_part_C_ME.xlsx", rows, header, "mockCrimeME"
  )
  draw(source / "part_C" / "01" / "a" / "color", [*range(370, 380), *range(6448, 6455)])
  draw(source / "part_C" / "14" / "a" / "color", range(38, 46))
  clips, _ = listed(source, part="C")
  assert [(c.file, c.subject, c.label, c.apex) for c in clips.values()] == [
    ("01/1", "01", "negative", -1),
    ("01/2", "01", "surprise", -1),
    ("14/1", "14", "positive", -1),
    ("30/1", "30", "others", -1),
  ]
  assert clips["01/2"].frames[0] == (6448, "part_C/01/a/color/6448.jpg")
  assert clips["30/1"].frames == ()
  assert Casme3Options(part="C", repair=True) == Casme3Options(part="C", classes=4)


def test_invalid_options_and_folders(source, tmp_path):
  for options in ({"part": "B"}, {"classes": 5}, {"part": "C", "classes": 7}):
    with pytest.raises(ValueError, match="CAS\\(ME\\)3"):
      Casme3Options(**options)
  (source / "annotation" / "partA" / TABLE).unlink()
  with pytest.raises(ValueError, match="(?s)Subject, Filename.*JpgIndex_v2.xlsx"):
    listed(source)
  with pytest.raises(ValueError, match="(?s)holds no table of CAS.*JpgIndex_v2.xlsx"):
    listed(source / "part_A")
  for folder in ("part_A", "part_A_depth"):
    shutil.rmtree(source / folder)
  with pytest.raises(ValueError, match="(?s)holds no frames of CAS.*part A.*Part_A_ME_clip"):
    listed(source)


def test_build(source, tmp_path):
  def build(**options):
    return prepare(
      "casme3",
      data_dir=str(tmp_path / "built"),
      manual_dir=str(source),
      workers=0,
      align=False,
      **options,
    )

  builder = build()
  index = read_index(builder, "train")
  frames = dict(zip(index.file.tolist(), index.apex.tolist(), strict=True))
  assert frames == {
    "spNO.1/a_355/359": 359,
    "spNO.1/e_62/68": 68,
    "spNO.1/e_96/98": 98,
    "spNO.14/j_12/14": 14,
    "spNO.2/j_3/5": 5,
    "spNO.149/d_112/137": -1,
    "spNO.214/c_5/5": 5,
    "spNO.216/e_0/1": 0,
  }
  assert index.subject[0] == "spNO.1"
  folder = pathlib.Path(builder.data_path)
  lines = (folder / "report.jsonl").read_text(encoding="utf-8").splitlines()
  status = {row["file"]: row["status"] for row in map(json.loads, lines)}
  assert {file: word for file, word in status.items() if word != "ok"} == {
    "spNO.149/d_112": "apex_out_of_range",
    "spNO.216/d_3647": "bad_annotation",
    "spNO.216/e_0": "nearest_frame",
    "spNO.3/a_7": "missing_frames",
    "spNO.40/e_1812": "bad_annotation",
  }
  table = json.loads((folder / "summary.json").read_text())["known_counts"]
  found = {row["class"]: (row["expected"], row["found"], row["stored"]) for row in table}
  assert found["others"] == (161, 3, 2)
  assert sum(expected for expected, *_ in found.values()) == 860
  assert build().data_path == builder.data_path
  assert len(read_index(build(repair=True), "train")) == 10
