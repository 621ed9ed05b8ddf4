"""affectnet: its three releases as they are distributed, in drawn pictures, with every trap."""

import io
import json
import pathlib

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jax_me.data import demo_faces
from jax_me.data.builders import affectnet, affectnet_tasks, prepare
from jax_me.data.index import read_index
from jax_me.data.labels import EMOTIONS
from jax_me.faces.alignment import align_image

HEADER = (
  "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
  "expression,valence,arousal\n"
)
LANDMARKS = ";".join(["10.5"] * 136)
CORRUPT = "103/29a31ebf1567693f4644c8ba3476ca9a72ee07fe67a5860d98707a0a.jpg"


def draw(path: pathlib.Path, seed: int, size: int = 40) -> bytes:
  """A picture without a face, different for every seed, in the format that the name says."""
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
  picture = Image.fromarray(pixels).resize((size, size))
  data = io.BytesIO()
  picture.save(
    data, {".tif": "tiff", ".png": "png", ".bmp": "bmp"}.get(path.suffix.lower(), "jpeg")
  )
  path.write_bytes(data.getvalue())
  return data.getvalue()


def row(image: str, expression: object, box: tuple = (5, 5, 20, 20)) -> str:
  x, y, width, height = box
  return f"{image},{x},{y},{width},{height},{LANDMARKS},{expression},-0.1,0.2\n"


def build(folder: pathlib.Path, **options):
  source = options.pop("manual_dir", folder / "source")
  return prepare(
    "affectnet",
    data_dir=str(folder / "built"),
    manual_dir=None if source is None else str(source),
    workers=options.pop("workers", 0),
    **options,
  )


def report(builder) -> list[dict]:
  path = pathlib.Path(builder.data_path) / "report.jsonl"
  return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def statuses(builder) -> list[tuple[str, str]]:
  return sorted((r["file"], r["status"]) for r in report(builder) if r["status"] != "ok")


def summary(builder) -> dict:
  return json.loads((pathlib.Path(builder.data_path) / "summary.json").read_text())


def stored(builder, split: str) -> dict[str, bytes]:
  source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
  return {example["file"].decode(): example["image"] for example in source}


def labels(builder, split: str) -> dict[str, str]:
  index = read_index(builder, split)
  names = [index.label_names[label] for label in index.label]
  return dict(zip(index.file.tolist(), names, strict=True))


