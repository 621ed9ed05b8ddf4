"""Report, labels and stored bytes of a built dataset, for the tests of builders."""

import io
import json
import pathlib

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jax_me.data.index import read_index
from jax_me.datasets.catalog import prepare

FORMATS = {".tif": "tiff", ".tiff": "tiff", ".png": "png", ".bmp": "bmp"}


def draw(path: pathlib.Path, seed: int, size: int = 40, mode: str = "RGB") -> bytes:
  """Writes an image without a face, different for every seed, in the format of the name."""
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
  data = io.BytesIO()
  image = Image.fromarray(pixels).resize((size, size)).convert(mode)
  image.save(data, FORMATS.get(path.suffix.lower(), "jpeg"))
  path.write_bytes(data.getvalue())
  return data.getvalue()


def build(name: str, folder: pathlib.Path, source: str = "source", **options):
  """Builds from folder/source into folder/built, in this process."""
  data_dir, manual_dir = str(folder / "built"), str(folder / source)
  return prepare(name, data_dir=data_dir, manual_dir=manual_dir, workers=0, **options)


def report(builder) -> list[dict]:
  path = pathlib.Path(builder.data_path) / "report.jsonl"
  return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def problems(builder) -> list[tuple[str, str]]:
  """(file, status) of all rows of the report that are not ok, sorted."""
  return sorted((row["file"], row["status"]) for row in report(builder) if row["status"] != "ok")


def details(builder) -> dict[str, str]:
  return {row["file"]: row["detail"] for row in report(builder) if "detail" in row}


def known(builder) -> dict[tuple[str, str], tuple[int, int, int]]:
  """(split, class) -> expected, found and stored."""
  summary = json.loads((pathlib.Path(builder.data_path) / "summary.json").read_text())
  return {
    (row["split"], row["class"]): (row["expected"], row["found"], row["stored"])
    for row in summary["known_counts"]
  }


def labels(builder, split: str = "train") -> dict[str, str]:
  """file -> label, in the order of storage."""
  index = read_index(builder, split)
  names = [index.label_names[label] for label in index.label]
  return dict(zip(index.file.tolist(), names, strict=True))


def stored(builder, split: str = "train") -> dict[str, bytes]:
  """file -> the bytes of its image."""
  source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
  return {example["file"].decode(): example["image"] for example in source}
