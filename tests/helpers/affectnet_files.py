"""AffectNet's releases with generated images, and with one example of each defect."""

import pathlib

import numpy as np

from jax_me.datasets.catalog import prepare
from tests.helpers.built_datasets import draw

HEADER = (
  "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
  "expression,valence,arousal\n"
)
LANDMARKS = ";".join(["10.5"] * 136)
CORRUPT = "103/29a31ebf1567693f4644c8ba3476ca9a72ee07fe67a5860d98707a0a.jpg"


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


def csv_release(folder: pathlib.Path) -> pathlib.Path:
  """The csv release of 2017, nested as some copies are, with one example of each defect."""
  source = folder / "source"
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
    row("3/h.JPG", 7),  # another case than the file name
    row("3\\g.jpg", 6),  # duplicate row with a Windows path
    row("1/b.JPG", 2, (1, 1, 30, 30)),  # another face of the same image
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
  # In some copies the header begins with "#", or validation.csv has none.
  (lists / "training.csv").write_text("#" + HEADER + "".join(training), "utf-8")
  validation = [row("103/v0.jpg", 0), row("103/v7.jpg", "7"), row(CORRUPT, 1)]
  validation.append(row("103/copy.jpg", "2.0"))
  (lists / "validation.csv").write_text("".join(validation), "utf-8")
  other = source / "Automatically_Annotated" / "Automatically_Annotated_file_lists"
  other.mkdir(parents=True)
  (other / "automatically_annotated.csv").write_text(HEADER + row("9/x.jpg", 1))
  return folder


def annotate(folder: pathlib.Path, number: int, value: object, **kinds: object) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  for kind, content in {"exp": value, "val": "0.5", "aro": -2, **kinds}.items():
    np.save(folder / f"{number}_{kind}.npy", np.asarray(content))
  np.save(folder / f"{number}_lnd.npy", np.zeros(136))


def npy_release(folder: pathlib.Path) -> pathlib.Path:
  """The npy release of March 2021, with a doubled train_set folder."""
  train = folder / "source" / "train_set" / "train_set"
  # Ids have gaps; labels are numbers or text, as scalars or arrays.
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
  (train / "annotations" / "._0_exp.npy").write_bytes(b"macOS resource fork")
  validation = folder / "source" / "val_set"
  annotate(validation / "annotations", 0, "6")
  draw(validation / "images" / "0.png", 500)
  return folder