@pytest.fixture
def csv_release(tmp_path):
  """The release of 2017, nested as some copies are, with one specimen of each trap."""
  source = tmp_path / "source"
  lists = source / "Manually_Annotated_file_lists"
  images = source / "Manually_Annotated" / "Manually_Annotated_Images"
  lists.mkdir(parents=True)
  names = ["1/a.jpg", "1/b.JPG", "2/c.jpeg", "2/d.TIF", "2/e.png", "3/f.bmp", "3/g.jpg", "3/H.jpg"]
  for number, name in enumerate(names):
    draw(images / name, number)
  draw(images / "103" / "v0.jpg", 50)
  draw(images / "103" / "v7.jpg", 51)
  (images / "103" / "copy.jpg").write_bytes((images / "1" / "a.jpg").read_bytes())
  (images / CORRUPT).write_bytes((images / "103" / "v0.jpg").read_bytes()[:300])
  (images / "3" / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
  training = [row(name, code) for code, name in enumerate(names[:7])]
  training += [
    row("3/h.JPG", 7),  # spelt in another case than the file
    row("3\\g.jpg", 6),  # the same row again, as Windows writes it
    row("1/b.JPG", 2, (1, 1, 30, 30)),  # another face of the same picture
    *(row("2/e.png", code, (0, 0, 9, 9)) for code in (0, 1)),
    *(row("1/none.jpg", code) for code in (8, 9, 10)),
    row("1/nobox.jpg", 0, (-1, -1, -1, -1)),
    row("1/a.jpg", 3, (400, 400, 20, 20)),
    row("1/gone.jpg", 3),
    row("3/broken.jpg", 3),
    row("1/odd.jpg", 11),
    row("1/odd.jpg", "happy"),
    row("../outside.jpg", 1),
    "1/short.jpg,3\n",
    "\n",
  ]
  # One copy's header begins with "#", another's validation.csv has none.
  (lists / "training.csv").write_text("#" + HEADER + "".join(training), "utf-8")
  validation = [row("103/v0.jpg", 0), row("103/v7.jpg", "7"), row(CORRUPT, 1)]
  validation.append(row("103/copy.jpg", "2.0"))
  (lists / "validation.csv").write_text("".join(validation), "utf-8")
  other = source / "Automatically_Annotated" / "Automatically_Annotated_file_lists"
  other.mkdir(parents=True)
  (other / "automatically_annotated.csv").write_text(HEADER + row("9/x.jpg", 1))
  return tmp_path


def test_csv_release(csv_release):
  builder = build(csv_release)
  assert builder.options.release == "csv" and builder.labels == EMOTIONS
  assert labels(builder, "train") == {
    "1/a.jpg": "neutral",
    "1/b.JPG": "happiness",
    "1/b.JPG#2": "sadness",
    "2/c.jpeg": "sadness",
    "2/d.TIF": "surprise",
    "2/e.png": "fear",
    "3/f.bmp": "disgust",
    "3/g.jpg": "anger",
    "3/h.JPG": "contempt",
  }
  assert labels(builder, "validation") == {
    "103/v0.jpg": "neutral",
    "103/v7.jpg": "contempt",
    "103/copy.jpg": "sadness",
  }
  table = "Manually_Annotated_file_lists/training.csv"
  bad = [(name, status) for name, status in statuses(builder) if status != "bad_row"]
  assert bad == [
    ("1/a.jpg#2", "no_box"),
    ("1/gone.jpg", "missing"),
    ("1/nobox.jpg", "no_box"),
    ("1/none.jpg", "contradictory"),
    ("1/odd.jpg", "bad_annotation"),
    (CORRUPT, "known_corrupt"),
    ("2/e.png", "contradictory"),
    ("3/broken.jpg", "unreadable"),
    ("3/g.jpg", "duplicate"),
  ]
  rows = {r["file"]: r for r in report(builder)}
  assert [rows[f"{table}:{line}"]["detail"] for line in (22, 23, 24)] == [
    "expression 'happy' is not a number",
    "../outside.jpg is no path inside the folder of images",
    "no face_y, face_width, face_height, expression",
  ]
  # A picture that stands in both splits is told of, and kept.
  assert rows["103/copy.jpg"]["same_content_as"] == "1/a.jpg"


def test_faces_without_an_expression_are_counted_and_left_out(tmp_path):
  source = tmp_path / "source"
  for number in range(3):
    draw(source / "Manually_Annotated_Images" / "1" / f"{number}.jpg", number)
  rows = [row(f"1/{number}.jpg", number + 7) for number in range(3)]
  rows += [row("1/0.jpg", 0, (0, 0, 10, 10)), row("1/far.jpg", 10)]
  (source / "training.csv").write_text(HEADER + "".join(rows))
  builder = build(tmp_path)
  assert summary(builder)["files"] == {"missing_split": 1, "ok": 2, "no_expression": 3}
  details = [r["detail"] for r in report(builder) if r["status"] == "no_expression"]
  assert details == ["none", "uncertain", "non face"]
  seven = build(tmp_path, classes=7)
  assert seven.labels == EMOTIONS[:7] and labels(seven, "train") == {"1/0.jpg#2": "neutral"}
  assert ("1/0.jpg", "other_label") in statuses(seven)


def test_csv_crops_show_the_annotated_box_with_a_margin(tmp_path):
  source = tmp_path / "source"
  picture = np.zeros((300, 400, 3), np.uint8)
  picture[100:180, 50:110] = 200  # a box of 60 x 80 at (50, 100): x, y, width, height
  folder = source / "Manually_Annotated_Images" / "1"
  folder.mkdir(parents=True)
  Image.fromarray(picture).save(folder / "a.png")
  (source / "training.csv").write_text(HEADER + row("1/a.png", 1, (50, 100, 60, 80)))
  (builder, small) = (build(tmp_path, encoding="png"), build(tmp_path, size=48))
  image = builder.as_data_source("train")[0]["image"]
  np.testing.assert_array_equal(image, picture[92:188, 32:128])
  data = stored(small, "train")["1/a.png"]
  assert data.startswith(b"\xff\xd8") and Image.open(io.BytesIO(data)).size == (48, 48)


@pytest.mark.parametrize(
  ("box", "margin", "expected"),
  [
    ((2, 1, 4, 4), 0.0, (2, 1, 4, 0)),
    ((0, 0, 4, 4), 0.25, (0, 0, 6, 0)),  # moved inwards at the corner
    ((7, 4, 4, 4), 0.25, (4, 2, 6, 0)),  # what lies outside the picture does not count
    ((-3, -3, 6, 6), 0.0, (0, 0, 3, 0)),
    ((0, 0, 10, 8), 0.0, (0, 0, 10, 2)),  # larger than the picture: two black rows
  ],
)
def test_cut_square(box, margin, expected):
  image = np.random.default_rng(0).integers(1, 256, (8, 10, 3), np.uint8)
  x, y, side, black = expected
  cut = affectnet_tasks.cut_square(image, box, margin)
  assert cut.shape == (side, side, 3)
  assert (cut.max((1, 2)) == 0).sum() == black
  shown = cut[black // 2 : side - black // 2]
  np.testing.assert_array_equal(shown, image[y : y + side, x : x + side])


def annotate(folder: pathlib.Path, number: int, value: object, **kinds: object) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  for kind, content in {"exp": value, "val": "0.5", "aro": -2, **kinds}.items():
    np.save(folder / f"{number}_{kind}.npy", np.asarray(content))
  np.save(folder / f"{number}_lnd.npy", np.zeros(136))


@pytest.fixture
def npy_release(tmp_path):
  """The release of March 2021, its train_set doubled."""
  train = tmp_path / "source" / "train_set" / "train_set"
  # Ids have gaps; labels are numbers or text, with or without an axis.
  values = {0: "0", 2: 1, 9: np.array(["2"]), 10: 3.0, 11: b"4", 100: np.int64(7), 101: 8}
  for seed, (number, value) in enumerate(values.items()):
    annotate(train / "annotations", number, value)
    draw(train / "images" / f"{number}.{'JPG' if number == 2 else 'jpg'}", seed)
  annotate(train / "annotations", 200, 0)  # no image
  draw(train / "images" / "201.jpg", 201)  # no annotation
  for number in range(300, 304):
    draw(train / "images" / f"{number}.jpg", number)
    annotate(train / "annotations", number, "sad")
  (train / "annotations" / "301_exp.npy").write_bytes(b"")
  np.save(train / "annotations" / "302_exp.npy", np.array({"a": 1}), allow_pickle=True)
  np.save(train / "annotations" / "303_exp.npy", np.arange(2))
  (train / "annotations" / "._0_exp.npy").write_bytes(b"what macOS leaves")
  validation = tmp_path / "source" / "val_set"
  annotate(validation / "annotations", 0, "6")
  draw(validation / "images" / "0.png", 500)
  return tmp_path


def test_npy_release(npy_release):
  builder = build(npy_release)
  assert builder.options.release == "npy"
  train = "train_set/train_set/images"
  assert list(labels(builder, "train").items()) == [
    (f"{train}/0.jpg", "neutral"),
    (f"{train}/2.JPG", "happiness"),
    (f"{train}/9.jpg", "sadness"),
    (f"{train}/10.jpg", "surprise"),
    (f"{train}/11.jpg", "fear"),
    (f"{train}/100.jpg", "contempt"),
  ]
  assert labels(builder, "validation") == {"val_set/images/0.png": "anger"}
  assert statuses(builder) == [
    ("train_set/train_set/annotations/200_exp.npy", "missing"),
    (f"{train}/101.jpg", "no_expression"),
    (f"{train}/201.jpg", "not_listed"),
    *((f"{train}/{number}.jpg", "bad_annotation") for number in range(300, 304)),
  ]
  details = {r["file"]: r.get("detail", "") for r in report(builder)}
  for number, text in [(300, "'sad' is not a number"), (301, "empty"), (302, "allow_pickle")]:
    assert text in details[f"{train}/{number}.jpg"]
  for name, data in {**stored(builder, "train"), **stored(builder, "validation")}.items():
    assert data == (npy_release / "source" / name).read_bytes()


def test_plus_release(tmp_path):
  top = tmp_path / "source" / "AffectNet+" / "human_annotated"
  keys = ["human-label", "Human-Label", "HUMAN_LABEL", "Human Label", "soft-label", "human-label"]
  values = [3, "3", 3.0, [3], 3, 9]
  for number, (key, value) in enumerate(zip(keys, values, strict=True)):
    draw(top / "train_set" / "images" / f"{number}.jpg", number)
    content = {key: value, "Subset": 0, "Soft-Label2": [0.1] * 8}
    (top / "train_set" / "annotations").mkdir(exist_ok=True)
    (top / "train_set" / "annotations" / f"{number}.json").write_text(json.dumps(content))
  draw(top / "train_set" / "images" / "6.jpg", 6)
  (top / "train_set" / "annotations" / "6.json").write_text("{broken")
  draw(top / "validation_set" / "images" / "0.jpg", 0)
  (top / "validation_set" / "annotations").mkdir()
  (top / "validation_set" / "annotations" / "0.json").write_text('{"human-label": 0}')
  draw(top.parent / "no_human_annotated" / "images" / "0.jpg", 7)
  builder = build(tmp_path)
  prefix = "AffectNet+/human_annotated/train_set/images"
  assert labels(builder, "train") == {f"{prefix}/{n}.jpg": "surprise" for n in range(4)}
  assert read_index(builder, "validation").class_counts()["neutral"] == 1
  assert statuses(builder) == [
    (f"{prefix}/4.jpg", "bad_annotation"),
    (f"{prefix}/5.jpg", "no_expression"),
    (f"{prefix}/6.jpg", "bad_annotation"),
  ]
  details = {r["file"]: r.get("detail", "") for r in report(builder)}
  assert "its keys are soft-label, Subset" in details[f"{prefix}/4.jpg"]
  assert summary(builder)["known_counts"] == []


def test_the_release_is_part_of_the_dataset_and_found_again(npy_release):
  first = build(npy_release)
  # What changes nothing makes no second dataset, and no files are needed any more.
  for options in ({"release": "npy"}, {"size": 64, "encoding": "png"}, {"manual_dir": None}):
    assert build(npy_release, **options).data_path == first.data_path
  assert build(npy_release, size=64, manual_dir=None).data_path == first.data_path
  assert build(npy_release, classes=7).data_path != first.data_path
  with pytest.raises(ValueError, match="nothing was built with these options"):
    build(npy_release, align=True, manual_dir=None)
  draw(npy_release / "source" / "train_set" / "train_set" / "images" / "200.jpg", 9)
  second = build(npy_release)
  assert second.data_path != first.data_path and len(read_index(second)) == 7


def test_several_releases_or_copies_are_not_guessed_between(csv_release, npy_release):
  with pytest.raises(ValueError, match="releases csv and npy.*options.release=csv"):
    build(npy_release)
  assert build(npy_release, release="npy").options.release == "npy"
  with pytest.raises(ValueError, match="no AffectNet's release 'plus'"):
    build(npy_release, release="plus")
  copy = npy_release / "source" / "copy" / "val_set"
  annotate(copy / "annotations", 0, 1)
  draw(copy / "images" / "0.jpg", 1)
  with pytest.raises(ValueError, match="the split validation more than once"):
    build(npy_release, release="npy")


def is_clear(error: ValueError) -> bool:
  """Whether a message tells where AffectNet comes from, where to put it, and how to go without."""
  text = str(error)
  wanted = ("mohammadmahoor.com/affectnet", "--config.data.manual_dir=FOLDER", "training.csv")
  demo = "python run.py --config configs/mae_affectnet.py:demo"
  return all(text.count(part) == 1 for part in (*wanted, "_exp.npy", "<id>.json", demo))


def test_without_affectnet_one_error_says_what_to_do(tmp_path):
  (tmp_path / "empty").mkdir()
  draw(tmp_path / "wrong" / "happy" / "1.jpg", 1)
  (tmp_path / "wrong" / "images").mkdir()
  (tmp_path / "wrong" / "annotations").mkdir()
  for folder, message in [
    (None, "needs manual_dir"),
    ("missing", "is not a folder"),
    ("empty", "it is empty"),
    ("wrong", "it holds annotations, happy, images"),
  ]:
    source = None if folder is None else tmp_path / folder
    with pytest.raises(ValueError, match=message) as caught:
      build(tmp_path, manual_dir=source)
    assert is_clear(caught.value)
  assert not (tmp_path / "built").exists()


def test_lists_without_images_are_refused(tmp_path):
  (tmp_path / "source").mkdir()
  (tmp_path / "source" / "training.csv").write_text(HEADER + row("1/a.jpg", 1))
  with pytest.raises(ValueError, match="training.csv was found.*no folder of images"):
    build(tmp_path)
  (tmp_path / "source" / "Manually_Annotated_Images" / "1").mkdir(parents=True)
  with pytest.raises(ValueError, match="no usable image was found.*1 missing"):
    build(tmp_path)
  (tmp_path / "source" / "training.csv").write_text("subDirectory_filePath,expression\n1/a.jpg,1\n")
  with pytest.raises(ValueError, match=r"training.csv has no column face_x, face_y"):
    build(tmp_path)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"release": "2021"}, "auto, csv, npy, plus"),
    ({"classes": 6}, "7 or 8, got 6"),
    ({"size": 8}, "16, 4096"),
    ({"encoding": "gif"}, "jpg, png"),
    ({"on_no_face": "keep"}, "skip, center, error"),
  ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    build(tmp_path, **options)


