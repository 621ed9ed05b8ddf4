"""smic: three cameras, cropped and raw, and the longer recordings of SMIC-E with their table."""

import pytest

from jax_me.data.index import read_index
from tests.helpers.clip_files import (
  build,
  draw_clip,
  known_counts,
  labels,
  report,
  save_table,
  statuses,
)

HEADER = ["Subject", "Filename", "OnsetF", "OffsetF", "Onset2F", "Offset2F", "Onset3F", "Offset3F"]
HEADER += ["FirstF", "LastF", "TotalMF1", "TotalMF2", "TotalMF3", "TotalVL", "Emotion"]
NUMBERS = range(559740, 559745)


def draw_release(top, name):
  """Draws s1 and s2 for the camera HS, s11 for all three."""
  hs = top / "HS"
  draw_clip(hs / "s1/micro/negative/s1_ne_01", NUMBERS, name)
  draw_clip(hs / "s1/micro/negative/s1_ne_10", NUMBERS, name)
  draw_clip(hs / "s1/micro/negative/s1_ne_02", NUMBERS, name)
  draw_clip(hs / "s2/micro/positive/s2_po_01", NUMBERS, name)
  draw_clip(hs / "s11/micro/surprise/s11_sur_01", NUMBERS, name)
  draw_clip(hs / "s1/non_micro/s1_ne_03", NUMBERS, name)
  draw_clip(hs / "s2/non_micro/s2_non_01", NUMBERS, name)
  draw_clip(top / "VIS/s11/micro/positive/s11_po_01", range(7, 11), name)
  draw_clip(top / "NIR/s11/micro/positive/s11_po_01", range(9, 12), name)


@pytest.fixture
def release(tmp_path):
  draw_release(tmp_path / "source" / "SMIC_all_cropped", "reg_image{}.bmp")
  draw_release(tmp_path / "source" / "SMIC_all_raw", "image{}.bmp")
  return tmp_path


def test_folders_become_clips(release):
  builder = build("smic", release)
  assert builder.labels == ("negative", "positive", "surprise")
  assert labels(builder) == {
    "s01/s1_ne_01/559742": "negative",
    "s01/s1_ne_02/559742": "negative",
    "s01/s1_ne_10/559742": "negative",
    "s02/s2_po_01/559742": "positive",
    "s11/s11_sur_01/559742": "surprise",
  }
  index = read_index(builder, "train")
  assert index.subject.tolist() == ["s01", "s01", "s01", "s02", "s11"]
  assert set(index.apex.tolist()) == {-1} and set(index.onset.tolist()) == {559740}
  rows = report(builder)
  assert {row["apex"] for row in rows.values()} == {"middle"} and not statuses(builder)
  assert known_counts(builder) == {"negative": (70, 3, 3), "positive": (51, 1, 1)} | {
    "surprise": (43, 1, 1)
  }


@pytest.mark.parametrize(("subset", "middle"), [("vis", 8), ("nir", 10)])
def test_the_other_cameras(release, subset, middle):
  builder = build("smic", release, subset=subset, images="raw")
  assert labels(builder) == {f"s11/s11_po_01/{middle}": "positive"}
  assert not known_counts(builder)


def test_the_folder_of_one_camera(tmp_path):
  draw_clip(tmp_path / "source/s1/micro/negative/s1_ne_01", NUMBERS, "reg_image{}.bmp")
  assert len(labels(build("smic", tmp_path))) == 1
  with pytest.raises(ValueError, match="no frames of SMIC-E, HS .it holds s1."):
    build("smic", tmp_path, extended=True)
  # A folder with the name of one camera is not used for another.
  draw_clip(tmp_path / "NIR/source/s11/micro/negative/s11_ne_01", NUMBERS, "reg_image{}.bmp")
  assert len(labels(build("smic", tmp_path / "NIR", subset="nir"))) == 1
  with pytest.raises(ValueError, match="no frames of SMIC, HS"):
    build("smic", tmp_path / "NIR")
  with pytest.raises(ValueError, match="hs, vis, nir: 'he'"):
    build("smic", tmp_path, subset="he")
  # The table belongs to SMIC-E.
  assert build("smic", tmp_path, table="x").data_path == build("smic", tmp_path).data_path


@pytest.mark.parametrize("table", ["SMIC-HS-E_annotation.xlsx", "SMIC-HS-E_annotation_2019.xlsx"])
def test_longer_recordings(release, table):
  top = release / "source" / "SMIC-E_raw image" / "HS_long"
  long = range(17581030, 17581060)
  name = "image{}.jpg"
  for clip in ("s01/s1_ne_01", "s01/s1_ne_02", "s11/s11_sur_01", "s20/s20_po_01"):
    draw_clip(top / "SMIC-HS-E" / clip, long, name)
  draw_clip(release / "source/SMIC-E_raw image/VIS_long/SMIC-VIS-E/s11/s11_sur_01", long, name)
  start, blank = 17581030, [None] * 4
  ends = [start, start + 29, 5, None, None, 30]
  rows = [
    HEADER,
    [1, "s1_ne_01", start + 5, start + 9, *blank, *ends, "negative"],
    ["01", "s01_ne_02", start + 5, start + 9, start + 20, start + 24, None, None, *ends, "ne"],
    [11, "s11_sur_01", start + 1, start + 5, *blank, *ends, "positive"],
    [11, "s11_po_01", start + 1, start + 5, *blank, *ends, "positive"],  # no frames
    [12, "s12_po_01", None, start + 5, *blank, *ends, "positive"],
    ["Notes", "MF: micro-expression frames", 1, 2],
    ["VL: length of the recording"],
  ]
  save_table(top / "SMIC-HS-E" / table, rows)
  vis = top.parent / "VIS_long" / "SMIC-VIS-E_annotation.xlsx"
  save_table(vis, [HEADER, [11, "s11_sur_01", start + 1, start + 5, *blank, *ends, "surprise"]])
  builder = build("smic", release, extended=True)
  assert labels(builder) == {
    f"s01/s1_ne_01/{start + 7}": "negative",
    f"s01/s01_ne_02/{start + 7}": "negative",
    f"s01/s01_ne_02#2/{start + 22}": "negative",
    f"s11/s11_sur_01/{start + 3}": "surprise",
  }
  assert statuses(builder) == {
    "SMIC-E, HS": "only_raw",
    "s11/s11_sur_01#emotion": "two_labels",
    "s11/s11_po_01": "missing_frames",
    "s12/s12_po_01": "bad_annotation",
    f"{table}#7": "no_clip",
    f"{table}#8": "no_clip",
    "SMIC-E_raw image/HS_long/SMIC-HS-E/s20/s20_po_01": "not_listed",
  }
  assert len(labels(build("smic", release, subset="vis", extended=True))) == 1
  # The two releases are not confused.
  assert len(labels(build("smic", release, images="raw"))) == 5
