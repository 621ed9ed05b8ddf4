"""samm: its table with notes above the header, its folders, and its classes."""

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

HEADER = [
  *("Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame", "Offset Frame"),
  *("Duration", "Micro", "Action Units", "Estimated Emotion", "Objective Classes", "Notes"),
]
NOTES = [["SAMM: micro-facial movement dataset"], [None], ["Subject to licence", None, 3]]
PUBLISHED = {
  "anger": 57,
  "happiness": 26,
  "others": 26,
  "surprise": 15,
  "contempt": 12,
  "disgust": 9,
  "fear": 8,
  "sadness": 6,
}


def row(subject, clip, onset, apex, offset, emotion, units="(R6 or R12)+R15"):
  return [subject, clip, 1, onset, apex, offset, 5, "Micro - 1/2", units, emotion, 4, None]


ROWS = [
  row("006", "006_1_2", 9998, 10001, 10003, "Happiness"),  # 4 digits turn into 5
  row(7, "007_3_1", 15, 17, 19, "Other"),
  row("007", "007_3_2", 15, 17, 19, "Others", "ref(7B)+43"),
  row("028", "028_4_1", 15, 20, 19, "Contempt"),  # an apex after the offset
  row("033", "033_1_5", 15, -1, 19, "Anger"),
  row("033", "033_3_1", 15, 17, 19, "Fear"),
]


def draw_release(source):
  """Grey frames, whose numbers have 4 or 5 digits depending on the clip."""
  draw_clip(source / "SAMM/006/006_1_2", range(9998, 10000), "006_0{}.jpg", grey=True)
  draw_clip(source / "SAMM/006/006_1_2", range(10000, 10004), "006_{}.jpg", grey=True)
  for clip in ("007/007_3_1", "007/007_3_2", "028/028_4_1", "033/033_1_5"):
    draw_clip(source / "SAMM" / clip, range(15, 20), clip[:3] + "_{:05}.jpg", grey=True)
  draw_clip(source / "SAMM/033/033_3_1", range(15, 20), "033_{:04}.jpg", grey=True)


@pytest.mark.parametrize(
  ("table", "sheet", "above"),
  [
    ("SAMM_Micro_FACS_Codes_v2.xlsx", "MICRO_ONLY", [*NOTES, *[[None]] * 10]),  # header in row 14
    ("SAMM_20181215_Micro_FACS_Codes_v2.xlsx", "Sheet1", []),  # in row 1
  ],
)
def test_rows_become_clips(tmp_path, table, sheet, above):
  source = tmp_path / "source"
  draw_release(source)
  save_table(source / table, [*above, HEADER, *ROWS], sheet)
  save_table(source / "SAMM_LongVideos_V2_Release.xlsx", [HEADER, *ROWS])
  builder = build("samm", tmp_path, images="raw")
  assert builder.labels == ("anger", "happiness", "contempt", "surprise", "others")
  assert labels(builder) == {
    "006/006_1_2/10001": "happiness",
    "007/007_3_1/17": "others",
    "007/007_3_2/17": "others",
    "028/028_4_1/17": "contempt",
    "033/033_1_5/17": "anger",
  }
  index = read_index(builder, "train")
  assert index.subject.tolist() == ["006", "007", "007", "028", "033"]
  assert index.apex.tolist() == [10001, 17, 17, -1, -1]
  rows = report(builder)
  assert statuses(builder) == {
    "028/028_4_1": "apex_out_of_range",
    "033/033_3_1": "other_label",
  }
  assert rows["028/028_4_1"]["apex"] == rows["033/033_1_5"]["apex"] == "middle"
  assert "published apex" in rows["028/028_4_1"]["note"]
  frame = source / "SAMM/006/006_1_2/006_10001.jpg"
  assert clip_files.stored(builder)["006/006_1_2/10001"] == frame.read_bytes()


def test_classes(tmp_path):
  source = tmp_path / "source"
  draw_release(source)
  save_table(source / "SAMM_Micro_FACS_Codes_v2.xlsx", [HEADER, *ROWS])
  three = build("samm", tmp_path, classes=3)
  assert three.labels == ("negative", "positive", "surprise")
  assert sorted(labels(three).values()) == ["negative", "negative", "negative", "positive"]
  eight = build("samm", tmp_path, classes=8)
  assert labels(eight)["033/033_3_1/17"] == "fear"
  assert set(eight.labels) == set(PUBLISHED)
  # There are no cropped frames: the raw ones are used, and the report states it.
  assert statuses(three)["SAMM"] == "only_raw"
  with pytest.raises(ValueError, match="3, 5 or 8, got 7"):
    build("samm", tmp_path, classes=7)


@pytest.mark.parametrize(
  ("classes", "expected"),
  [
    (5, {"anger": 57, "happiness": 26, "contempt": 12, "surprise": 15, "others": 26}),
    (3, {"negative": 92, "positive": 26, "surprise": 15}),
    (8, PUBLISHED),
  ],
)
def test_published_counts(tmp_path, classes, expected):
  source = tmp_path / "source"
  emotions = [name for name, count in PUBLISHED.items() for _ in range(count)]
  rows = [row(6, f"006_1_{n + 10}", 5, 7, 9, name) for n, name in enumerate(emotions)]
  save_table(source / "SAMM_Micro_FACS_Codes_v2.xlsx", [HEADER, *rows])
  draw_clip(source / "006_1_10", range(5, 10), "006_{:05}.jpg", grey=True)
  counts = known_counts(build("samm", tmp_path, classes=classes))
  assert {name: row[0] for name, row in counts.items()} == expected
  assert {name: row[1] for name, row in counts.items()} == expected
  assert sum(row[2] for row in counts.values()) == 1
