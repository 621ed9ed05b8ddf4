"""labeled_images: every layout, mistakes in labels.csv, and real photographs."""

import collections
import json
import pathlib

import cv2
import numpy as np
import pytest
from PIL import Image

from jax_me.data import folds, image_store
from jax_me.data.index import read_index
from jax_me.datasets.catalog import prepare
from jax_me.datasets.generation.process_images import EXIF_ORIENTATION
from jax_me.datasets.labeled_folder import process_folder
from jax_me.datasets.labeled_folder.annotations import FolderImage


def draw(path: pathlib.Path, value: int = 100, size: tuple[int, int] = (12, 10)) -> None:
  """Writes a small image without a face, in the format of the name."""
  path.parent.mkdir(parents=True, exist_ok=True)
  image = np.full((*size, 3), value, np.uint8)
  image[0, 0] = 255 - value
  assert cv2.imwrite(str(path), image)


def build(folder, **options):
  options = {"align": False, "workers": 0, **options}
  return prepare(
    "labeled_images", data_dir=str(folder / ".built"), manual_dir=str(folder), **options
  )


def report(builder) -> list[dict]:
  path = pathlib.Path(builder.data_path) / "report.jsonl"
  return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def statuses(builder) -> dict[str, str]:
  return {row["file"]: row["status"] for row in report(builder) if row["status"] != "ok"}


@pytest.fixture
def table(tmp_path):
  """Writes labels.csv and the images 1.png to 12.png; returns the folder."""

  def write(text: str, encoding: str = "utf-8"):
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    for number in range(1, 13):
      draw(tmp_path / f"{number}.png", number)
    return tmp_path

  return write


def test_table_with_all_columns_in_numeric_order(table):
  rows = [f"{n}.png,{'Glad' if n % 2 else 'calm'},p{n % 3},c,{n}.0" for n in range(1, 13)]
  folder = table("\ufeff File , Expression,SUBJECT,clip,frame\r\n" + "\r\n".join(rows))
  builder = build(folder)
  index = read_index(builder)
  assert index.label_names == ("calm", "glad") and len(index) == 12
  # Frames of a clip in the order of their numbers: 9 before 12.
  assert index.file[:4].tolist() == ["3.png", "6.png", "9.png", "12.png"]
  assert index.frame[:4].tolist() == [3, 6, 9, 12] and set(index.clip) == {"c"}
  source = builder.as_data_source("train")
  assert [int(source[row]["image"][5, 5, 0]) for row in range(4)] == [3, 6, 9, 12]
  assert statuses(builder) == {}


def test_every_mistake_in_a_table_is_a_report_row(table):
  folder = table(
    "file;label;notes\n1.png;calm;a\n1.png;calm;b\n2.png;calm;\n2.png;glad;\n"
    "none.png;calm;\n3.png;;\n4.png;calm\n\n5.png;glad;\n"
  )
  (folder / "6.png").write_bytes(b"")
  (folder / "labels.csv").open("a").write("6.png;glad;\n")
  builder = build(folder)
  assert read_index(builder).file.tolist() == ["1.png", "5.png"]
  expected = {
    "labels.csv": "unknown_column",
    "1.png": "duplicate",
    "2.png": "contradictory",
    "none.png": "missing",
    "3.png": "bad_row",
    "labels.csv:8": "bad_row",
    "6.png": "unreadable",
    "4.png": "not_listed",
    "12.png": "not_listed",
  }
  assert expected.items() <= statuses(builder).items()
  summary = json.loads((pathlib.Path(builder.data_path) / "summary.json").read_text())
  assert summary["files"]["ok"] == 2 and summary["files"]["unreadable"] == 1


def test_files_are_found_in_images_in_another_case_and_with_backslashes(tmp_path):
  for name in ("images/A.JPG", "images/sub/b.png", "c.png"):
    draw(tmp_path / name)
  (tmp_path / "labels.csv").write_text("file,label\na.jpg,x\nsub\\b.png,y\n./c.png,y\n")
  index = read_index(build(tmp_path))
  assert index.file.tolist() == ["c.png", "images/A.JPG", "images/sub/b.png"]