def test_copies_are_held_against_the_published_numbers(npy_release, caplog, monkeypatch):
  with caplog.at_level("INFO"):
    builder = build(npy_release)
  assert "differs from the published numbers" in caplog.text
  rows = {(r["split"], r["class"]): r for r in summary(builder)["known_counts"]}
  assert len(rows) == 16
  assert sum(r["expected"] for r in rows.values() if r["split"] == "train") == 287_651
  assert sum(r["expected"] for r in rows.values() if r["split"] == "validation") == 3_999
  happy = rows["train", "happiness"]
  assert (happy["expected"], happy["found"], happy["stored"]) == (134_415, 1, 1)
  assert any(
    line.split() == ["train", "happiness", "134415", "1", "1", "differs"]
    for line in caplog.text.splitlines()
  )
  caplog.clear()
  known = {"npy": {"train": (1, 1, 1, 1, 1, 0, 0, 1), "validation": (0,) * 6 + (1, 0)}}
  monkeypatch.setattr(affectnet, "KNOWN_COUNTS", known)
  with caplog.at_level("INFO"):
    build(npy_release, align=True, on_no_face="center", size=32)
  assert "all 16 class counts are as published" in caplog.text


def test_workers_change_nothing(csv_release, monkeypatch):
  alone = build(csv_release)
  files = {path.name: path.read_bytes() for path in pathlib.Path(alone.data_path).iterdir()}
  monkeypatch.setattr(affectnet, "ENTRIES_PER_TASK", 4)
  monkeypatch.setattr(affectnet, "TASKS_PER_WORKER", 2)
  together = prepare(
    "affectnet",
    data_dir=str(csv_release / "again"),
    manual_dir=str(csv_release / "source"),
    workers=2,
  )
  for path in pathlib.Path(together.data_path).iterdir():
    if path.suffix != ".json" or path.name in ("identity.json", "summary.json"):
      assert path.read_bytes() == files[path.name], path.name


