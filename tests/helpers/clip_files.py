"""Drawn clips and tables in the layouts of the micro-expression datasets."""

import functools
import io
import json
import pathlib

import numpy as np
import openpyxl
import tensorflow_datasets as tfds
from PIL import Image

from jax_me.data.index import read_index
from jax_me.datasets.catalog import prepare

FORMATS = {".jpg": "jpeg", ".png": "png", ".bmp": "bmp"}


@functools.lru_cache(maxsize=4096)
def encode_frame(number: int, size: tuple[int, int], suffix: str, grey: bool = False) -> bytes:
  """Encodes an image with a blob whose position depends on the number; size is (width, height)."""
  width, height = size
  y, x = np.mgrid[:height, :width]
  blob = np.exp(-((x - 2 - number % 20) ** 2 + (y - height / 2) ** 2) / 20)
  pixels = np.stack([60 + 150 * blob, 90 + 0 * blob, 200 - number % 97 + 0 * blob], -1)
  image = Image.fromarray(np.rint(pixels).astype(np.uint8))
  data = io.BytesIO()
  (image.convert("L") if grey else image).save(data, FORMATS[suffix])
  return data.getvalue()


def draw_clip(
  folder: pathlib.Path,
  numbers,
  name: str = "img{}.jpg",
  size: tuple[int, int] = (28, 34),
  grey: bool = False,
) -> None:
  """Writes one frame per number; `name` is formatted with it."""
  folder.mkdir(parents=True, exist_ok=True)
  for number in numbers:
    path = folder / name.format(number)
    path.write_bytes(encode_frame(number, size, path.suffix, grey))


def save_table(path: pathlib.Path, rows, sheet: str = "Sheet1") -> None:
  """Writes an .xlsx with these rows, the header included."""
  path.parent.mkdir(parents=True, exist_ok=True)
  book = openpyxl.Workbook()
  book.active.title = sheet
  for row in rows:
    book.active.append(list(row))
  book.save(path)


def build(name: str, folder: pathlib.Path, **options):
  """Builds the dataset of folder/source in folder/built; by default not aligned."""
  return prepare(
    name,
    data_dir=str(folder / "built"),
    manual_dir=str(folder / "source"),
    workers=options.pop("workers", 0),
    **{"align": False, **options},
  )


def report(builder) -> dict[str, dict]:
  """Returns the report rows by file."""
  path = pathlib.Path(builder.data_path) / "report.jsonl"
  rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
  assert len({row["file"] for row in rows}) == len(rows)
  return {row.pop("file"): row for row in rows}


def statuses(builder) -> dict[str, str]:
  """Returns the statuses in the report other than "ok"."""
  return {f: row["status"] for f, row in report(builder).items() if row["status"] != "ok"}


def labels(builder) -> dict[str, str]:
  """file -> label of every example."""
  index = read_index(builder, "train")
  names = [index.label_names[label] for label in index.label]
  return dict(zip(index.file.tolist(), names, strict=True))


def stored(builder) -> dict[str, bytes]:
  """file -> stored bytes of every example."""
  source = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
  return {example["file"].decode(): example["image"] for example in source}


def known_counts(builder) -> dict[str, tuple[int, int, int]]:
  """class -> (expected, found, stored) of the comparison with published counts."""
  summary = json.loads((pathlib.Path(builder.data_path) / "summary.json").read_text())
  rows = summary["known_counts"]
  assert all(row["split"] == "train" for row in rows)
  return {row["class"]: (row["expected"], row["found"], row["stored"]) for row in rows}