def test_valence_and_arousal_of_the_table(tmp_path):
  for number in range(4):
    draw(tmp_path / f"{number}.png")
  rows = "0.png,x,0.5,-1\n1.png,x,,\n2.png,x,0.5,\n3.png,x,0,1.5\n"
  (tmp_path / "labels.csv").write_text("file,label,Valence,arousal\n" + rows)
  builder = build(tmp_path)
  index = read_index(builder)
  np.testing.assert_array_equal(index.affect, [[0.5, -1], [np.nan, np.nan]])
  assert index.take([1]).affect.shape == (1, 2)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("name,emotion\n1.png,calm\n", "no column file; its columns are: name, emotion"),
    ("file,valence\n1.png,1\n", r"no column label \(or expression\)"),
    ("file,file,label\n1.png,1.png,calm\n", "appears twice"),
    ("", "is empty"),
    ("file,label\nx.png,calm\n", "gives no image: 1 missing"),
    ("file,label,subject\n1.png,calm,ann\n2.png,calm,\n", "1 of 2 images have no subject"),
  ],
)
def test_unusable_tables_are_rejected_with_the_reason(table, text, message):
  with pytest.raises(ValueError, match=message):
    build(table(text))


def test_tables_in_another_encoding_are_rejected(table):
  with pytest.raises(ValueError, match="save it as UTF-8"):
    build(table("file,label\n1.png,fröhlich\n", "latin-1"))


def test_invalid_numbers_and_splits_are_report_rows(table):
  folder = table("file,label,frame,split\n1.png,x,two,\n2.png,x,-3,\n3.png,x,4,dev\n4.png,x,5,\n")
  builder = build(folder)
  assert read_index(builder).frame.tolist() == [5]
  assert [statuses(builder)[f"{n}.png"] for n in (1, 2, 3)] == ["bad_row"] * 3


def test_class_folders(tmp_path):
  for name in ("Sad/x.png", "Sad/y.jpg", "happy/x.png", "readme.png"):
    draw(tmp_path / name)
  (tmp_path / "happy" / "Thumbs.db").write_text("x")
  builder = build(tmp_path)
  index = read_index(builder)
  assert index.label_names == ("happy", "sad")
  # Equal names in different folders are different images.
  assert sorted(index.file) == ["Sad/x.png", "Sad/y.jpg", "happy/x.png"]
  assert statuses(builder) == {"readme.png": "unexpected_place"}


def test_labels_have_one_spelling(tmp_path):
  for name in ("Half_Smile", "half-smile", " half  smile", "_"):
    draw(tmp_path / name / "x.png")
  builder = build(tmp_path)
  assert read_index(builder).label_names == ("half smile",) and len(read_index(builder)) == 3
  assert statuses(builder) == {"_/x.png": "unexpected_place"}
  chosen = build(tmp_path, labels=["HALF_SMILE"])
  assert read_index(chosen).label_names == ("half smile",)


def test_split_folders_give_the_official_split(tmp_path):
  for split, count in (("train", 3), ("val", 1), ("test", 2)):
    for label in ("a", "b"):
      for number in range(count):
        draw(tmp_path / split / label / f"{number}.png", number)
  builder = build(tmp_path)
  assert {name: info.num_examples for name, info in builder.info.splits.items()} == {
    "train": 6,
    "validation": 2,
    "test": 4,
  }
  index = read_index(builder, "train+test")
  fold = folds.official_fold(index)
  assert (len(fold.train), len(fold.test)) == (6, 4)
  assert all(name.startswith("test/") for name in index.file[fold.test])
  images = image_store.ImageStore(builder, "train+test", image_size=8)
  numbers = [int(pathlib.Path(name).stem) for name in index.file]
  assert images.images(range(10))[:, 4, 4, 0].tolist() == numbers


def test_subject_class_clip_folders(tmp_path):
  for person in ("s1", "s2"):
    for label in ("negative", "positive"):
      for frame in (1, 2, 10):
        draw(tmp_path / person / label / "c1" / f"img{frame}.png", frame)
  index = read_index(build(tmp_path))
  assert index.subject[:6].tolist() == ["s1"] * 6
  assert index.frame[:3].tolist() == [1, 2, 10]
  # Clip "c1" of two classes is two recordings.
  assert set(index.clip) == {"negative/c1", "positive/c1"}


@pytest.mark.parametrize("names", [[], ["a.png"], ["x/y/z.png"], ["a/b/c/d/e.png"]])
def test_folders_of_another_layout_are_rejected(tmp_path, names):
  for name in names:
    draw(tmp_path / name)
  with pytest.raises(ValueError, match="must hold a labels.csv"):
    build(tmp_path)