def test_pictures_without_a_face_follow_the_policy(npy_release):
  with pytest.raises(ValueError, match=r"images/0\.jpg: no face"):
    build(npy_release, align=True, size=32, on_no_face="error")
  with pytest.raises(ValueError, match="no usable image was found"):
    build(npy_release, align=True, size=32)
  builder = build(npy_release, align=True, size=32, on_no_face="center")
  images = [example["image"] for example in builder.as_data_source("train")]
  assert {image.shape for image in images} == {(32, 32, 3)}
  assert summary(builder)["files"]["centered"] == 7


def test_alignment_takes_the_annotated_person(tmp_path):
  """Two synthetic people in one picture, of whom the smaller is annotated."""
  people = [demo_faces.demo_clip(0, demo_faces.DemoSubject(0, n), 0) for n in range(2)]
  large, other = (clip.frame(clip.onset) for clip in people)
  small = cv2.resize(other, (250, 250), interpolation=cv2.INTER_AREA)
  picture = np.full((336, 700, 3), 90, np.uint8)
  picture[:, :336] = large
  picture[40:290, 420:670] = small
  folder = tmp_path / "source" / "Manually_Annotated_Images" / "7"
  folder.mkdir(parents=True)
  Image.fromarray(picture).save(folder / "two.png")
  box = (420 + 70, 40 + 80, 112, 112)
  (tmp_path / "source" / "training.csv").write_text(HEADER + row("7/two.png", 1, box))
  builder = build(tmp_path, align=True, size=96, encoding="png")
  face = builder.as_data_source("train")[0]["image"].astype(int)
  right = align_image(small, 96).image
  wrong = align_image(large, 96).image
  assert np.abs(face - right).mean() < 5 < np.abs(face - wrong).mean()
