"""megc2019: the organisers' list takes precedence over the annotation tables."""

import csv
import pathlib

import pytest

import jax_me
from jax_me.data import folds
from jax_me.data.index import read_index
from jax_me.datasets.micro.megc2019 import read_samples
from tests.helpers.clip_files import (
  build,
  draw_clip,
  known_counts,
  labels,
  report,
  save_table,
  statuses,
)

EMOTIONS = {
  "casme2": ("repression", "happiness", "surprise"),
  "samm": ("Anger", "Happiness", "Surprise"),
}
HEADERS = {
  "casme2": ["OnsetFrame", "ApexFrame", "OffsetFrame", "Estimated Emotion"],
  "samm": ["Onset Frame", "Apex Frame", "Offset Frame", "Estimated Emotion"],
}
TABLES = {"casme2": "CASME2-coding-20140508.xlsx", "samm": "SAMM_Micro_FACS_Codes_v2.xlsx"}


def official_rows():
  """Returns the organisers' rows: database, subject, clip and code."""
  path = pathlib.Path(jax_me.__file__).parent / "datasets" / "micro" / "megc2019_clips.csv"
  return list(csv.reader(path.read_text().splitlines()))


def write_tables(source, rows):
  for database, header in HEADERS.items():
    table = [["Subject", "Filename", *header]]
    for name, subject, clip, code in rows:
      if name == database:
        person = int(subject.removeprefix("sub"))
        table.append([person, clip, 5, 6, 7, EMOTIONS[database][int(code)]])
    save_table(source / "tables" / TABLES[database], table)


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
  """All clips with the names of their releases, and some that are not in the list."""
  folder = tmp_path_factory.mktemp("megc")
  source = folder / "source"
  rows = official_rows()
  for database, subject, clip, code in rows:
    if database == "casme2":
      draw_clip(source / "a/Cropped" / subject / clip, range(5, 8), "reg_img{}.jpg", (16, 16))
    elif database == "samm":
      person = subject.zfill(3)
      draw_clip(source / "b/SAMM" / person / clip, range(5, 8), person + "_{:05}.jpg", (16, 16))
    else:
      person, kind, number = clip.split("_")
      name = f"s{int(person[1:])}_{kind}_{number}"
      group = ("negative", "positive", "surprise")[int(code)]
      clip = source / f"c/SMIC_all_cropped/HS/s{int(person[1:])}/micro" / group / name
      draw_clip(clip, range(5, 8), "reg_image{}.bmp", (16, 16))
  # The class rules would include these two as well; the list does not.
  extra = [("casme2", "sub04", "EP12_01f", "0"), ("casme2", "sub05", "EP09_05f", "0")]
  for _, subject, clip, _ in extra:
    draw_clip(source / "a/Cropped" / subject / clip, range(5, 8), "reg_img{}.jpg", (16, 16))
  write_tables(source, [*rows, *extra])
  return folder


def test_the_official_list(releases):
  builder = build("megc2019", releases)
  index = read_index(builder, "train")
  assert index.label_names == ("negative", "positive", "surprise")
  assert len(index) == 442
  assert index.class_counts() == {"negative": 250, "positive": 109, "surprise": 83}
  table = {
    database: tuple((index.label[index.database == database] == code).sum() for code in range(3))
    for database in set(index.database)
  }
  assert table == {"smic": (70, 51, 43), "casme2": (88, 32, 25), "samm": (92, 26, 15)}
  subjects = {d: len(set(index.subject[index.database == d])) for d in set(index.database)}
  assert subjects == {"smic": 16, "casme2": 24, "samm": 28}
  assert len(folds.leave_one_subject_out(index)) == 68
  assert [fold.name for fold in folds.leave_one_database_out(index)] == ["casme2", "samm", "smic"]
  assert known_counts(builder) == {
    "negative": (250, 250, 250),
    "positive": (109, 109, 109),
    "surprise": (83, 83, 83),
  }
  assert statuses(builder) == {"SAMM": "only_raw"}
  assert [row[3] for row in official_rows()] == [str(label) for label in index.label]
  # SMIC has no apex; the others' is kept.
  assert set(index.apex[index.database == "smic"]) == {-1}
  assert set(index.apex[index.database != "smic"]) == {6}


def test_names_of_the_list():
  samples = read_samples()
  assert len({(sample.database, sample.subject) for sample in samples}) == 68
  assert samples[0] == ("casme2", "sub01", "EP02_01f", "positive")
  assert ("samm", "006", "006_1_2", "negative") in samples
  assert ("smic", "s01", "s01_ne_01", "negative") in samples
  # Clips that other programs leave out or add.
  assert ("casme2", "sub05", "EP12_03f", "surprise") in samples
  clips = {(sample.subject, sample.clip) for sample in samples}
  assert not clips & {("sub04", "EP12_01f"), ("sub05", "EP09_05f"), ("sub24", "EP02_07")}


def test_missing_and_contradictory_annotations(releases):
  """The list's label is kept, and missing clips are reported."""
  rows = official_rows()
  rows[0] = ["casme2", "sub01", "EP02_01f", "2"]
  changed = releases / "again"
  (changed / "source").mkdir(parents=True)
  for name in ("a", "b", "c"):
    (changed / "source" / name).symlink_to(releases / "source" / name)
  missing = next(row for row in rows if row[0] == "samm")
  write_tables(changed / "source", [row for row in rows if row is not missing])
  builder = build("megc2019", changed, follow_links=True)
  assert labels(builder)["casme2/sub01/EP02_01f/6"] == "positive"
  assert len(labels(builder)) == 441
  file = f"samm/{missing[1].zfill(3)}/{missing[2]}"
  assert statuses(builder) == {"SAMM": "only_raw", file: "missing_frames"}
  assert report(builder)[file]["detail"]
  assert known_counts(builder)["negative"] == (250, 250, 249)


def test_tables_are_identified_by_the_clips_that_they_list(releases):
  """Their columns have the same names except for spaces."""
  named = releases / "named"
  (named / "source").mkdir(parents=True)
  for name in ("a", "b", "c"):
    (named / "source" / name).symlink_to(releases / "source" / name)
  write_tables(named / "source", official_rows())
  tables = named / "source" / "tables"
  for number, name in enumerate(TABLES.values()):
    (tables / name).rename(tables / f"label{number}.xlsx")
  assert len(labels(build("megc2019", named, follow_links=True))) == 442
  (tables / "label2.xlsx").write_bytes((tables / "label0.xlsx").read_bytes())
  with pytest.raises(ValueError, match="--config.data.options.casme2_table=tables/label0.xlsx"):
    build("megc2019", named, follow_links=True)


def test_all_three_databases_are_required(tmp_path):
  source = tmp_path / "source"
  draw_clip(source / "s1/micro/negative/s1_ne_01", range(5, 8), "reg_image{}.bmp", (16, 16))
  with pytest.raises(ValueError, match="no frames of CASME II"):
    build("megc2019", tmp_path)