def test_chosen_labels_fix_order_and_content(tmp_path):
  for label in ("anger", "Fear", "happy"):
    draw(tmp_path / label / "x.png")
  builder = build(tmp_path, labels=["happy", "Anger"])
  index = read_index(builder)
  assert index.label_names == ("happy", "anger")
  assert sorted(zip(index.file, index.label, strict=True)) == [
    ("anger/x.png", 1),
    ("happy/x.png", 0),
  ]
  assert statuses(builder) == {"Fear/x.png": "other_label"}
  with pytest.raises(ValueError, match="no images of joy; it has: anger, fear, happy"):
    build(tmp_path, labels=("joy",))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"size": 0}, "in .16, 4096. pixels, got 0"),
    ({"on_no_face": "keep"}, "skip, center, error"),
    ({"encoding": "gif"}, "png, jpg"),
    ({"labels": ("a", "A")}, "must be different"),
    ({"alin": True}, "did you mean 'align'"),
  ],
)
def test_invalid_options_are_rejected(tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    build(tmp_path, **options)


def test_alignment_options_have_no_effect_without_alignment(tmp_path):
  draw(tmp_path / "a" / "x.png")
  assert build(tmp_path, size=64).data_path == build(tmp_path, size=96).data_path


def test_new_file_or_label_makes_another_build(table):
  folder = table("file,label\n1.png,calm\n")
  first = build(folder)
  table("file,label\n1.png,glad\n")
  second = build(folder)
  assert second.data_path != first.data_path
  (folder / "notes.txt").write_text("no part of the data")
  assert build(folder).data_path == second.data_path
  assert read_index(second).label_names == ("glad",)


def test_ordinary_images_keep_their_bytes_and_others_become_png(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3), np.uint8)
  folder = tmp_path / "a"
  folder.mkdir()
  image = Image.fromarray(pixels)
  image.save(folder / "plain.jpg")
  image.save(folder / "plain.png")
  image.convert("L").save(folder / "grey.jpg")
  image.convert("CMYK").save(folder / "cmyk.jpg")
  image.save(folder / "bitmap.bmp")
  Image.fromarray(np.full((6, 6), 65535, np.uint16)).save(folder / "deep.png")
  exif = Image.Exif()
  exif[EXIF_ORIENTATION] = 6
  image.save(folder / "turned.jpg", exif=exif)
  (folder / "text.png").write_text("not an image")
  builder = build(tmp_path)
  stored = {}
  for example in builder.as_data_source("train", decoders={"image": _skip_decoding()}):
    stored[example["file"].decode()] = example["image"]
  for name in ("plain.jpg", "plain.png", "grey.jpg"):
    assert stored[f"a/{name}"] == (folder / name).read_bytes()
  for name in ("cmyk.jpg", "bitmap.bmp", "deep.png", "turned.jpg"):
    assert stored[f"a/{name}"].startswith(b"\x89PNG")
  decoded = cv2.imdecode(np.frombuffer(stored["a/turned.jpg"], np.uint8), cv2.IMREAD_COLOR)
  assert decoded.shape == (12, 16, 3)
  assert statuses(builder) == {"a/text.png": "unreadable"}


def _skip_decoding():
  import tensorflow_datasets as tfds

  return tfds.decode.SkipDecoding()


def test_duplicates_are_reported(tmp_path):
  draw(tmp_path / "a" / "1.png")
  draw(tmp_path / "b" / "2.png")
  rows = report(build(tmp_path))
  assert [row.get("same_content_as") for row in rows] == [None, "a/1.png"]


def test_images_without_a_face_follow_on_no_face(tmp_path):
  draw(tmp_path / "a" / "x.png", size=(64, 64))
  with pytest.raises(ValueError, match="no usable image was found.*1 no_face"):
    build(tmp_path, align=True, size=32)
  with pytest.raises(ValueError, match="a/x.png: no face"):
    build(tmp_path, align=True, size=32, on_no_face="error")
  builder = build(tmp_path, align=True, size=32, on_no_face="center")
  assert builder.as_data_source("train")[0]["image"].shape == (32, 32, 3)
  assert statuses(builder) == {"a/x.png": "centered"}


