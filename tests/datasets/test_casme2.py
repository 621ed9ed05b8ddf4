"""casme2: formats of its table and folders, its classes, and known problems."""

import pytest

from jax_me.data.index import read_index
from tests.helpers import clip_files
from tests.helpers.clip_files import (
  build,
  draw_clip,
  known_counts,
  labels,
  report,
  save_table,
  statuses,
)

# Blank columns, which pandas calls "Unnamed: 2" and "Unnamed: 6".
HEADER = ["Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None]
HEADER += ["Action Units", "Estimated Emotion"]
PUBLISHED = {
  "others": 99,
  "disgust": 63,
  "happiness": 32,
  "repression": 27,
  "surprise": 25,
  "sadness": 7,
  "fear": 2,
}


def row(subject, clip, onset, apex, offset, emotion, units="4+L10"):
  return [subject, clip, None, onset, apex, offset, None, units, emotion]


@pytest.fixture
def release(tmp_path):
  """Raw and cropped frames, with one example of each known problem."""
  source = tmp_path / "source"
  rows = [
    HEADER,
    row(1, "EP02_01f", 9, 11, 13, "happiness"),  # unpadded frames: img9, img10, ...
    row("01", "EP03_02", 5, "/", 9, "others"),  # the subject as text, no apex
    row(2, "EP01_11f", 5, 12, 9, "Repression", 4),  # an apex after the offset
    row(2, "EP13_04", 5, 7, 3, "surprise", "?"),  # an offset before the onset
    row(3, "EP07_05", 5, 7, 9, "sadness"),
    row(3, "EP19_08", 5, 7, 9, "disgust"),  # no such folder
    row(24, "EP02_07", 5, 7, 9, "disgust"),  # in some tables only
    row(24, "EP02_07", 5, 7, 9, "fear"),
    row(24, "EP08_02", "a", 7, 9, "others"),
    row(25, "EP08_02", 5, 7, 9, "bewilderment"),
    [None, "255 samples"],
  ]
  save_table(source / "CASME2-coding-20140508.xlsx", rows)
  save_table(source / "CASME2-ObjectiveClasses.xlsx", [["Subject", "Filename", "Objective Class"]])
  raw = source / "CASME2_RAW_selected" / "CASME2_RAW_selected"
  cropped = source / "Cropped-updated" / "Cropped"
  for top, name, size in [(raw, "img{}.jpg", (64, 48)), (cropped, "reg_img{}.jpg", (28, 34))]:
    draw_clip(top / "sub01" / "EP02_01f", range(9, 14), name, size)
    for clip in ("sub01/EP03_02", "sub02/EP01_11f", "sub02/EP13_04", "sub03/EP07_05"):
      draw_clip(top / clip, range(5, 10), name, size)
    draw_clip(top / "sub24" / "EP02_07", range(5, 10), name, size)
    draw_clip(top / "sub26" / "EP99_01", range(5, 10), name, size)
  return tmp_path


def test_rows_become_clips(release):
  builder = build("casme2", release)
  assert builder.labels == ("happiness", "disgust", "repression", "surprise", "others")
  assert labels(builder) == {
    "sub01/EP02_01f/11": "happiness",
    "sub01/EP03_02/7": "others",
    "sub02/EP01_11f/7": "repression",
    "sub02/EP13_04/7": "surprise",
    "sub24/EP02_07/7": "disgust",
  }
  index = read_index(builder, "train")
  assert index.subject.tolist() == ["sub01", "sub01", "sub02", "sub02", "sub24"]
  assert index.onset.tolist() == [9, 5, 5, 5, 5]
  assert index.apex.tolist() == [11, -1, -1, 7, 7]
  assert index.offset.tolist() == [13, 9, 9, 9, 9]
  assert statuses(builder) == {
    "sub02/EP01_11f": "apex_out_of_range",
    "sub03/EP07_05": "other_label",
    "sub03/EP19_08": "missing_frames",
    "sub24/EP02_07#9": "listed_twice",
    "sub24/EP08_02": "bad_annotation",
    "sub25/EP08_02": "other_label",
    "CASME2-coding-20140508.xlsx#12": "no_clip",
    "Cropped-updated/Cropped/sub26/EP99_01": "not_listed",
  }
  rows = report(builder)
  assert rows["sub01/EP03_02"]["apex"] == rows["sub02/EP01_11f"]["apex"] == "middle"
  assert "apex" not in rows["sub01/EP02_01f"]
  assert "apex 12 is not in [5, 9]" in rows["sub02/EP01_11f"]["detail"]
  assert "offset 3 is before the onset" in rows["sub02/EP13_04"]["note"]
  assert "some tables list it" in rows["sub24/EP02_07"]["note"]
  assert rows["sub25/EP08_02"]["detail"] == "bewilderment"


def test_raw_and_cropped_frames(release):
  cropped = release / "source" / "Cropped-updated" / "Cropped"
  original = clip_files.stored(build("casme2", release))
  expected = (cropped / "sub01" / "EP02_01f" / "reg_img11.jpg").read_bytes()
  assert original["sub01/EP02_01f/11"] == expected
  builder = build("casme2", release, images="raw")
  assert {image["image"].shape for image in builder.as_data_source("train")} == {(48, 64, 3)}
  aligned = build("casme2", release, align=True, size=32, on_no_face="center")
  assert aligned.options.images == "auto"
  assert "CASME II" not in report(aligned)  # Raw frames exist.


def test_only_one_kind_of_frames(tmp_path):
  source = tmp_path / "source"
  save_table(source / "CASME2-coding-20190701.xlsx", [HEADER, row(1, "EP02_01f", 9, 11, 13, "sad")])
  draw_clip(source / "sub01" / "EP02_01f", range(9, 14), "reg_img{}.jpg")
  with pytest.raises(ValueError, match="only cropped frames of CASME II: give images=cropped"):
    build("casme2", tmp_path, images="raw")
  builder = build("casme2", tmp_path, align=True, classes=7, size=32, on_no_face="center")
  assert statuses(builder) == {"CASME II": "only_cropped", "sub01/EP02_01f": "centered"}
  draw_clip(source / "copy" / "sub01" / "EP02_01f", range(9, 14), "reg_img{}.jpg")
  with pytest.raises(ValueError, match="a clip twice: copy/sub01/EP02_01f and sub01/EP02_01f"):
    build("casme2", tmp_path, classes=7)


def test_classes(release):
  seven = build("casme2", release, classes=7)
  names = ("happiness", "sadness", "surprise", "fear", "disgust", "repression", "others")
  assert seven.labels == names
  assert labels(seven)["sub03/EP07_05/7"] == "sadness"
  three = build("casme2", release, classes=3)
  assert three.labels == ("negative", "positive", "surprise")
  assert sorted(labels(three).values()) == ["negative", "negative", "positive", "surprise"]
  assert statuses(three)["sub03/EP07_05"] == "other_label"  # MEGC: sadness is not negative here.
  assert len({builder.data_path for builder in (seven, three)}) == 2
  with pytest.raises(ValueError, match="3, 5 or 7, got 4"):
    build("casme2", release, classes=4)


def published_table(path, header=HEADER):
  """255 rows with the published number of each expression, and one that only some tables have."""
  emotions = [name for name, count in PUBLISHED.items() for _ in range(count)]
  rows = [row(1 + n % 23, f"EP01_{n}", 5, 7, 9, name) for n, name in enumerate(emotions)]
  rows.append(row(24, "EP02_07", 5, 7, 9, "disgust"))
  here = [at for at, name in enumerate(HEADER) if name in header]
  save_table(path, [[line[at] for at in here] for line in [HEADER, *rows]])


@pytest.mark.parametrize(
  ("classes", "expected"),
  [
    (5, {"happiness": 32, "disgust": 63, "repression": 27, "surprise": 25, "others": 99}),
    (3, {"negative": 90, "positive": 32, "surprise": 25}),
    (7, PUBLISHED),
  ],
)
def test_published_counts(tmp_path, classes, expected):
  header = [name for name in HEADER if name]  # Some copies lack the blank columns.
  published_table(tmp_path / "source" / "CASME2-coding-updated.xlsx", header)
  draw_clip(tmp_path / "source" / "sub24" / "EP02_07", range(5, 10), "reg_img{}.jpg")
  counts = known_counts(build("casme2", tmp_path, classes=classes))
  assert {name: row[0] for name, row in counts.items()} == expected
  extra = "negative" if classes == 3 else "disgust"
  assert {name: row[1] - row[0] for name, row in counts.items()} == {
    name: int(name == extra) for name in expected
  }
  assert {name: row[2] for name, row in counts.items()} == {
    name: int(name == extra) for name in expected
  }


def test_table_is_found_or_chosen(tmp_path):
  source = tmp_path / "source"
  draw_clip(source / "sub01" / "EP02_01f", range(9, 14), "reg_img{}.jpg")
  with pytest.raises(ValueError, match="no table of annotations with the columns Subject") as error:
    build("casme2", tmp_path)
  assert "http://casme.psych.ac.cn" in str(error.value)
  rows = [HEADER, row(1, "EP02_01f", 9, 11, 13, "happiness")]
  save_table(source / "label.xlsx", rows)  # found by its columns, not its name
  assert len(labels(build("casme2", tmp_path))) == 1
  save_table(source / "CASME2-coding-20140508.xlsx", rows)
  assert len(labels(build("casme2", tmp_path))) == 1
  save_table(source / "old" / "CASME2-coding-updated.xlsx", rows)
  with pytest.raises(ValueError, match="more than one table .* option table"):
    build("casme2", tmp_path)
  assert len(labels(build("casme2", tmp_path, table="CASME2-coding-updated.xlsx"))) == 1
  with pytest.raises(ValueError, match="no table 'x.csv'"):
    build("casme2", tmp_path, table="x.csv")


def test_without_frames(tmp_path):
  (tmp_path / "source").mkdir()
  with pytest.raises(ValueError, match="no frames of CASME II .it is empty") as error:
    build("casme2", tmp_path)
  assert "--config.data.manual_dir=FOLDER" in str(error.value)
  (tmp_path / "source" / "CASME2_RAW_selected.rar").touch()
  with pytest.raises(ValueError, match="unpack CASME2_RAW_selected.rar first"):
    build("casme2", tmp_path)


def test_a_table_saved_as_text(tmp_path):
  source = tmp_path / "source"
  draw_clip(source / "sub01" / "EP02_01f", range(9, 14), "reg_img{}.jpg")
  header = "subject;file name;Onset_Frame;APEXFRAME;Offset Frame;estimated_emotion"
  (source / "label.csv").write_text(f"{header}\nsub01;EP02_01F ;9;11;13;Happy\n", "utf-8-sig")
  builder = build("casme2", tmp_path)
  assert labels(builder) == {"sub01/EP02_01F/11": "happiness"}
  with (source / "label.csv").open("a") as file:
    file.write("2;EP09f;5;7;9;other\n")
  assert build("casme2", tmp_path).data_path != builder.data_path