def test_photographs_share_tasks_and_clips_do_not(monkeypatch):
  monkeypatch.setattr(process_folder, "FILES_PER_TASK", 2)
  x = FolderImage("x", "label")
  one, two, other = (FolderImage(name, "label", clip=name[0]) for name in ("c1", "c2", "d1"))
  images = [x, x, x, one, two, other, x]
  made = list(process_folder.folder_tasks(images, align=True))
  assert made == [[x, x], [x], [one, two], [other], [x]]
  assert [len(task) for task in process_folder.folder_tasks(images, align=False)] == [2, 2, 2, 1]


def test_links_to_folders_above_are_followed_once(tmp_path):
  draw(tmp_path / "a" / "x.png")
  (tmp_path / "a" / "loop").symlink_to(tmp_path)
  assert read_index(build(tmp_path)).file.tolist() == ["a/x.png"]


def test_real_faces_as_they_are(tmp_path, london_faces):
  builder = prepare(
    "labeled_images", data_dir=str(tmp_path), manual_dir=str(london_faces), align=False
  )
  index = read_index(builder)
  assert index.class_counts() == {"happy": 62, "neutral": 62}
  assert collections.Counter(index.subject.tolist()) == dict.fromkeys(set(index.subject), 2)
  assert len(set(index.subject)) == 62
  for fold in folds.k_folds(index, 5):
    assert len(fold.test) in (24, 26)
    counts = np.bincount(index.label[fold.test])
    assert counts[0] == counts[1]


def test_real_faces_aligned_alone_and_as_a_clip(tmp_path, london_faces):
  lines = ["file,label,subject,clip,frame", "1.jpg,happy,a,,", "9.jpg,happy,b,c,9"]
  lines += ["10.jpg,happy,b,c,10", "11.jpg,happy,b,c,11"]
  (tmp_path / "labels.csv").write_text("\n".join(lines))
  image = cv2.imread(str(london_faces / "images" / "001_happy.jpg"))
  cv2.imwrite(str(tmp_path / "1.jpg"), image)
  (tmp_path / "9.jpg").write_bytes(b"broken")
  cv2.imwrite(str(tmp_path / "10.jpg"), image)
  # The face moves 20 pixels to the right: one transform for the clip keeps that motion.
  cv2.imwrite(str(tmp_path / "11.jpg"), np.roll(image, 20, axis=1))
  builder = build(tmp_path, align=True, size=96)
  assert read_index(builder).file.tolist() == ["1.jpg", "10.jpg", "11.jpg"]
  rows = {row["file"]: row for row in report(builder)}
  assert rows["9.jpg"]["status"] == "unreadable" and rows["1.jpg"]["status"] == "ok"
  assert rows["10.jpg"]["transform"] == rows["11.jpg"]["transform"]
  alone, first, moved = (example["image"] for example in builder.as_data_source("train"))
  assert alone.shape == (96, 96, 3) and 60 < alone.mean() < 220
  assert np.abs(alone.astype(int) - first).mean() < 5 < np.abs(moved.astype(int) - first).mean()


def test_all_images_of_a_folder_without_labels(tmp_path):
  for name in ("train/a.png", "train/b.png", "test/deep/er/c.png", "d.png"):
    draw(tmp_path / name)
  builder = build(tmp_path, unlabeled=True)
  index = read_index(builder)
  assert index.label_names == ("unlabeled",) and len(index) == 4
  assert statuses(builder) == {}


def test_images_of_train_without_classes_are_unlabeled(tmp_path):
  draw(tmp_path / "train" / "a.png")
  assert read_index(build(tmp_path, unlabeled=True)).label_names == ("unlabeled",)


def test_labels_are_kept_and_share_their_build(tmp_path):
  draw(tmp_path / "glad" / "a.png")
  draw(tmp_path / "calm" / "b.png")
  builder = build(tmp_path, unlabeled=True)
  assert read_index(builder).label_names == ("calm", "glad")
  assert builder.data_path == build(tmp_path).data_path
  opened = prepare("labeled_images", data_dir=str(tmp_path / ".built"), align=False, unlabeled=True)
  assert opened.data_path == builder.data_path


def test_images_of_motion_are_not_aligned(tmp_path):
  draw(tmp_path / "glad" / "a.png")
  builder = build(tmp_path, align=True, input="flow")
  assert not builder.options.align and len(read_index(builder)) == 1
  with pytest.raises(ValueError, match="input must be one of"):
    build(tmp_path, input="flou")
